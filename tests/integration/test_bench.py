"""`hub bench` at tiny sizes: each scenario against real nodes, and the command as its users start it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ops.bench.generator import Generator
from ops.bench.peers.all_peers import PEERS
from ops.bench.run import BenchPlan, Comparison, run
from ops.bench.scenarios.all_scenarios import SCENARIOS
from ops.bench.setup import Setup, setup
from ops.bench.sizes import Sizes
from ops.bench.summary import Row
from ops.children import hub

TINY = Sizes(
    seconds=0.3,
    connections=40,
    clients=20,
    behind=20,
    storm=40,
    jitter=20,
    jitter_seconds=3.0,
    jitter_every=1.0,
    jitter_away=0.2,
    idle=50,
    channels=400,
    replay=300,
    upload_mb=1,
    answers=2,
)
pytestmark = pytest.mark.slow


class Notes:
    """Keeps what a run tells."""

    def __init__(self) -> None:
        self.rows: list[Row] = []

    def progress(self, text: str) -> None:
        assert text

    def row(self, row: Row, result: Comparison) -> None:
        assert row in result.rows
        self.rows.append(row)


@pytest.fixture
async def ready(tmp_path: Path) -> AsyncIterator[Setup]:
    """A Redis, two nodes and the generator."""
    async with setup(PEERS["hub"], tmp_path, nodes=2, users=50, is_persistent=False, tell=lambda _: None) as ready:
        yield ready


@pytest.mark.parametrize("name", SCENARIOS)
async def test_every_scenario_runs_and_finds_nothing_wrong(name: str, tmp_path: Path) -> None:
    notes = Notes()
    plan = BenchPlan([SCENARIOS[name]], [PEERS["hub"]], TINY, 1, tmp_path, is_persistent=False)

    await run(plan, notes)

    [row] = notes.rows
    assert (row.error, row.faults, row.problems) == ("", [], [])
    assert set(row.figures) >= {figure.name for figure in SCENARIOS[name].figures}
    assert row.spent["cpu_s"]["nodes"] >= 0
    assert row.spent["rss_bytes"]["nodes"] > 1_000_000


async def test_every_delivery_is_counted(ready: Setup) -> None:
    """20 messages of each of four writers, for the four and three more in each of two channels."""
    await ready.open("writers", 4, "room/2", nodes=(0,))
    await ready.open("readers", 6, "room/3", nodes=(0, 1))
    await ready.ask("send", group="writers", count=20, window=4)

    seen = (await ready.ask("quiet")).groups

    assert (seen["writers"].round_trips, seen["writers"].deliveries) == (80, 160)
    assert (seen["readers"].deliveries, seen["readers"].expected, seen["readers"].missing) == (240, 240, 0)
    assert seen["readers"].holes == seen["readers"].duplicates == 0
    assert seen["readers"].delivery_ms.count == 240


async def test_those_who_were_cut_get_exactly_what_they_missed(ready: Setup) -> None:
    await ready.open("writers", 2, "room/1")
    await ready.open("readers", 6, "room/3", nodes=(0, 1))
    await ready.ask("send", group="writers", count=5)
    await ready.ask("quiet")
    await ready.ask("cut", group="readers")
    await ready.ask("send", group="writers", count=30, window=8)
    missed = (await ready.ask("quiet")).groups["readers"]
    back = (await ready.ask("reopen", group="readers", ports=ready.ports(1), seconds=20)).groups["readers"]

    assert (missed.live, missed.missing) == (0, 6 * 30)
    assert (back.live, back.missing, back.extra, back.holes, back.duplicates) == (6, 0, 0, 0, 0)
    assert back.replay_ms.count == back.away_ms.count == 6


async def test_refused_clients_are_reported_with_the_reason(ready: Setup, tmp_path: Path) -> None:
    forged = tmp_path / "tokens"
    forged.write_text("a.b.c\n")
    generator = await Generator.start("hub", forged)
    answer = await generator.command("group", group="g", count=2, join="conversation:x/1", ports=ready.ports(0))
    await generator.stop()

    assert answer.groups["g"].live == 0
    assert "4001" in answer.problem


def test_the_command_writes_both_files(tmp_path: Path) -> None:
    command = hub("bench", "idle", "--quick", "--set", "seconds=0.2", "--no-aof", "--output", str(tmp_path / "out"))
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)

    assert (done.returncode, done.stderr) == (0, "")
    assert "idle · this hub: p50, ms" in done.stdout
    assert [one["error"] for one in json.loads((tmp_path / "out/result.json").read_text())["rows"]] == [""]
    assert (tmp_path / "out/result.html").read_text().endswith("</html>")


def test_ctrl_c_ends_everything_it_started(tmp_path: Path) -> None:
    command = hub("bench", "jitter", "--quick", "--no-aof", "--output", str(tmp_path))
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment) as process:
        while not children_of(process.pid, "load-"):
            assert process.poll() is None
        started = children_of(process.pid)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)

    assert process.returncode == 130
    assert [pid for pid in started if Path(f"/proc/{pid}").exists()] == []
    assert [path.name for path in tmp_path.glob("hub-bench-*")] == []


def children_of(pid: int, named: str = "") -> list[int]:
    """Children of a process whose command line holds a text."""
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in found if named in Path(f"/proc/{child}/cmdline").read_text()]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("nothing",), "there is no scenario 'nothing'"),
        (("idle", "--peers", "nobody"), "there is no peer 'nobody'"),
        (("idle", "--set", "storm=-1"), "the size storm must be a number above 0"),
        (("idle", "--quick", "--full"), "choose one of --quick and --full"),
    ],
)
def test_wrong_arguments_are_refused_with_a_sentence(arguments: tuple[str, ...], says: str) -> None:
    done = subprocess.run(hub("bench", *arguments), capture_output=True, text=True, check=False)

    assert done.returncode == 2
    assert says in done.stderr
