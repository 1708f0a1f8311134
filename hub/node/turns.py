"""Turns: a few at a time do what many want at once, in the order in which they came.

A node that thousands of sockets come back to would otherwise work on all of them between two looks at its live traffic. A turn is
short: one round of questions for a subscription, or one page of a replay. Nobody keeps one while a socket drains.
"""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Final

from hub.errors import HubError

AT_ONCE: Final = 16
"""Turns under way: some 16 ms of the loop between two looks at everything else, and enough that Redis is never waited for."""
WAITING_MAX: Final = 50_000
"""Turns waited for, about 1 KB each. Beyond it the node is full."""
RETRY_AFTER_MS: Final = 5_000


class Turns:
    """Hands out turns.

    Args:
        at_once: the most under way.
        waiting_max: the most waited for.

    Attributes:
        waiting_count: turns waited for now.
    """

    def __init__(self, at_once: int = AT_ONCE, waiting_max: int = WAITING_MAX) -> None:
        self._free = asyncio.Semaphore(at_once)
        self._waiting_max = waiting_max
        self.waiting_count = 0

    async def __aenter__(self) -> None:
        """Wait for a turn.

        Raises:
            HubError: 4010, too many wait already.
        """
        if self.waiting_count >= self._waiting_max:
            raise HubError(4010, "this node is busy with reconnecting clients", retry_after_ms=RETRY_AFTER_MS)
        self.waiting_count += 1
        try:
            await self._free.acquire()
        finally:
            self.waiting_count -= 1

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the turn."""
        self._free.release()
