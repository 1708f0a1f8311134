"""What may stop a segment from outside: a person, a newer holder, the worker's own end. Pure but for the event loop."""

from __future__ import annotations

import asyncio
from enum import Enum


class Stop(Enum):
    """Why a segment stops before its agent is done; a later one in this order overrides an earlier one."""

    CANCEL = 1
    CANCEL_NOW = 2
    HAND_OVER = 3
    FENCED = 4


class Fenced(Exception):
    """The run has another holder: this worker must not append for it any more."""


class Control:
    """One segment's switch. Anyone may throw it; the segment looks at it after every item and waits on it."""

    def __init__(self) -> None:
        self.stop: Stop | None = None
        self._changed = asyncio.Event()
        self.cancelled = asyncio.Event()
        """Set when somebody asked to stop: an agent may watch it and come to a good end."""
        self.steers = 0
        """Words people have sent to the run so far."""

    def throw(self, stop: Stop) -> None:
        """Ask the segment to stop."""
        if self.stop is None or stop.value > self.stop.value:
            self.stop = stop
            self._changed.set()
        if stop in {Stop.CANCEL, Stop.CANCEL_NOW}:
            self.cancelled.set()

    async def changed(self) -> Stop:
        """Wait for the next throw that matters; returns the reason that holds now."""
        await self._changed.wait()
        self._changed.clear()
        if self.stop is None:
            raise AssertionError("set only by throw")
        return self.stop
