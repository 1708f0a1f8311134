"""`hub torture`, a mix of short runs: whole as the tree is, broken with a planted bug, and never without a report."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ops.children import hub
from ops.torture.deployment import Deployment, ask_redis
from ops.torture.history import Recorder
from ops.torture.nemesis import Nemesis
from ops.torture.planted import SITUATIONS, read_bugs, try_bug
from ops.torture.resp import RedisRefused
from ops.torture.run import Plan, Report, Torture, cluster_of
from ops.torture.schedule import PlannedFault, Schedule
from ops.torture.servers import find_servers
from support.redis_server import RedisServer

NAME, BINARY = max(find_servers().items())
MIX = ("process", "client", "link", "redis")


def no_matter(_text: str) -> None:
    """Nobody looks at the live line here."""


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    server = RedisServer(on_port=True)
    yield server
    server.close()


@pytest.fixture
def recorder(tmp_path: Path) -> Iterator[Recorder]:
    opened = Recorder(tmp_path / "nemesis.jsonl", "nemesis")
    yield opened
    opened.close()


async def torture(plan: Plan, folder: Path) -> Report:
    """A run."""
    return await Torture(plan, cluster_of(plan, BINARY, folder), no_matter).run()


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_a_mix_of_faults_breaks_nothing(tmp_path: Path) -> None:
    """A third of a minute of nodes, workers, Redis, clients and links that fail."""
    report = await torture(
        Plan(2026, NAME, 20, MIX, rate_per_s=6, people=3, waits_for_presence=False, expects=LOOKED), tmp_path
    )

    assert report.sentence() + report.proof == report.sentence()
    assert report.is_whole
    assert report.fired.total() > 6


LOOKED = (
    "commands",
    "acknowledged",
    "deliveries",
    "states",
    "resumes",
    "runs",
    "deltas",
    "uploads",
    "repeated answers",
)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.long
async def test_a_planted_bug_is_named(tmp_path: Path) -> None:
    """The checker would notice: one of the bugs, the others are a command (`hub torture --planted all`)."""
    bug = next(bug for bug in read_bugs() if bug.name == "a command sent again is stored again")

    caught = await try_bug(bug, SITUATIONS["links"], NAME, BINARY, tmp_path, no_matter)

    assert caught.is_right, caught.to_json()


@pytest.mark.slow
async def test_a_run_that_cannot_begin_says_so(tmp_path: Path) -> None:
    """No Redis: the report names the error, and nobody calls it whole."""
    plan = Plan(1, "none", 1)
    report = await Torture(plan, cluster_of(plan, Path("/bin/false"), tmp_path), no_matter).run()

    assert not report.is_whole
    assert report.sentence().startswith("NOT FINISHED: TimeoutError")


@pytest.mark.slow
async def test_a_run_that_is_interrupted_says_so(tmp_path: Path) -> None:
    plan = Plan(1, NAME, 60)
    attempt = Torture(plan, cluster_of(plan, BINARY, tmp_path), no_matter)
    running = asyncio.create_task(attempt.run())
    await asyncio.sleep(0)

    running.cancel()
    report = await running

    assert report.error == "it was interrupted"


async def settings_of(target: Deployment) -> list[object]:
    """All that a fault may have changed."""
    names = ("maxmemory", "timeout", "stream-node-max-entries", "tcp-keepalive")
    return [await ask_redis(target, "CONFIG", "GET", name) for name in names] + [(await ask_redis(target, "ROLE"))[0]]


@pytest.mark.parametrize("name", ["redis full", "redis read-only", "configuration changed"])
async def test_a_fault_of_a_deployments_redis_that_is_interrupted_is_mended(
    redis: RedisServer, recorder: Recorder, tmp_path: Path, name: str
) -> None:
    """Whoever ends a run early leaves the Redis of others as it was."""
    target = Deployment(tmp_path, [], redis.url, "", 1, breaks_redis=True)
    before = await settings_of(target)
    nemesis = Nemesis(target, [], recorder, no_matter)
    running = asyncio.create_task(nemesis.carry_out(Schedule((PlannedFault(0, name, 0.5, 60),), ())))
    async with asyncio.timeout(20):
        while await settings_of(target) == before:
            pass  # each look is a round trip

    running.cancel()
    await asyncio.gather(running, return_exceptions=True)

    assert await settings_of(target) == before


async def test_a_script_that_is_interrupted_is_ended(redis: RedisServer, recorder: Recorder, tmp_path: Path) -> None:
    """Redis says that it is busy, and answers again once the run has ended."""
    target = Deployment(tmp_path, [], redis.url, "", 1, breaks_redis=True)
    await ask_redis(target, "CONFIG", "SET", "lua-time-limit", 50)
    nemesis = Nemesis(target, [], recorder, no_matter)
    running = asyncio.create_task(nemesis.carry_out(Schedule((PlannedFault(0, "redis busy", 0.5, 60),), ())))
    async with asyncio.timeout(20):
        with contextlib.suppress(RedisRefused):
            while True:
                await ask_redis(target, "GET", "nothing")

    running.cancel()
    await asyncio.gather(running, return_exceptions=True)

    assert await ask_redis(target, "GET", "nothing") is None


@pytest.mark.slow
@pytest.mark.timeout(200)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.long
def test_nothing_is_left_behind_by_a_run_that_is_told_to_end(tmp_path: Path, number: signal.Signals) -> None:
    """No process, no mounted disk; the command says that it was interrupted."""
    command = hub("torture", "--seconds", "60", "--keep", str(tmp_path / "kept"))
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert child.stderr is not None
    while " s)" not in (line := child.stderr.readline()):  # a fault, with its duration
        assert line, "it ended by itself"
    child.send_signal(number)
    _, err = child.communicate()

    assert "NOT FINISHED: it was interrupted" in err
    assert left_by(tmp_path) == []
    assert str(tmp_path) not in Path("/proc/mounts").read_text()


def left_by(folder: Path) -> list[str]:
    """The processes that were started for a run in this folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            about = (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
            if os.fsencode(folder) in about and int(process.name) != os.getpid():
                found.append(process.name)
    return found
