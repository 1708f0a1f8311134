"""The log keeps its contract on a Cluster of three primaries."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from contract.log_cases import LogCases
from streams.redis.log import Log
from support.redis_cluster import RedisCluster
from support.redis_server import server_binary


@pytest.fixture(scope="module")
def server() -> Iterator[RedisCluster]:
    """The module's cluster."""
    binary = server_binary("valkey") or server_binary("7")
    if binary is None:
        pytest.skip("no server 7.0 or newer here")
    cluster = RedisCluster(binary)
    yield cluster
    cluster.close()


@pytest.fixture
def own_server(server: RedisCluster) -> Iterator[RedisCluster]:
    """The same without data, and with its first settings again afterwards."""
    server.reset()
    yield server
    server.reset()


@pytest.fixture
async def log(server: RedisCluster) -> AsyncIterator[Log]:
    """The log there."""
    log = await Log.open(server.url)
    yield log
    await log.close()


class TestLogOnCluster(LogCases):
    """See the cases."""
