"""Replaces a node's clocks, so that a test can stop them or move them forward; limits, deadlines and token expiry use them."""

from __future__ import annotations

import time

from support.nodes import Node


class NodeClock:
    """Stops the node's clocks when created. Timers of the event loop still run: the node's next check finds an expired deadline."""

    def __init__(self, node: Node) -> None:
        self._monotonic_s, self._unix_s = time.monotonic(), time.time()
        hub = node.hub
        hub.clock.monotonic, hub.clock.now = self._monotonic, self._now
        hub.admission._monotonic = hub.edge.store._monotonic = hub.edge.store.claims._monotonic = self._monotonic

    def pass_s(self, seconds: float) -> None:
        """Advance the clocks by this many seconds."""
        self._monotonic_s += seconds
        self._unix_s += seconds

    def _monotonic(self) -> float:
        return self._monotonic_s

    def _now(self) -> float:
        return self._unix_s
