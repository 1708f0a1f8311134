"""The servers that a log is held to its contract on: a module names its own by `BINARY` and `VERSION`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from ops.embedded_redis.server import binary_version
from streams.redis.log import Log
from support.redis_server import RedisServer


def _server_of(request: pytest.FixtureRequest) -> RedisServer:
    binary, version = request.module.BINARY, request.module.VERSION
    if not binary.exists() or binary_version(binary)[:2] != version:
        pytest.skip(f"no Redis {version[0]}.{version[1]} at {binary}")
    return RedisServer(binary=binary)


@pytest.fixture(scope="module")
def server(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    """The module's server."""
    server = _server_of(request)
    yield server
    server.close()


@pytest.fixture
def own_server(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    """One of this test alone, to be killed."""
    server = _server_of(request)
    yield server
    server.close()


@pytest.fixture
async def log(server: RedisServer) -> AsyncIterator[Log]:
    """The log there."""
    log = await Log.open(server.url)
    yield log
    await log.close()
