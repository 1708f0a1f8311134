"""A timeout that counts the time in which this process ran, not the time on the clock.

A process stands still when its host has no processor for it, when a virtual machine is moved, when a debugger holds it. Redis may
have answered long ago: what a clock alone would call a dead connection is then read in the next turn of the event loop.
"""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Final, Self

PARTS: Final = 4
"""Parts in which the time is counted, one after another. Standing still costs one of them, however long it takes."""


class lived_timeout:  # noqa: N801  # used as `asyncio.timeout` is
    """Ends the block with `TimeoutError` after `timeout_s`, like `asyncio.timeout`, but only if the event loop ran meanwhile."""

    def __init__(self, timeout_s: float) -> None:
        self._part_s = timeout_s / PARTS
        self._left = PARTS
        self._timeout = asyncio.timeout(None)
        self._timer: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> Self:
        await self._timeout.__aenter__()
        self._next()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()
        await self._timeout.__aexit__(kind, error, trace)

    def _next(self) -> None:
        loop = asyncio.get_running_loop()
        if self._left:
            self._left -= 1
            self._timer = loop.call_later(self._part_s, self._next)
        else:
            self._timeout.reschedule(loop.time())
