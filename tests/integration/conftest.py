"""Shared by these tests: a node, somebody who asks agents, a Redis and a data folder for one file."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from streams.redis.log import Log
from support.archive_rig import SIGNER
from support.nodes import Node, running_node
from support.redis_server import RedisServer
from support.run_rig import Client, check_rules, conversation


@pytest.fixture(scope="module")
def module_redis() -> Iterator[RedisServer]:
    """A Redis of one file alone: who serves which agent is known to all tenants of a server."""
    server = RedisServer()
    yield server
    server.close()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data folder of one file's server, with the key that signs checkpoints."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "audit.key").write_text(str(SIGNER))
    return folder


@pytest.fixture
async def node(redis_url: str) -> AsyncIterator[Node]:
    """A node in this loop, on the test's Redis."""
    async with running_node(redis_url) as node:
        yield node


@pytest.fixture
async def client(log: Log, tenant: str) -> AsyncIterator[Client]:
    """Somebody who asks agents, in a conversation of this test, which in the end is held against the rules of streams."""
    client = Client(log, conversation(tenant))
    yield client
    check_rules(await client.events())
