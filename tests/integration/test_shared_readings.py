"""Many who ask for one channel's state at once are answered from one reading, begun after they asked."""

from __future__ import annotations

import asyncio
import json

from hub.limits.slices import Slices
from hub.node.states import StateReader
from streams.channel import Channel, Kind
from streams.envelope import Actor, Draft, Lane
from streams.errors import CommandRefused, LogUnavailable
from streams.redis.log import Log
from support.redis_server import RedisServer
from support.until import until

ASKERS = 200


async def commands(log: Log) -> int:
    return int((await log.redis.info("stats"))["total_commands_processed"])


async def test_those_who_come_at_once_share_a_reading(log: Log, tenant: str) -> None:
    """Each read the live lane and the presence separately before: a thousand joiners held the fan-out up for seconds."""
    states, channel = StateReader(log, Slices()), Channel(tenant, Kind.CONVERSATION, "all")
    for number in range(20):
        await log.append(Draft(channel, "chat.message", b'{"text":"%d"}' % number, Actor("user", "a")))
    look = await log.look(channel)
    await states.read(channel, look)
    before = await commands(log)
    one = await states.read(channel, look)
    price = await commands(log) - before

    before = await commands(log)
    found = await asyncio.gather(*(states.read(channel, look) for _ in range(ASKERS)))

    assert await commands(log) - before < 4 * price
    assert {state.json for state in found} == {one.json}


async def test_who_asks_while_a_channel_is_read_sees_what_was_stored_before(log: Log, tenant: str) -> None:
    """The reading under way may have begun too early: it gets the next one."""
    states, channel = StateReader(log, Slices()), Channel(tenant, Kind.CONVERSATION, "all")
    counts = []
    for number in range(1, 30):
        earlier = asyncio.create_task(states.read(channel, await log.look(channel)))
        await asyncio.sleep(0)
        await log.append(Draft(channel, "chat.message", b'{"text":"x"}', Actor("user", "a")))
        counts.append((number, json.loads((await states.read(channel, await log.look(channel))).json)["count"]))
        await earlier

    assert [number for number, _ in counts] == [count for _, count in counts]


async def test_a_failed_reading_is_told_to_all_and_the_next_one_works(own_redis: RedisServer, tenant: str) -> None:
    """Redis away: nobody waits for ever, and no reading stays behind that later askers would wait for."""
    log = await Log.open(own_redis.url)
    try:
        states, channel = StateReader(log, Slices()), Channel(tenant, Kind.CONVERSATION, "all")
        look = await log.look(channel)
        with own_redis.killed():
            failed = await asyncio.gather(*(states.read(channel, look) for _ in range(5)), return_exceptions=True)
        await until(lambda: log.is_available)
        again = await states.read(channel, await log.look(channel))
    finally:
        await log.close()

    assert all(isinstance(error, LogUnavailable) for error in failed)
    assert json.loads(again.json)["count"] == 0


async def test_a_sight_is_shown_whole_and_live_each_as_asked(log: Log, tenant: str) -> None:
    """Two who came back to a document in one tick shared a sight, and the second was shown what the first had asked for."""
    states, channel = StateReader(log, Slices()), Channel(tenant, Kind.DOCUMENT, "d")
    sight = await log.replay.sight(channel, "0", states.key_reads(channel))

    live, whole = await states.read_live(channel, sight), await states.read_from(channel, sight)

    assert "content" not in json.loads(live.json)
    assert json.loads(live.json).items() < json.loads(whole.json).items()
    assert (await states.read_live(channel, sight)).json == live.json


async def test_a_live_lane_of_many_bytes_is_read_page_by_page(log: Log, tenant: str) -> None:
    """Fifty entries beside a look are bounded in bytes, too; the state is the same."""
    states, channel = StateReader(log, Slices()), Channel(tenant, Kind.DOCUMENT, "d")
    for number in range(20):
        data = b'{"user":"u","client":"c%d","selection":"%b"}' % (number, b"x" * 2_000)
        await log.append(Draft(channel, "document.cursor", data, Actor("user", "u"), lane=Lane.LIVE))
    sight = await log.replay.sight(channel, None, states.key_reads(channel))

    assert sight.answers[-1] is None
    assert len(json.loads((await states.read_from(channel, sight)).json)["cursors"]) == 20


async def test_a_broken_key_of_one_channel_fails_no_other(log: Log, tenant: str) -> None:
    """Looks of one tick share a call: a foreign value under one channel's key was an internal error for all of them."""
    states, channels = (
        StateReader(log, Slices()),
        [Channel(tenant, Kind.CONVERSATION, f"c{number}") for number in range(40)],
    )
    await log.redis.set(log.keys.people(channels[7]), "not a hash")

    found = await asyncio.gather(
        *(log.replay.sight(channel, None, states.key_reads(channel)) for channel in channels), return_exceptions=True
    )

    assert [number for number, sight in enumerate(found) if isinstance(sight, Exception)] == [7]
    assert isinstance(found[7], CommandRefused)
