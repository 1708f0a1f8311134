"""The scenarios of `hub bench` at tiny sizes, against real nodes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from ops.bench.generator import Generator
from ops.bench.peers.all_peers import PEERS
from ops.bench.run import BenchPlan, Comparison, run
from ops.bench.scenarios.all_scenarios import SCENARIOS
from ops.bench.setup import BenchServers, Setup, loaded, started
from ops.bench.sizes import Sizes
from ops.bench.summary import Row

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
pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]
SHARING = [
    one.name
    for one in SCENARIOS.values()
    if one.nodes == one.workers == 1 and one.name != "fanout_5000" and not one.has_limits
]
"""Scenarios that can use the nodes that all tests here share; fanout_5000 is fanout_1000 with more clients."""
QUICK = {"round_trip", "resume_own"}
"""Those of `make test`, of a kind each; all are run by `make test-long`."""


class Notes:
    """Keeps what a run tells."""

    def __init__(self) -> None:
        self.rows: list[Row] = []

    def progress(self, text: str) -> None:
        assert text

    def row(self, row: Row, result: Comparison) -> None:
        assert row in result.rows
        self.rows.append(row)


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def servers() -> AsyncIterator[BenchServers]:
    """A Redis and two nodes."""
    async with started(PEERS["hub"], Path(), nodes=2, is_persistent=False) as servers:
        yield servers


@pytest_asyncio.fixture(loop_scope="module")
async def ready(servers: BenchServers) -> AsyncIterator[Setup]:
    """A generator for them, in a tenant of this test."""
    async with loaded(servers, 50, lambda _: None) as ready:
        yield ready


@pytest.mark.parametrize("name", [pytest.param(one, marks=[] if one in QUICK else pytest.mark.long) for one in SHARING])
async def test_a_scenario_finds_nothing_wrong(name: str, servers: BenchServers) -> None:
    async with loaded(servers, SCENARIOS[name].users(TINY), lambda _: None) as ready:
        found = await SCENARIOS[name].run(ready, TINY)

        assert (found.faults, ready.problems) == ([], [])
        assert found.figures.keys() >= {figure.name for figure in SCENARIOS[name].figures}
        assert found.spent.rss_bytes["nodes"] > 1_000_000


@pytest.mark.parametrize(
    "name",
    [
        "cold_replay",
        *(
            pytest.param(name, marks=pytest.mark.long)
            for name in ("storm", "jitter", "workers_2", "flood", "cold_beside_live")
        ),
    ],
)
async def test_a_scenario_with_processes_of_its_own_finds_nothing_wrong(name: str, tmp_path: Path) -> None:
    notes = Notes()
    plan = BenchPlan([SCENARIOS[name]], [PEERS["hub"]], TINY, 1, tmp_path, is_persistent=False)

    await run(plan, notes)

    [row] = notes.rows
    assert (row.error, row.faults, row.problems) == ("", [], [])
    assert row.figures.keys() >= {figure.name for figure in SCENARIOS[name].figures}
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


@pytest.mark.parametrize(
    "name", [*(pytest.param(name, marks=pytest.mark.long) for name in ("connect", "chat")), "round_trip"]
)
async def test_the_plain_hub_is_measured_beside_ours(name: str, tmp_path: Path) -> None:
    notes = Notes()
    await run(BenchPlan([SCENARIOS[name]], [PEERS["plain"]], TINY, 1, tmp_path, is_persistent=False), notes)

    [row] = notes.rows
    assert (row.error, row.faults, row.problems) == ("", [], [])


async def test_a_peer_without_its_toolchain_is_skipped_with_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    peers = [PEERS[name] for name in ("centrifugo", "nats", "socketio")]
    result = await run(BenchPlan([SCENARIOS["idle"]], peers, TINY, 1, tmp_path), Notes())

    assert result.rows == []
    assert "Centrifugo 6.9.1 + Redis history is skipped: it needs go" in result.skipped["centrifugo"]
    assert "it needs go" in result.skipped["nats"]
    assert "it needs node" in result.skipped["socketio"]
