"""The worker's way to the log for deltas: never waits, never holds more than its bound."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from streams.envelope import Draft
from streams.redis.append import Done
from streams.redis.append_call import Result
from streams.redis.log import Log

IN_FLIGHT_MAX: Final = 256
"""Deltas on their way at once. When it is reached, text is joined longer instead of queued (NOTES 3)."""


class Writer:
    """Submits deltas of all runs of a worker to the appender, whose batches are the queue."""

    def __init__(self, log: Log, in_flight_max: int = IN_FLIGHT_MAX) -> None:
        self._log = log
        self._room = in_flight_max
        self._waiting: dict[object, Callable[[], None]] = {}

    @property
    def has_room(self) -> bool:
        """Whether a delta may be submitted now."""
        return self._room > 0

    def when_room(self, who: object, wake: Callable[[], None]) -> None:
        """Call `wake` once when there is room; the one who waits longest comes first."""
        self._waiting.setdefault(who, wake)

    def submit(self, draft: Draft, done: Done) -> None:
        """Send; `done` gets the answer. Only when `has_room`."""
        self._room -= 1

        def settled(result: Result) -> None:
            self._room += 1
            done(result)
            while self._waiting and self._room > 0:  # one that is woken may have nothing to send any more
                self._waiting.pop(next(iter(self._waiting)))()

        self._log.submit(draft, settled)
