"""Blocking calls beside the event loop, in a pool of their own, so that a slow store delays nothing but itself."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


class Threads:
    """A bounded pool. The pool's size is the limit: what comes beyond it waits in order of arrival."""

    def __init__(self, name: str, size: int) -> None:
        self._pool = ThreadPoolExecutor(size, thread_name_prefix=name)

    async def run(self, call: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run a blocking call. Cancelled while it runs, the call still ends in its thread; its result is dropped."""
        work: partial[Any] = partial(call, *args, **kwargs)
        result: R = await asyncio.get_running_loop().run_in_executor(self._pool, work)
        return result

    async def close(self) -> None:
        """Wait for the calls under way; drop those that have not begun."""
        await asyncio.to_thread(self._pool.shutdown, wait=True, cancel_futures=True)
