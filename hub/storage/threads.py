"""Runs blocking calls in a separate thread pool, so that a slow store delays nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


class Threads:
    """A bounded pool. Calls beyond its size wait in order of arrival."""

    def __init__(self, name: str, size: int) -> None:
        self._pool = ThreadPoolExecutor(size, thread_name_prefix=name)

    async def run(self, call: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Runs a blocking call. If cancelled while it runs, the call finishes in its thread and its result is dropped."""
        work: partial[Any] = partial(call, *args, **kwargs)
        result: R = await asyncio.get_running_loop().run_in_executor(self._pool, work)
        return result

    async def close(self) -> None:
        """Waits for the calls in progress; drops those that have not started."""
        await asyncio.to_thread(self._pool.shutdown, wait=True, cancel_futures=True)
