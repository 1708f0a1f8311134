"""Ending tasks for certain.

A cancellation can be lost: where it meets a timeout that fires in the same turn, or a client library that turns it into a
connection error. So a task that goes on is cancelled again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from typing import Any, Final

AGAIN_S: Final = 0.5
ROUNDS_MAX: Final = 20
_log = logging.getLogger(__name__)


async def end_tasks(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel the tasks and wait until they are over, whatever they come to."""
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
