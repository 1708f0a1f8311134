"""Many connections: connecting many clients, the cost of idle connections, and a large number of channels."""

from __future__ import annotations

from typing import Final

from ops.bench.scenarios.scenario import Figure, Measured, Scenario, faults_of
from ops.bench.setup import Setup
from ops.bench.sizes import Sizes

_EACH: Final = "own/1,team/10,all/0"
_WARM: Final = 100
_CHANNELS_EACH: Final = 100


async def _connect(setup: Setup, sizes: Sizes) -> Measured:
    await setup.open("first", _WARM, "early/1")
    async with setup.measured() as spent:
        crowd = await setup.open("crowd", sizes.connections, _EACH, parallel=32)
    count = sizes.connections
    figures = {
        "connects_per_s": count / spent.seconds,
        "node_cpu_ms": spent.cpu_us("nodes", count) / 1e3,
        "redis_cpu_ms": spent.cpu_us("redis", count) / 1e3,
        "p50_ms": crowd.handshake_ms.p50,
        "p99_ms": crowd.handshake_ms.p99,
    }
    return Measured(figures, spent, {"handshake": crowd.handshake_ms})


async def _memory(setup: Setup, sizes: Sizes) -> Measured:
    """Measure idle connections; the first ones, for which a process makes its one-time allocations, are not counted."""
    await setup.open("first", max(_WARM, sizes.idle // 10), _EACH)
    await setup.ask("run", seconds=1)
    before = await setup.usage()
    async with setup.measured() as spent:
        await setup.open("crowd", sizes.idle, "mine/1,group/10,all/0")
        await setup.ask("run", seconds=1)
    figures = {
        "node_bytes": (spent.rss_bytes["nodes"] - before.rss_bytes["nodes"]) / sizes.idle,
        "redis_bytes": (spent.redis_bytes - before.redis_bytes) / sizes.idle,
    }
    return Measured(figures, spent)


async def _channels(setup: Setup, sizes: Sizes) -> Measured:
    clients = max(1, sizes.channels // _CHANNELS_EACH)
    count = clients * _CHANNELS_EACH
    before = await setup.usage()
    await setup.open("crowd", clients, f"many*{_CHANNELS_EACH}", parallel=16)
    subscribed = await setup.usage()
    async with setup.measured() as spent:
        answer = await setup.ask("send", group="crowd", every=max(1, clients // 100), seconds=sizes.seconds)
    settled = (await setup.ask("quiet")).groups["crowd"]
    seen = answer.groups["crowd"]
    figures = {
        "subscriptions_per_s": count / (subscribed.seconds - before.seconds),
        "node_bytes": (subscribed.rss_bytes["nodes"] - before.rss_bytes["nodes"]) / count,
        "round_trips_per_s": seen.round_trips / answer.seconds,
        "p50_ms": seen.round_trip_ms.p50,
        "p99_ms": seen.round_trip_ms.p99,
    }
    return Measured(figures, spent, {"latency": seen.round_trip_ms}, faults_of(settled, all_are_served=False))


CONNECT: Final = Scenario(
    "connect",
    "32 clients at a time connect, authenticate with a token of their own and subscribe to three channels: one of their own, "
    "one they share with nine others, one they share with all. This hub also sends the state of each and follows the inbox.",
    (
        Figure("connects_per_s", "connects a second", is_more_better=True),
        Figure("node_cpu_ms", "node CPU each, ms"),
        Figure("redis_cpu_ms", "Redis CPU each, ms"),
        Figure("p50_ms", "p50, ms"),
        Figure("p99_ms", "p99, ms"),
    ),
    _connect,
    lambda sizes: sizes.connections + _WARM,
)
MEMORY: Final = Scenario(
    "memory",
    "Idle connections with three subscriptions each, as in `connect`; nothing is written.",
    (Figure("node_bytes", "node memory each, bytes"), Figure("redis_bytes", "Redis memory each, bytes")),
    _memory,
    lambda sizes: sizes.idle + max(_WARM, sizes.idle // 10),
)
CHANNELS: Final = Scenario(
    "channels",
    "Each client subscribes to 100 channels of its own; then 100 clients make round trips in their channels in turn.",
    (
        Figure("subscriptions_per_s", "subscriptions a second", is_more_better=True),
        Figure("node_bytes", "node memory a channel, bytes"),
        Figure("round_trips_per_s", "round trips a second", is_more_better=True),
        Figure("p50_ms", "p50, ms"),
        Figure("p99_ms", "p99, ms"),
    ),
    _channels,
    lambda sizes: sizes.channels // _CHANNELS_EACH + 1,
)
