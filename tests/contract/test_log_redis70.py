"""The log keeps its contract on Redis 7.0, as Debian ships it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from contract.log_cases import LogCases
from streams.redis.log import Log
from streams.redis.server_binary import binary_version
from support.redis_server import RedisServer

BINARY = Path("/usr/bin/redis-server")
VERSION = (7, 0)


def server_of() -> RedisServer:
    if not BINARY.exists() or binary_version(BINARY)[:2] != VERSION:
        pytest.skip(f"no Redis {VERSION[0]}.{VERSION[1]} at {BINARY}")
    return RedisServer(binary=BINARY)


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    server = server_of()
    yield server
    server.close()


@pytest.fixture
def own_server() -> Iterator[RedisServer]:
    server = server_of()
    yield server
    server.close()


@pytest.fixture
async def log(server: RedisServer) -> AsyncIterator[Log]:
    log = await Log.open(server.url)
    yield log
    await log.close()


class TestLogOnRedis70(LogCases):
    """See the cases."""
