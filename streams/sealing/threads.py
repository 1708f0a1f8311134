"""Threads in which a process calls the store of keys.

A call to a file system that is away may never return. So they are daemon threads, which do not keep the process from ending, and
only so many calls wait for one that is free.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from queue import Empty, Full, Queue
from threading import Thread
from typing import Any, Final, TypeVar

THREADS: Final = 2
WAITING_MAX: Final = 1_000
"""Maximum number of calls that wait for a thread."""
_NAME: Final = "subject-keys"

T = TypeVar("T")


class StoreThreads:
    """Runs calls in `THREADS` threads, which begin with the first call."""

    def __init__(self) -> None:
        self._waiting: Queue[tuple[Future[Any], Callable[[], Any]] | None] = Queue(WAITING_MAX)
        self._threads: list[Thread] = []

    def submit(self, call: Callable[[], T]) -> Future[T]:
        """Run a call in a thread.

        Raises:
            OSError: too many calls wait.
        """
        future: Future[T] = Future()
        try:
            self._waiting.put_nowait((future, call))
        except Full:
            raise OSError("too many calls wait for it") from None
        while len(self._threads) < THREADS:
            self._threads.append(Thread(target=self._run, name=f"{_NAME}-{len(self._threads)}", daemon=True))
            self._threads[-1].start()
        return future

    def close(self) -> None:
        """Cancel the calls that wait, and let the threads end once those that have begun return."""
        with suppress(Empty):
            while True:
                if (waiting := self._waiting.get_nowait()) is not None:
                    waiting[0].cancel()
        for _ in self._threads:
            self._waiting.put_nowait(None)

    def _run(self) -> None:
        while (given := self._waiting.get()) is not None:
            future, call = given
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(call())
            except BaseException as error:  # whoever waits for the call gets it
                future.set_exception(error)
            del given, future, call  # a key must not stay in memory until the next call
