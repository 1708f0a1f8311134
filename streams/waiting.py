"""Waiting for a Redis that is away when a process starts."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Final, TypeVar

from streams.errors import ConfigurationRefused, LogUnavailable

AGAIN_S: Final = 0.5
TELL_EVERY_S: Final = 10.0
"""Between two lines of the log about the same wait."""

T = TypeVar("T")
_log: Final = logging.getLogger(__name__)


async def until_reachable(attempt: Callable[[], Awaitable[T]], *, is_refusal_final: bool = True) -> T:
    """Repeat what needs Redis until it is done, with a line at once and every 10 s.

    Args:
        attempt: leaves nothing behind when it fails.
        is_refusal_final: raise when Redis is set up in a way that cannot be used; else wait for somebody to mend it.

    Raises:
        ConfigurationRefused: see `is_refusal_final`.
    """
    told_at = -TELL_EVERY_S
    while True:
        try:
            return await attempt()
        except (LogUnavailable, ConfigurationRefused) as error:
            if is_refusal_final and isinstance(error, ConfigurationRefused):
                raise
            if monotonic() - told_at >= TELL_EVERY_S:
                told_at = monotonic()
                _log.warning("not ready, waiting for Redis: %s", error)
        await asyncio.sleep(AGAIN_S * random.uniform(0.5, 1.0))  # processes must not try in step
