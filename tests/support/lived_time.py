"""Measures time as the test's event loop experiences it, not counting periods in which a starved machine did not run it.

For promises such as "within a second" between parts that run in the test's own loop.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Final

BEAT_S: Final = 0.01


class LivedTime:
    """A clock: `passed_s` grows with every beat of the loop, at most by twice the beat's interval."""

    def __init__(self) -> None:
        self.passed_s = 0.0

    async def beat(self) -> None:
        """Count beats until cancelled."""
        loop = asyncio.get_running_loop()
        before_s = loop.time()
        while True:
            await asyncio.sleep(BEAT_S)
            now_s = loop.time()
            self.passed_s += min(now_s - before_s, 2 * BEAT_S)
            before_s = now_s


@contextlib.asynccontextmanager
async def lived_time() -> AsyncIterator[LivedTime]:
    """Count time for the duration of the block."""
    found = LivedTime()
    beating = asyncio.create_task(found.beat())
    try:
        yield found
    finally:
        beating.cancel()
