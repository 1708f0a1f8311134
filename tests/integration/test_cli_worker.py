"""`hub worker` and `hub parked` as processes on a Redis of their own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from consumers.groups.handler import DONE, Effects, Outcome, Park, Source
from streams.redis.log import Log
from support.consumer_rig import Recorder, Rig, say
from support.nodes import data_folder
from support.redis_server import RedisServer
from support.run_rig import Client, check_rules, conversation

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
METRICS_TOKEN = "a-token-for-metrics"


@pytest.fixture
def redis_url(own_redis: RedisServer) -> str:
    """A Redis of this test alone: no other test's workers take its jobs."""
    return own_redis.url


def hub(redis: RedisServer, *arguments: str, **more: str) -> subprocess.Popen[str]:
    """Start `hub …` with this Redis."""
    environment = {**os.environ, "REDIS_URL": redis.url, "HUB_DRAIN_SECONDS": "1", "HUB_DATA": data_folder(), **more}
    command = [sys.executable, "-c", "from ops.cli import main; main()", *arguments]
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def output_of(process: subprocess.Popen[str]) -> tuple[str, str, int]:
    out, err = process.communicate(timeout=50)
    return out, err, process.returncode


async def test_a_worker_serves_the_agents_it_is_given(own_redis: RedisServer, log: Log, tenant: str) -> None:
    """It says when it is up, answers, tells its metrics and ends cleanly; the demo agent answers about what was said."""
    client = Client(log, conversation(tenant))
    agents = "history=consumers.agents.demo:agent"
    worker = hub(own_redis, "worker", "--metrics-port", "0", HUB_AGENTS=agents, HUB_METRICS_TOKEN=METRICS_TOKEN)
    assert worker.stdout is not None
    try:
        banner = re.fullmatch(r"worker \S+ is up; agents: history; metrics on port (\d+)\n", worker.stdout.readline())
        assert banner
        await say(log, client.channel, "the deadline is Friday", user="bob")
        run_id = await client.ask("who said deadline?", agent="history")
        await client.end(run_id)
        url = f"http://127.0.0.1:{banner[1]}/metrics"
        async with httpx.AsyncClient(timeout=30) as http:
            refused = await http.get(url)
            metrics = (await http.get(url, headers={"Authorization": f"Bearer {METRICS_TOKEN}"})).text
    finally:
        worker.send_signal(signal.SIGTERM)
        _, err, code = output_of(worker)

    assert code == 0, err
    assert (refused.status_code, "hub_" in refused.text) == (401, False)
    assert 'hub_handled_total{handler="chat",outcome="done"}' in metrics
    assert "hub_runs_ended_total" in metrics
    assert "1 message about “deadline”" in await client.text(run_id)
    assert "bob: the deadline is Friday" in await client.text(run_id)
    check_rules(await client.events())


async def test_an_agent_that_cannot_be_loaded_stops_the_worker(own_redis: RedisServer) -> None:
    """One line names the agent and why; exit code 2."""
    _, err, code = output_of(hub(own_redis, "worker", HUB_AGENTS="bad=no.such:thing"))

    assert code == 2
    assert "agent bad" in err
    assert "Traceback" not in err


async def test_parked_events_are_listed_and_put_back(own_redis: RedisServer, log: Log, tenant: str) -> None:
    """`hub parked` shows what was given up and why; `retry` puts it back, once."""
    is_mended = False

    def react(_source: Source, _effects: Effects) -> Outcome:
        return DONE if is_mended else Park("no\nway")

    handler = Recorder(react, name="picky")
    async with Rig(log, handler) as rig:
        await say(log, conversation(tenant), "x")
        await handler.until(lambda: len(handler.seen) == 1)
        while not (parked := await rig.groups.parked()):
            pass
        listed, _, _ = output_of(hub(own_redis, "parked"))
        is_mended = True
        told, _, code = output_of(hub(own_redis, "parked", "retry", parked[0].id))
        await handler.until(lambda: len(handler.seen) == 2)
        _, err, again = output_of(hub(own_redis, "parked", "retry", parked[0].id))
        empty, _, _ = output_of(hub(own_redis, "parked"))

    assert listed.split("  ")[:3] == [parked[0].id, "picky", f"{tenant}:conversation:c"]
    assert listed.rstrip().endswith("no way")
    assert (code, told.strip()) == (0, f"{parked[0].id} will be retried")
    assert (again, empty) == (1, "")
    assert "nothing is parked" in err


async def test_a_wrong_parked_id_is_refused(own_redis: RedisServer) -> None:
    """The line says what an id looks like."""
    _, err, code = output_of(hub(own_redis, "parked", "retry", "nonsense"))

    assert code == 2
    assert "3:1795367479511-0" in err
