"""`hub torture --url`: a deployment that runs already is used, watched and judged; no process of it is touched."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ops.children import Child, NodeProcess, hub
from support.nodes import SECRET
from support.redis_server import RedisServer

SECONDS = 15


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    server = RedisServer(is_persistent=True, fsync="always", on_port=True)
    yield server
    server.close()


@pytest.fixture
def node(redis: RedisServer, tmp_path: Path) -> Iterator[NodeProcess]:
    """A node as `hub serve` starts it, with the rate limits it has by default, and a worker that serves an agent."""
    agents = {"HUB_AGENTS": "asked=ops.torture.agent:run", "TORTURE_EFFECTS": str(tmp_path / "effects.jsonl")}
    started = NodeProcess(redis.url, SECRET, HUB_RATE_LIMITS="", HUB_DATA=str(tmp_path / "files"), **agents)
    started.start()
    worker = Child("the worker", hub("worker"), started.environment)
    yield started
    worker.kill()
    started.kill()


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.timeout(400)
async def test_a_deployment_is_whole_and_the_report_says_what_was_not_done(
    node: NodeProcess, redis: RedisServer, tmp_path: Path
) -> None:
    """Everything is asked for; what would need its processes, or breaks its Redis, is named as skipped."""
    await node.ready()
    report = tmp_path / "report.json"

    ended = await asyncio.to_thread(torture, node, redis, "--faults", "all", "--report", str(report))
    found = json.loads(report.read_text())

    assert (ended.returncode, ended.stdout) == (0, found_sentence(ended)), ended.stderr + ended.stdout
    assert "This run writes into" in ended.stderr
    assert "torture-7-a and torture-7-b" in ended.stderr
    assert set(found["fired"]) & {"client killed", "link cut", "chunk torn", "link slow"}
    assert found["skipped"]["node killed"] == "it needs control of the deployment's processes"
    assert found["skipped"]["redis full"] == "Redis is broken only with --redis-faults"
    assert found["verdict"]["looked"]["runs"] > 0
    assert found["verdict"]["looked"]["uploads"] > 0

    again = await asyncio.to_thread(torture, node, redis)

    assert again.returncode == 1
    assert "take another seed" in again.stderr


def found_sentence(ended: subprocess.CompletedProcess[str]) -> str:
    """The one line a whole run ends with."""
    (line,) = ended.stdout.splitlines()
    assert line.startswith("WHOLE: ")
    return ended.stdout


def torture(node: NodeProcess, redis: RedisServer, *options: str) -> subprocess.CompletedProcess[str]:
    """`hub torture` against them."""
    where = ("--url", node.url, "--redis", redis.url, "--agent", "asked")
    command = hub("torture", *where, "--seed", "7", "--seconds", str(SECONDS), *options)
    env = os.environ | {"HUB_JWT_SECRET": SECRET}
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_without_a_secret_nothing_begins() -> None:
    ended = subprocess.run(
        hub("torture", "--url", "http://127.0.0.1:1"),
        env={name: value for name, value in os.environ.items() if name not in {"HUB_JWT_SECRET", "REDIS_URL"}},
        capture_output=True,
        text=True,
        check=False,
    )

    assert ended.returncode == 2
    assert "HUB_JWT_SECRET" in ended.stderr
