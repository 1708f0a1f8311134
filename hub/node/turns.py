"""Turns: a semaphore with a bounded queue, so that a few subscriptions and replays proceed at a time, first come first served.

Without it a node to which thousands of sockets reconnect would serve all of them before its live traffic. A turn is
short: one round of reads for a subscription, or one page of a replay. It is never held while a socket drains.
"""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Final

from hub.errors import HubError

AT_ONCE: Final = 16
"""Turns at a time: enough to keep Redis busy. Their share of the event loop is bounded by `hub.limits.slices`."""
WAITING_MAX: Final = 50_000
"""Maximum waiters for a turn, about 1 KB each; beyond it the node refuses."""
RETRY_AFTER_MS: Final = 5_000


class Turns:
    """Grants turns.

    Args:
        at_once: maximum turns at a time.
        waiting_max: maximum waiters for a turn.

    Attributes:
        waiting_count: current waiters for a turn.
    """

    def __init__(self, at_once: int = AT_ONCE, waiting_max: int = WAITING_MAX) -> None:
        self._free = asyncio.Semaphore(at_once)
        self._waiting_max = waiting_max
        self.waiting_count = 0

    async def __aenter__(self) -> None:
        """Waits for a turn.

        Raises:
            HubError: 4010: too many are waiting already.
        """
        if self.waiting_count >= self._waiting_max:
            raise HubError(
                4010, "this node is busy with other requests of this kind; retry later", retry_after_ms=RETRY_AFTER_MS
            )
        self.waiting_count += 1
        try:
            await self._free.acquire()
        finally:
            self.waiting_count -= 1

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Ends the turn."""
        self._free.release()
