"""Agents that block their worker's loop: the run goes on below the limit, and is taken over with its true reason beyond it."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from streams.redis.log import Log
from support.blocking_agent import begun, start_blocking_worker
from support.redis_server import RedisServer
from support.run_rig import Client, check_rules, conversation
from support.until import until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
LEASE_MS = 600


@pytest.fixture
def redis_url(lone_redis: RedisServer) -> str:
    """A Redis of this test alone: no other test's workers take its jobs."""
    return lone_redis.url


@contextlib.contextmanager
def two_workers(url: str, gate: Path, stall_max_s: float) -> Iterator[list[str]]:
    """Both run inside the block; what they logged is in the list afterwards."""
    logs: list[str] = []
    workers: list[subprocess.Popen[str]] = []
    gate.touch()
    try:
        workers += [start_blocking_worker(url, gate, stall_max_s) for _ in range(2)]
        yield logs
    finally:
        for worker in workers:
            worker.kill()
            logs.append(worker.communicate()[1])


async def _until_passed(log: Log, ms: int) -> None:
    """Until Redis's clock has moved on."""
    seconds, micros = await log.redis.time()
    end_ms = seconds * 1000 + micros // 1000 + ms
    while seconds * 1000 + micros // 1000 < end_ms:
        await asyncio.sleep(0)
        seconds, micros = await log.redis.time()


async def test_a_run_goes_on_whose_agent_blocks_the_loop(log: Log, tenant: str, tmp_path: Path) -> None:
    """Blocked for five lives of its lease: begun once, ended once, in one attempt; nor are the worker's other runs lost."""
    gate = tmp_path / "gate"
    client, neighbour = Client(log, conversation(tenant)), Client(log, conversation(tenant, "n"))
    with two_workers(log.url, gate, stall_max_s=60):
        first, other = await client.ask("block"), await neighbour.ask("block")
        await until(lambda: len(begun(gate)) >= 1)
        await _until_passed(log, 5 * LEASE_MS)
        gate.unlink()
        ends = [await client.end(first), await neighbour.end(other)]

    assert [(end["outcome"], end["attempts"]) for end in ends] == [("success", 1)] * 2
    assert sorted(begun(gate)) == sorted([first, other])
    assert await client.text(first) == "before after"
    check_rules(await client.events())


async def test_past_the_limit_another_worker_takes_over_and_tells_why(log: Log, tenant: str, tmp_path: Path) -> None:
    """The agent's name is in the log and in the run's next status; the worker that comes back changes nothing."""
    gate = tmp_path / "gate"
    client = Client(log, conversation(tenant))
    with two_workers(log.url, gate, stall_max_s=1.0) as logs:
        run_id = await client.ask("block")
        end = await client.end(run_id)
        status = await client.until("agent.status", run_id=run_id, state="queued", attempt=2)
        gate.unlink()
        await _until_passed(log, 2 * LEASE_MS)

    assert (end["outcome"], end["attempts"], len(begun(gate))) == ("success", 2, 1)
    assert status["reason"] == "the agent a blocked its worker for 1 s"
    assert "the agent a blocks the worker's loop" in "".join(logs)
    assert "blocking_agent.py:" in "".join(logs)
    assert await client.text(run_id) == "before after"
    check_rules(await client.events())
