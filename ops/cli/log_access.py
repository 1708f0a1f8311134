"""Access to the log for commands that read it directly: on the given Redis, or on the data of the embedded one."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from hub.config import Settings
from ops.embedded_redis.server import EmbeddedRedis
from streams.redis.calls import Calls
from streams.redis.keys import Keys
from streams.redis.log import Log
from streams.redis.server_check import kept_keys


@contextlib.contextmanager
def redis_at(url: str, data: Path) -> Iterator[str]:
    """The URL to read from: `url`, or the embedded Redis of `data`, started for the duration if it is not running."""
    if url:
        yield url
        return
    with EmbeddedRedis(data) as embedded:
        yield embedded.url


@contextlib.asynccontextmanager
async def log_at(url: str, data: Path) -> AsyncIterator[Log]:
    """The log on that Redis, with as many partitions as it was created with, whatever this environment says."""
    settings = Settings.from_env(os.environ)
    with redis_at(url, data) as address:
        keys = await keys_at(address)
        log = await Log.open(address, partitions=keys.partitions if keys else settings.partitions)
        try:
            yield log
        finally:
            await log.close()


async def keys_at(url: str) -> Keys | None:
    """The keys of the log there, with the partitions it was created with; None when there is no log yet."""
    calls = Calls.at(url, "hub-cli")
    try:
        return await kept_keys(calls)
    finally:
        calls.close()
