"""Waits for conditions in the test's event loop that no event announces."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


async def until(is_so: Callable[[], bool], timeout_s: float = 100.0) -> None:
    """Let the loop run until `is_so` returns true."""
    async with asyncio.timeout(timeout_s):
        while not is_so():  # noqa: ASYNC110 - what is waited for tells nobody
            await asyncio.sleep(0)
