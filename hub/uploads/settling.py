"""What a worker needs to end uploads, put together: a log and a store of its own, and a reaper that runs beside it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from hub.config import Settings
from hub.storage.choice import open_store
from hub.storage.store import StoreError
from hub.uploads.scanner import NoScanner, Scanner
from hub.uploads.settings_limits import limits_of
from hub.uploads.settlement import Settlement
from streams.errors import StreamsError
from streams.redis.log import Log

REAP_EVERY_S: Final = 10.0
"""An abandoned upload ends so much after its time at the latest."""
_log = logging.getLogger(__name__)


@asynccontextmanager
async def open_settlement(settings: Settings, scanner: Scanner | None = None) -> AsyncIterator[Settlement]:
    """A worker's settlement on its own connection, with the reaper running.

    Raises:
        LogUnavailable, ConfigurationRefused: as `Log.open`.
    """
    if settings.redis_url is None:
        raise ValueError("a worker needs REDIS_URL; `hub dev` starts a Redis of its own")
    log = await Log.open(settings.redis_url, partitions=settings.partitions, durability=settings.durability)
    store = open_store(settings)
    settlement = Settlement(log, store, limits_of(settings), scanner or NoScanner(), time.time)
    reaper = asyncio.create_task(reap_always(settlement), name="upload-reaper")
    try:
        yield settlement
    finally:
        reaper.cancel()
        await asyncio.gather(reaper, return_exceptions=True)
        await store.close()
        await log.close()


async def reap_always(settlement: Settlement) -> None:
    """Reap until cancelled. What cannot be ended now, because Redis or the store is away, is due the next time too."""
    while True:
        try:
            await settlement.reap()
        except (StreamsError, StoreError) as error:
            _log.warning("uploads could not be reaped: %s", error)
        await asyncio.sleep(REAP_EVERY_S)
