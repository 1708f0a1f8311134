"""`hub torture`, a mix of short runs: whole as the tree is, broken with a planted bug, and never without a report."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from ops.torture.planted import SITUATIONS, read_bugs, try_bug
from ops.torture.run import Plan, Report, Torture, cluster_of
from ops.torture.servers import find_servers

NAME, BINARY = max(find_servers().items())
MIX = ("process", "client", "link", "redis")


def no_matter(_text: str) -> None:
    """Nobody looks at the live line here."""


async def torture(plan: Plan, folder: Path) -> Report:
    """A run."""
    return await Torture(plan, cluster_of(plan, BINARY, folder), no_matter).run()


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_a_mix_of_faults_breaks_nothing(tmp_path: Path) -> None:
    """Half a minute of nodes, workers, Redis, clients and links that fail."""
    report = await torture(
        Plan(2026, NAME, 30, MIX, rate_per_s=6, people=3, waits_for_presence=False, expects=LOOKED), tmp_path
    )

    assert report.sentence() + report.proof == report.sentence()
    assert report.is_whole
    assert report.fired.total() > 10


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
