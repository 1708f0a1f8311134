"""Steady traffic: round trips, a chat, a single idle pair, and one channel with many subscribers."""

from __future__ import annotations

from functools import partial
from typing import Final

from ops.bench.scenarios.scenario import Figure, Measured, Scenario, faults_of
from ops.bench.setup import Setup
from ops.bench.sizes import Sizes

_FANOUT_WRITERS: Final = 50
_FANOUT_WINDOW: Final = 8
_LATENCY: Final = (Figure("p50_ms", "p50, ms"), Figure("p99_ms", "p99, ms"), Figure("p99_9_ms", "p99.9, ms"))
_COSTS: Final = (Figure("node_cpu_us", "node CPU each, µs"), Figure("redis_cpu_us", "Redis CPU each, µs"))


async def _traffic(
    setup: Setup, sizes: Sizes, *, clients: int, share: int, every: int = 1, window: int = 1
) -> Measured:
    """Measure clients in channels with `share` clients each; every `every`-th client keeps `window` messages in flight."""
    await setup.open("crowd", clients, f"room/{share}")
    load = {"group": "crowd", "every": every, "window": window}
    await setup.ask("send", **load, seconds=min(1.0, sizes.seconds / 4))
    await setup.ask("quiet")
    async with setup.measured() as spent:
        answer = await setup.ask("send", **load, seconds=sizes.seconds)
    settled = (await setup.ask("quiet")).groups["crowd"]
    seen = answer.groups["crowd"]
    each = seen.deliveries if share != 1 else seen.round_trips
    figures = {
        "deliveries_per_s": seen.deliveries / answer.seconds,
        "round_trips_per_s": seen.round_trips / answer.seconds,
        "node_cpu_us": spent.cpu_us("nodes", each),
        "redis_cpu_us": spent.cpu_us("redis", each),
        "generator_share": spent.cpu_s["generator"] / spent.seconds,
    }
    latency = seen.round_trip_ms if share == 1 else seen.delivery_ms
    figures |= {"p50_ms": latency.p50, "p99_ms": latency.p99, "p99_9_ms": latency.p99_9}
    return Measured(figures, spent, {"latency": latency}, faults_of(settled))


async def _fanout(setup: Setup, sizes: Sizes, *, clients: int) -> Measured:
    writers = min(_FANOUT_WRITERS, clients)
    return await _traffic(setup, sizes, clients=clients, share=0, every=clients // writers, window=_FANOUT_WINDOW)


ROUND_TRIP = Scenario(
    "round_trip",
    "100 users, each in a channel of their own, write the next message when the previous one has been delivered to them.",
    (Figure("round_trips_per_s", "durable round trips a second", is_more_better=True), *_COSTS, *_LATENCY),
    partial(_traffic, clients=100, share=1),
    lambda _: 100,
)
CHAT = Scenario(
    "chat",
    "1,000 users in 100 channels of ten; each writes the next message when the previous one has been delivered.",
    (Figure("deliveries_per_s", "deliveries a second", is_more_better=True), *_COSTS, *_LATENCY),
    partial(_traffic, clients=1_000, share=10),
    lambda _: 1_000,
)
IDLE = Scenario(
    "idle",
    "One user on an idle server writes message after message; the latency is from sending one to receiving it, stored.",
    (_LATENCY[0], *_LATENCY[1:], Figure("round_trips_per_s", "a second", is_more_better=True)),
    partial(_traffic, clients=1, share=1),
    lambda _: 1,
)
FANOUTS = tuple(
    Scenario(
        f"fanout_{clients}",
        f"One channel of {clients:,} clients; {min(_FANOUT_WRITERS, clients)} of them keep 8 messages under way, all stored.",
        (Figure("deliveries_per_s", "deliveries a second", is_more_better=True), *_COSTS, *_LATENCY),
        partial(_fanout, clients=clients),
        lambda _, clients=clients: clients,  # type: ignore[misc]  # mypy infers no type for the default
    )
    for clients in (10, 100, 1_000, 5_000)
)
WORKERS = tuple(
    Scenario(
        f"workers_{workers}",
        f"`chat` on a node of {workers} process(es) on one port; Redis and the load generator use the same cores.",
        CHAT.figures,
        CHAT.run,
        CHAT.users,
        workers=workers,
        is_pinned=False,
        is_ours=True,
    )
    for workers in (1, 2, 4)
)
