"""Turns that tenants share: a few at a time, round robin between the tenants that wait, first come first served within one.

A tenant that asks for a hundred at once waits for itself; another's first request is served after one turn at most of each tenant.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from hub.errors import HubError

RETRY_AFTER_MS: Final = 5_000


class FairTurns:
    """Grants turns.

    Args:
        at_once: maximum turns at a time.
        of_one: maximum turns of one tenant at a time.
        waiting_of_one: maximum requests of one tenant that wait; beyond it they are refused.

    Attributes:
        waiting_count: requests that wait, of all tenants.
    """

    def __init__(self, at_once: int, of_one: int, waiting_of_one: int) -> None:
        self._at_once, self._of_one, self._waiting_of_one = at_once, of_one, waiting_of_one
        self._running = Counter[str]()
        self._waiting: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()

    @property
    def waiting_count(self) -> int:
        """Requests that wait, of all tenants."""
        return sum(not one.cancelled() for queue in self._waiting.values() for one in queue)

    @asynccontextmanager
    async def turn(self, tenant: str) -> AsyncIterator[None]:
        """Waits for a turn, which is over at the end of the block.

        Raises:
            HubError: 4010: too many requests of this tenant are waiting already.
        """
        if self._is_free(tenant):
            self._running[tenant] += 1
        else:
            await self._wait(tenant)
        try:
            yield
        finally:
            self._release(tenant)

    def _is_free(self, tenant: str) -> bool:
        return self._running.total() < self._at_once and self._running[tenant] < self._of_one

    async def _wait(self, tenant: str) -> None:
        queue = self._waiting.setdefault(tenant, deque())
        if sum(not one.cancelled() for one in queue) >= self._waiting_of_one:
            told = "too many requests of this kind are waiting in your tenant; retry when some of them are answered"
            raise HubError(4010, told, retry_after_ms=RETRY_AFTER_MS)
        granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        queue.append(granted)
        try:
            await granted
        except asyncio.CancelledError:
            if not granted.cancelled():  # granted in the same tick
                self._release(tenant)
            raise

    def _release(self, tenant: str) -> None:
        self._running[tenant] -= 1
        if not self._running[tenant]:
            del self._running[tenant]
        for waiting, queue in list(self._waiting.items()):
            if not self._is_free(waiting):
                continue
            while queue and (granted := queue.popleft()).cancelled():
                pass
            if not granted.cancelled():
                self._running[waiting] += 1
                granted.set_result(None)
            self._waiting.move_to_end(waiting)
            if not queue:
                del self._waiting[waiting]
