"""Appends a long sequence of drafts exactly once and in order, many at a time, continuing where an earlier run stopped.

Each append has the number of the previous one as its condition, which the append script checks. So no failure can cause a hole,
and the first append of a second run reveals how far the first run came, however long ago it was.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from streams.envelope import Appended, Draft, Guard
from streams.errors import GuardRefused, LogUnavailable, StreamsError

IN_FLIGHT_MAX: Final = 500
"""Maximum number of unconfirmed drafts. Fewer would leave the log idle between batches; more would only wait."""
RETRY_AFTER_S: Final = 0.2
_FIELD: Final = "done"


class Appends(Protocol):
    """The part of the log that an import uses."""

    def submit(self, draft: Draft, done: Callable[[Appended | StreamsError], None]) -> None:
        """As `streams.redis.log.Log.submit`."""


class Import:
    """An import. `name` identifies the source within the channel.

    Attributes:
        added: number of events that this run stored.
        done: number of drafts known to be in the log; it decreases if the log lost some (failover, restored backup).
    """

    def __init__(self, log: Appends, drafts: Sequence[Draft], name: str) -> None:
        self._log = log
        self._drafts = drafts
        self._name = name
        self._next = 0
        self._in_flight = 0
        self._failure: StreamsError | None = None
        self._moved = asyncio.Event()
        self.added = 0
        self.done = 0

    async def run(
        self, due: Callable[[int], float] | None = None, on_progress: Callable[[int], None] = lambda _: None
    ) -> None:
        """Append all drafts.

        Args:
            due: returns the event loop's time at which draft number n may be sent; None sends all at once.
            on_progress: called with `done` from time to time.

        Raises:
            StreamsError: an append was refused for a reason that a retry does not fix.
        """
        while self.done < len(self._drafts):
            wait_s = self._submit_due(due)
            await self._wait_for_result(wait_s)
            if self._failure is not None:
                await self._recover()
            on_progress(self.done)

    def _submit_due(self, due: Callable[[int], float] | None) -> float | None:
        """Seconds until the next draft is due; None if more can be sent only after a result."""
        now = asyncio.get_running_loop().time()
        while self._failure is None and self._next < len(self._drafts) and self._in_flight < IN_FLIGHT_MAX:
            if due is not None and due(self._next) > now:
                return due(self._next) - now
            self._submit(self._next)
            self._next += 1
        return None

    def _submit(self, number: int) -> None:
        self._in_flight += 1
        self._log.submit(self._guarded(number), lambda result: self._take(number, result))

    def _guarded(self, number: int) -> Draft:
        before = str(number) if number else ""
        chain = Guard(self._name, checks=((_FIELD, "eq", before),), sets=((_FIELD, str(number + 1)),))
        return dataclasses.replace(self._drafts[number], guards=(chain,))

    def _take(self, number: int, result: Appended | StreamsError) -> None:
        """Take a result. Results arrive in the order of submission, so the newest one shows the log's position."""
        self._in_flight -= 1
        self._moved.set()
        if isinstance(result, Appended):
            self.done = number + 1
            self.added += not result.is_duplicate
            return
        self._failure = self._failure or result
        if isinstance(result, GuardRefused):
            self.done = int(result.present or 0)

    async def _wait_for_result(self, wait_s: float | None) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await self._moved.wait()
        self._moved.clear()

    async def _recover(self) -> None:
        """Wait for the results in flight, then continue from the position that the log reports."""
        while self._in_flight:
            await self._moved.wait()
            self._moved.clear()
        failure, self._failure = self._failure, None
        if isinstance(failure, LogUnavailable):
            await asyncio.sleep(RETRY_AFTER_S)
        elif failure is not None and not isinstance(failure, GuardRefused):
            raise failure
        self._next = self.done
