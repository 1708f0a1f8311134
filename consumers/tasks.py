"""Ends asyncio tasks reliably.

A cancellation can be lost: when a timeout fires in the same turn of the event loop, or a client library turns it into a
connection error. So a task that does not end is cancelled again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Iterable
from typing import Any, Final, cast

AGAIN_S: Final = 0.5
ROUNDS_MAX: Final = 20
CANCEL_WAIT_S: Final = 2.0
"""Time, in seconds, in which a cancelled agent or tool must end before its coroutine is closed."""
_log = logging.getLogger(__name__)


async def end_tasks(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel the tasks and wait until they have ended, with whatever result."""
    left = {task for task in tasks if not task.done()}
    for _ in range(ROUNDS_MAX):
        if not left:
            return
        for task in left:
            task.cancel()
        done, left = await asyncio.wait(left, timeout=AGAIN_S)
        for task in done:
            if not task.cancelled() and (error := task.exception()) is not None:
                _log.debug("%s ended with %r", task.get_name(), error)
    _log.error("tasks do not end: %s", ", ".join(sorted(task.get_name() for task in left)))


async def end_or_close(tasks: Iterable[asyncio.Task[Any]], within_s: float) -> None:
    """Cancel tasks that run external code, and close those that do not end. Their exceptions are discarded."""
    left = set(tasks)
    for task in left:
        task.cancel()
        task.add_done_callback(_retrieve_exception)
    if left:
        _, left = await asyncio.wait(left, timeout=within_s)
    for task in left:
        close_coroutine(task)


def close_coroutine(task: asyncio.Task[Any]) -> None:
    """End a task that ignores its cancellation by closing its coroutine.

    Otherwise the process could not end, because the event loop is not closed before its last task.
    """
    _log.error("%s ignores its cancellation; its coroutine is closed", task.get_name())
    task.add_done_callback(_retrieve_exception)
    try:
        cast("Coroutine[Any, Any, Any]", task.get_coro()).close()
    except (RuntimeError, ValueError) as error:  # it ignored this as well, or is running
        _log.error("%s cannot be closed: %s", task.get_name(), error)
    task.cancel()


def _retrieve_exception(task: asyncio.Task[Any]) -> None:
    """Retrieves the exception, so that asyncio does not log it as lost."""
    if not task.cancelled():
        task.exception()
