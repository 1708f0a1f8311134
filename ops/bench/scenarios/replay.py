"""A long replay from a cold node, beside the least that it can cost in Python."""

from __future__ import annotations

import asyncio
import json
from asyncio.subprocess import PIPE
from typing import Any, Final

from ops.bench.processes import pin
from ops.bench.scenarios.scenario import Figure, Measured, Scenario, faults_of
from ops.bench.setup import Setup
from ops.bench.sizes import Sizes
from ops.children import module
from streams.channel import parse_channel
from streams.redis.log import Log

_WRITERS: Final = 10


async def _cold_replay(setup: Setup, sizes: Sizes) -> Measured:
    """Replays from a node that has not followed the channel, so that every event comes from Redis."""
    each = max(1, sizes.replay // _WRITERS)
    await setup.open("reader", 1, "all/0")
    await setup.open("writers", _WRITERS, "all/0")
    await setup.ask("cut", group="reader")
    await setup.ask("send", group="writers", count=each, window=64, seconds=300)
    await setup.ask("quiet")
    async with setup.measured() as spent:
        answer = await setup.ask("reopen", group="reader", ports=setup.ports(1), seconds=120)
    reader = (await setup.ask("quiet")).groups["reader"]
    bare = await _bare(setup)
    rate, bare_rate = reader.deliveries / answer.seconds, bare["events"] / bare["seconds"]
    figures = {
        "events_per_s": rate,
        "share_of_bare": rate / bare_rate,
        "bare_events_per_s": bare_rate,
        "node_cpu_us": spent.cpu_us("nodes", reader.deliveries),
        "bare_cpu_us": bare["cpu_s"] / bare["events"] * 1e6,
        "redis_cpu_us": spent.cpu_us("redis", reader.deliveries),
    }
    return Measured(figures, spent, {}, faults_of(reader))


async def _bare(setup: Setup) -> dict[str, Any]:
    """Reads the same events without the hub, on the nodes' cores."""
    url = setup.servers.redis.url
    log = await Log.open(url)
    try:
        key = log.keys.of(parse_channel(setup.tenant, f"{setup.peer.channel('all')}0")).stream.decode()
    finally:
        await log.close()
    command = module("ops.bench.bare_replay", url, key)
    process = await asyncio.create_subprocess_exec(*command, stdout=PIPE)
    pin(process.pid, setup.servers.cores.servers)
    out, _ = await process.communicate()
    found: dict[str, Any] = json.loads(out)
    return found


COLD_REPLAY: Final = Scenario(
    "cold_replay",
    "One client comes back to a channel in which it has missed everything, on a node that has never followed it. Beside it the "
    "same events by XRANGE, hiredis and joined frames alone, without checksums, bounds or a client.",
    (
        Figure("events_per_s", "events a second", is_more_better=True),
        Figure("share_of_bare", "of the bare reader's", is_more_better=True),
        Figure("bare_events_per_s", "the bare reader's", is_more_better=True),
        Figure("node_cpu_us", "node CPU each, µs"),
        Figure("bare_cpu_us", "the bare reader's CPU each, µs"),
        Figure("redis_cpu_us", "Redis CPU each, µs"),
    ),
    _cold_replay,
    lambda _: _WRITERS + 1,
    nodes=2,
    is_ours=True,
)
