"""A node is killed: its clients reconnect to the other one, all at once, or while clients are disconnected again and again."""

from __future__ import annotations

from typing import Final

from ops.bench.scenarios.scenario import Figure, Measured, Scenario, faults_of
from ops.bench.setup import Setup
from ops.bench.sizes import Sizes

_LIVE_USERS: Final = 100
_LIVE_PER_S: Final = 200
_SHARE: Final = 10
_SPREAD_MS: Final = 100
"""An SDK waits up to this long before its first reconnect attempt."""


async def _storm(setup: Setup, sizes: Sizes) -> Measured:
    writers = max(1, sizes.storm // _SHARE)
    crowd_size = writers * _SHARE
    await setup.open("writers", writers, "team/1", nodes=(1,))
    await setup.open("live", _LIVE_USERS, f"live/{_SHARE}", nodes=(1,))
    await setup.open("crowd", crowd_size, f"own/1,team/{_SHARE},hall/{_SHARE * 10}", nodes=(0,))
    await setup.ask("send", group="writers", count=1)
    await setup.ask("quiet")
    await setup.ask("pace", group="live", rate=_LIVE_PER_S)
    await setup.ask("reset")
    calm = (await setup.ask("run", seconds=sizes.seconds)).groups["live"].delivery_ms
    setup.kill(0)
    await setup.ask("send", group="writers", count=sizes.behind, window=4)
    await setup.ask("run", seconds=0.5)
    async with setup.measured() as spent:
        answer = await setup.ask(
            "reopen",
            group="crowd",
            ports=setup.ports(1),
            parallel=crowd_size,
            spread_ms=_SPREAD_MS,
            kept=1,
            seconds=120,
        )
    live = answer.groups["live"].delivery_ms
    await setup.ask("pace", group="live", rate=0)
    settled = (await setup.ask("quiet")).groups
    crowd = settled["crowd"]
    faults = faults_of(crowd, may_be_lost=True) + faults_of(settled["live"])
    if crowd.back < crowd.count:
        faults.append(
            f"{crowd.count - crowd.back:,} of {crowd.count:,} clients were not brought up to date in {answer.seconds:.0f} s"
        )
    figures = {
        "all_back_s": answer.seconds,
        "live_p99_ms": live.p99,
        "calm_p99_ms": calm.p99,
        "live_max_ms": live.max,
        "node_cpu_ms": spent.cpu_us("nodes", crowd.count) / 1e3,
        "p50_ms": crowd.replay_ms.p50,
        "p99_ms": crowd.replay_ms.p99,
        "holes": crowd.holes + crowd.missing,
    }
    return Measured(figures, spent, {"live meanwhile": live, "live before": calm, "replay": crowd.replay_ms}, faults)


async def _jitter(setup: Setup, sizes: Sizes) -> Measured:
    writers = max(1, sizes.jitter // _SHARE)
    await setup.open("writers", writers, "team/1", nodes=(1,))
    await setup.open("crowd", writers * _SHARE, f"team/{_SHARE}", nodes=(0, 1), kept=1)
    await setup.ask("send", group="writers", count=1)
    await setup.ask("quiet")
    async with setup.measured() as spent:
        await setup.ask("pace", group="writers", rate=writers)
        await setup.ask("jitter", group="crowd", every_s=sizes.jitter_every, away_s=sizes.jitter_away)
        await setup.ask("run", seconds=sizes.jitter_seconds / 2)
        setup.kill(0)
        await setup.ask("run", seconds=sizes.jitter_seconds / 2)
        await setup.ask("jitter", group="crowd", every_s=0)
        await setup.ask("pace", group="writers", rate=0)
        await setup.ask("back", group="crowd", seconds=60)
    crowd = (await setup.ask("quiet")).groups["crowd"]
    figures = {
        "delivered_percent": 100 * crowd.received / max(1, crowd.expected),
        "replay_p50_ms": crowd.replay_ms.p50,
        "replay_p99_ms": crowd.replay_ms.p99,
        "returns": crowd.back,
        "duplicates": crowd.duplicates,
        "node_cpu_ms": spent.cpu_us("nodes", crowd.back) / 1e3,
    }
    return Measured(figures, spent, {"replay": crowd.replay_ms}, faults_of(crowd, may_be_lost=True))


STORM = Scenario(
    "storm",
    "One of two nodes is killed. Its clients, in three channels each and some events behind in one of them, come back on "
    f"the other at one time; {_LIVE_USERS} users keep writing there, {_LIVE_PER_S} messages a second in all.",
    (
        Figure("all_back_s", "until all are up to date, s"),
        Figure("live_p99_ms", "live p99 meanwhile, ms"),
        Figure("calm_p99_ms", "live p99 before, ms"),
        Figure("live_max_ms", "live max meanwhile, ms"),
        Figure("node_cpu_ms", "node CPU a client, ms"),
        Figure("p50_ms", "one client p50, ms"),
        Figure("p99_ms", "one client p99, ms"),
        Figure("holes", "events missing"),
    ),
    _storm,
    lambda sizes: 2 * sizes.storm + _LIVE_USERS,
    nodes=2,
    needs_resume=True,
)
JITTER = Scenario(
    "jitter",
    "Every client of two nodes is cut every 15 s for 2 s while each channel of ten gets a message a second; halfway "
    "one node is killed. A disconnected client resumes from its cursor on any running node.",
    (
        Figure("delivered_percent", "delivered, %", is_more_better=True),
        Figure("replay_p50_ms", "replay p50, ms"),
        Figure("replay_p99_ms", "replay p99, ms"),
        Figure("returns", "returns", is_more_better=True),
        Figure("duplicates", "events sent twice"),
        Figure("node_cpu_ms", "node CPU a return, ms"),
    ),
    _jitter,
    lambda sizes: 2 * sizes.jitter,
    nodes=2,
    needs_resume=True,
)
