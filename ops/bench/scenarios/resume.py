"""Resume after an absence: every client has missed a number of events, and all reconnect at once."""

from __future__ import annotations

from functools import partial

from ops.bench.scenarios.scenario import Figure, Measured, Scenario, faults_of
from ops.bench.setup import Setup
from ops.bench.sizes import Sizes


async def _run(setup: Setup, sizes: Sizes, *, share: int) -> Measured:
    writers = max(1, sizes.clients // share)
    await setup.open("writers", writers, "room/1")
    await setup.open("crowd", writers * share, f"room/{share}")
    await setup.ask("send", group="writers", count=1)  # so that every client has a cursor
    await setup.ask("quiet")
    await setup.ask("cut", group="crowd")
    await setup.ask("send", group="writers", count=sizes.behind, window=4)
    await setup.ask("quiet")
    async with setup.measured() as spent:
        answer = await setup.ask("reopen", group="crowd", parallel=256, seconds=120)
    crowd = (await setup.ask("quiet")).groups["crowd"]
    faults = faults_of(crowd)
    if crowd.back < crowd.count:
        faults.append(
            f"{crowd.count - crowd.back:,} of {crowd.count:,} clients were not brought up to date in {answer.seconds:.0f} s"
        )
    figures = {
        "all_back_s": answer.seconds,
        "events_per_s": answer.groups["crowd"].deliveries / answer.seconds,
        "node_cpu_ms": spent.cpu_us("nodes", crowd.count) / 1e3,
        "redis_cpu_ms": spent.cpu_us("redis", crowd.count) / 1e3,
        "p50_ms": crowd.replay_ms.p50,
        "p99_ms": crowd.replay_ms.p99,
    }
    return Measured(figures, spent, {"replay": crowd.replay_ms}, faults)


_FIGURES = (
    Figure("all_back_s", "until all are up to date, s"),
    Figure("events_per_s", "events a second", is_more_better=True),
    Figure("node_cpu_ms", "node CPU a client, ms"),
    Figure("redis_cpu_ms", "Redis CPU a client, ms"),
    Figure("p50_ms", "one client p50, ms"),
    Figure("p99_ms", "one client p99, ms"),
)
OWN = Scenario(
    "resume_own",
    "Clients that have each missed some events in a channel of their own reconnect, 256 at a time, until all are up to date.",
    _FIGURES,
    partial(_run, share=1),
    lambda sizes: 2 * sizes.clients,
    needs_resume=True,
)
SHARED = Scenario(
    "resume_shared",
    "As `resume_own`, but with ten clients per channel, which have missed the same events.",
    _FIGURES,
    partial(_run, share=10),
    lambda sizes: 2 * sizes.clients,
    needs_resume=True,
)
