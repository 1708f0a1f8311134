"""Nodes and workers started while Redis is away: they wait, unready, and say so; nobody is let in meanwhile."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from hub.app import create_app
from hub.auth.revocations import revoke_token
from ops.embedded_redis.probe import free_port
from support.asking import answer_at, until_status
from support.nodes import SECRET, data_folder, running_node, settings, token
from support.redis_server import RedisServer
from support.socket_client import raw_client
from support.until import until

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]


class Command:
    """A `hub` process with a port of its own."""

    def __init__(self, redis: RedisServer, *arguments: str) -> None:
        self.port = free_port()
        port_option = "--metrics-port" if arguments[0] == "worker" else "--port"
        env = os.environ | {"REDIS_URL": redis.url, "HUB_JWT_SECRET": SECRET, "HUB_DATA": data_folder()}
        command = [sys.executable, "-c", "from ops.cli import main; main()", *arguments, port_option, str(self.port)]
        self.process = subprocess.Popen(
            command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.url = f"http://127.0.0.1:{self.port}"

    def end(self) -> str:
        """Kill it; what stood on stderr."""
        self.process.kill()
        return self.process.communicate()[1]


@pytest.fixture
def away_redis(own_redis: RedisServer) -> Iterator[RedisServer]:
    """A Redis that is dead until it is restarted."""
    own_redis.kill()
    yield own_redis
    own_redis.restart()


async def test_a_node_waits_and_lets_nobody_in_until_it_knows_who_is_revoked(
    own_redis: RedisServer, tenant: str
) -> None:
    """Health is answered, readiness is 503 with the reason, sockets and calls are 503; afterwards a revoked token is refused."""
    async with running_node(own_redis.url) as other:
        await other.hub.edge.store.revoke(revoke_token(tenant, "j1", time.time()))
    own_redis.kill()
    node = Command(own_redis, "serve")
    try:
        async with asyncio.timeout(60):
            await until_status(node.url, "/healthz", 200)
        status, body = await asyncio.to_thread(answer_at, node.url, "/readyz")
        called = await asyncio.to_thread(answer_at, node.url, "/v1/channels/conversation:1/events")
        with pytest.raises(InvalidStatus) as refused:
            async with connect(node.url.replace("http", "ws") + "/ws"):
                pass
        own_redis.restart()
        async with asyncio.timeout(60):
            await until_status(node.url, "/readyz", 200)
        async with raw_client(node.url.replace("http", "ws") + "/ws") as mallory:
            told = await mallory.answer(
                "connection.init", {"token": token("mallory", tenant, jti="j1"), "versions": [1]}
            )
    finally:
        err = node.end()

    assert status == 503
    assert "Redis" in body
    assert called[0] == 503
    assert refused.value.response.status_code == 503
    assert told["payload"]["code"] == 4019
    assert err.count("waiting for Redis") >= 1


async def test_a_node_that_cannot_start_says_so(
    own_redis: RedisServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """If something other than Redis fails once Redis is there, readiness no longer says that the node waits for Redis."""
    folder = tmp_path / "schemas"
    folder.mkdir()
    own_redis.kill()

    def no_verifier(_settings: object, _edge: object) -> NoReturn:
        folder.rmdir()  # is read once, before Redis is tried
        raise RuntimeError("no verifier")

    app = create_app(settings(own_redis.url, event_schemas=str(folder)), verifier_of=no_verifier)
    async with app.router.lifespan_context(app):
        before = app.state.waits_for
        own_redis.restart()
        await until(lambda: app.state.waits_for != before)
        after = app.state.waits_for

    assert "waiting for Redis" in before
    assert after == "the node cannot start; its log has the reason"
    assert "RuntimeError: no verifier" in caplog.text


async def test_a_worker_waits_and_tells_it(away_redis: RedisServer) -> None:
    """Its readiness is 503 until Redis is there and it works."""
    worker = Command(away_redis, "worker")
    try:
        async with asyncio.timeout(60):
            await until_status(worker.url, "/readyz", 503)
        away_redis.restart()
        async with asyncio.timeout(60):
            await until_status(worker.url, "/readyz", 200)
        assert worker.process.stdout is not None
        banner = await asyncio.to_thread(worker.process.stdout.readline)
    finally:
        err = worker.end()

    assert "is up" in banner
    assert "waiting for Redis" in err


@pytest.mark.parametrize("command", ["serve", "worker"])
def test_who_does_not_wait_exits_with_1(away_redis: RedisServer, command: str) -> None:
    """`--no-wait`: one line, as before."""
    process = Command(away_redis, command, "--no-wait").process
    _, err = process.communicate(timeout=60)

    assert process.returncode == 1
    assert "could not be reached" in err
