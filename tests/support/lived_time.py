"""Time as this loop lived it: what a starved machine takes away from everybody in it does not count.

For promises such as "within a second" between parts that run in the test's own loop.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Final

BEAT_S: Final = 0.01


class LivedTime:
    """`passed_s` grows with every beat of the loop, by twice its length at most."""

    def __init__(self) -> None:
        self.passed_s = 0.0

    async def beat(self) -> None:
        """Count, for ever."""
        loop = asyncio.get_running_loop()
        before_s = loop.time()
        while True:
            await asyncio.sleep(BEAT_S)
            now_s = loop.time()
            self.passed_s += min(now_s - before_s, 2 * BEAT_S)
            before_s = now_s


@contextlib.asynccontextmanager
async def lived_time() -> AsyncIterator[LivedTime]:
    """Counts from here to the end of the block."""
    found = LivedTime()
    beating = asyncio.create_task(found.beat())
    try:
        yield found
    finally:
        beating.cancel()
