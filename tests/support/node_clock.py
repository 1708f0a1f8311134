"""A node's clocks in a test's hands: limits, deadlines and the ends of tokens see them stand still, or jump."""

from __future__ import annotations

import time

from support.nodes import Node


class NodeClock:
    """Stands still from the moment it is made. Timers of the loop go on: a deadline is found by the node's next look."""

    def __init__(self, node: Node) -> None:
        self._monotonic_s, self._unix_s = time.monotonic(), time.time()
        hub = node.hub
        hub.clock.monotonic, hub.clock.now = self._monotonic, self._now
        hub.admission._monotonic = hub.edge.store._monotonic = hub.edge.store.claims._monotonic = self._monotonic

    def pass_s(self, seconds: float) -> None:
        """So much later."""
        self._monotonic_s += seconds
        self._unix_s += seconds

    def _monotonic(self) -> float:
        return self._monotonic_s

    def _now(self) -> float:
        return self._unix_s
