"""After hostile frames the main promise holds: a fuzzed node's channels, followed from the first event while all is killed.

`FUZZ_FRAMES=1000000 pytest tests/fault/test_followed_after_fuzz.py` does it for as long as one likes.
"""

from __future__ import annotations

import os
import random
from dataclasses import replace
from pathlib import Path

import pytest

from fuzz.frames import CHANNELS
from fuzz.run import outside
from ops.embedded_redis.server import EmbeddedRedis
from streams.channel import Channel, Kind, parse_channel
from streams.redis.log import Log
from support.nodes import NodeProcess, token
from support.sdk_followers import Followed, Plan, Source, made_up_sources, read_all

TENANT = "t"
FRAMES = int(os.environ.get("FUZZ_FRAMES", "4000"))


def into(channel: Channel, source: Source) -> Source:
    """The same talk in another channel."""
    return channel, [replace(draft, channel=channel) for draft in source[1]]


async def stored_in(redis_url: str, channels: list[Channel]) -> int:
    """Events that are there."""
    log = await Log.open(redis_url)
    try:
        return sum([len(await read_all(log, channel)) for channel in channels])
    finally:
        await log.close()


@pytest.mark.slow
@pytest.mark.timeout(400)
async def test_fuzzed_channels_are_followed_without_a_hole(tmp_path: Path) -> None:
    """A live node is fuzzed, then its Redis killed: each list, fuzzed events and later ones, equals its stream."""
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    fuzzed = [found for name in CHANNELS if (found := parse_channel(TENANT, name)).kind is Kind.CONVERSATION]
    with EmbeddedRedis(tmp_path, fsync="always") as redis:
        node = NodeProcess(redis.url, HUB_DATA=str(tmp_path))
        try:
            await node.wait_ready()
            faults = await outside(node.ws_url, token("fuzz", TENANT, ttl_s=86_400), FRAMES, seed)
            await node.wait_ready()  # the very process that was fuzzed
        finally:
            node.close()
        before = await stored_in(redis.url, fuzzed)

        talk = made_up_sources(len(fuzzed), 200, TENANT, seed)
        plan = Plan(seconds=8, clients=10, kill_every_s=3, redis_kill_every_s=4, settle_s=200, seed=seed)
        sources = [into(channel, source) for channel, source in zip(fuzzed, talk, strict=True)]
        report = await Followed(plan, redis, sources, print).run()

    assert faults == 0
    assert before >= len(fuzzed)
    assert report.faults == []
    assert report.events_checked >= 2 * (before + 200 * len(fuzzed))
    assert min(report.node_kills, report.redis_kills) >= 1
