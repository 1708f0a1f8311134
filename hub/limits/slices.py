"""Slices: long work in small parts, one part in each iteration of the event loop, so that live messages go in between.

A page of a replay, a part of a fold, or the subscriptions of a handshake take the loop up to a millisecond each. Without
slices all of them that are ready run in one iteration, and a message that arrives meanwhile waits for their sum. While a node
serves nobody, they do: what is done together costs less, since it shares its calls to Redis.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from functools import partial
from time import monotonic
from typing import Final, NamedTuple

from streams.redis.replay import PAGE_BYTES, PAGE_EVENTS

SHORT_PAGE_EVENTS: Final = 100
"""Maximum events of a page while others are served: about half a millisecond of Redis and as much of the loop. Fewer would cost
more for each event (a call costs as much as 25 events), and a client that comes back has often missed a hundred."""
SHORT_PAGE_BYTES: Final = 65_536
"""The same limit in bytes."""
SERVING_S: Final = 0.1
"""Seconds without an append and without a read of new events after which a node serves nobody: nothing waits, pages are long."""
FOLD_EVENTS: Final = 32
"""Events folded in one slice: a quarter of a millisecond."""


class PageSize(NamedTuple):
    """The maximum events of one page, and their maximum bytes."""

    events: int
    size_bytes: int


_LONG: Final = PageSize(PAGE_EVENTS, PAGE_BYTES)
_SHORT: Final = PageSize(SHORT_PAGE_EVENTS, SHORT_PAGE_BYTES)


class Slices:
    """Grants slices, first come first served.

    Args:
        activity: a count that grows whenever the node serves live messages; without it, it always does.
        clock: monotonic seconds.

    Attributes:
        granted_count: slices granted so far.
    """

    def __init__(self, activity: Callable[[], int] | None = None, clock: Callable[[], float] = monotonic) -> None:
        self._activity, self._clock = activity, clock
        self._seen_activity = -1
        self._serves_until_s = 0.0
        self._waiting: deque[Callable[[], object]] = deque()
        self._is_taken = self._has_granted = False
        self.granted_count = 0

    @property
    def is_free(self) -> bool:
        """True if `run` does its work at once."""
        return not self._is_taken or not self._serves()

    @property
    def waiting_count(self) -> int:
        """Parts of work that wait for a slice."""
        return len(self._waiting)

    async def turn(self) -> None:
        """Waits for a slice. It lasts until the caller's next `await`."""
        if not self._is_taken or not self._serves():
            self._take()
            return
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(partial(_wake, waiter))
        await waiter

    def run(self, work: Callable[[], object]) -> None:
        """Does a part of work, at once if this iteration of the loop has had no slice yet."""
        if self._is_taken and self._serves():
            self._waiting.append(partial(asyncio.get_running_loop().call_soon, work))
            return
        self._take()
        work()

    def page(self) -> PageSize:
        """Returns the size of the next page to read: short while others are served, since it holds up Redis and the loop."""
        return _SHORT if self._serves() else _LONG

    def _serves(self) -> bool:
        """True while the node serves live messages, and shortly after."""
        if self._activity is None:
            return True
        now, activity = self._clock(), self._activity()
        if activity != self._seen_activity:
            self._seen_activity, self._serves_until_s = activity, now + SERVING_S
        return now < self._serves_until_s

    def _take(self) -> None:
        self.granted_count += 1
        if not self._is_taken:
            self._is_taken = True
            asyncio.get_running_loop().call_soon(self._grant)

    def _grant(self) -> None:
        """Grants the next slice, for the next iteration of the loop."""
        if self._grant_next():
            self.granted_count += 1
            self._has_granted = True
        elif self._has_granted:  # this iteration is the one of the last slice
            self._has_granted = False
        else:
            self._is_taken = False
            return
        asyncio.get_running_loop().call_soon(self._grant)

    def _grant_next(self) -> bool:
        """Grants a slice to the first who still waits: thousands may have gone, and would hold up those behind them."""
        while self._waiting:
            if self._waiting.popleft()() is not False:
                return True
        return False


def _wake(waiter: asyncio.Future[None]) -> bool:
    """Returns False if its task was cancelled."""
    if waiter.done():
        return False
    waiter.set_result(None)
    return True
