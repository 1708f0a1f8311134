"""The servers that a log is held to its contract on: a module names its own by `SERVER`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from streams.redis.log import Log
from support.redis_server import RedisServer, server_binary


def _server_of(request: pytest.FixtureRequest) -> RedisServer:
    binary = server_binary(request.module.SERVER)
    if binary is None:
        pytest.skip(f"no server {request.module.SERVER} here")
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
