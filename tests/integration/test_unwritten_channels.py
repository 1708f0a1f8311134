"""Channels that nobody wrote keep nothing in Redis beyond those who follow them, and what passes in them ends by itself."""

from __future__ import annotations

import pytest

from streams.channel import parse_channel
from streams.cursor import Cursor, Position, Resumable, judge
from streams.envelope import Actor, Draft
from streams.redis.log import Log
from support.documented_keys import keys_in
from support.nodes import running_node, token
from support.redis_server import RedisServer
from support.socket_client import client
from support.until import until

FOREVER = -1
"""The answer of TTL for a key that never ends."""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["conversation", "team", "document", "agent"])
async def test_a_channel_nobody_wrote_leaves_no_key_behind(own_redis: RedisServer, kind: str) -> None:
    """A hundred made-up names are subscribed and left again: Redis holds the keys it held before."""
    names = [f"{kind}:made-up-{number}" for number in range(100)]
    async with running_node(own_redis.url) as node, client(node.ws_url, token("a", "acme")) as a:
        await a.subscribe(f"{kind}:other")
        await until(lambda: any(key.endswith(":people") for key in keys_in(own_redis.url)))
        before = {key for key in keys_in(own_redis.url) if not key.endswith((":bell", ":presence-followed"))}
        for name in names:
            await a.subscribe(name, after="0", presence=True)
        await until(lambda: sum(key.endswith(":people") for key in keys_in(own_redis.url)) == 101)
        await a.answer("channel.unsubscribe", {"channels": names})
        await until(lambda: sum(key.endswith(":people") for key in keys_in(own_redis.url)) == 1)
        left = {key for key in keys_in(own_redis.url) if not key.endswith((":bell", ":presence-followed"))}

    assert left - before == set()


async def test_a_lane_begins_only_where_presence_is_followed(own_redis: RedisServer) -> None:
    """Joins in a channel are written to its live lane for those who asked for presence, on whichever node; else nowhere."""
    async with running_node(own_redis.url) as one, running_node(own_redis.url) as two:
        async with client(one.ws_url, token("a", "acme")) as a, client(two.ws_url, token("b", "acme")) as b:
            await a.subscribe("conversation:quiet")
            await a.subscribe("conversation:watched", presence=True)
            await b.subscribe("conversation:quiet")
            await b.subscribe("conversation:watched")
            while (await a.expect("channel.presence"))["payload"]["user"] != "b":
                pass
            await until(lambda: sum(key.endswith(":people") for key in keys_in(own_redis.url)) == 2)
            lanes = [key for key in keys_in(own_redis.url) if key.endswith(":live")]
            ends = [await one.hub.log.redis.ttl(key) for key in keys_in(own_redis.url) if "presence-followed" in key]

    assert [lane.rpartition("conversation:")[2] for lane in lanes] == ["watched:live"]
    assert 0 < max(ends) <= 900


async def test_a_refused_subscription_leaves_no_presence_followed(redis_url: str, tenant: str) -> None:
    """Presence asked for by somebody who has started too many channels is not told for ever, for nobody."""
    async with (
        running_node(redis_url, rate_limits={"channel": (0.001, 1.0)}) as node,
        client(node.ws_url, token("a", tenant)) as a,
    ):
        await a.subscribe("conversation:begun", presence=True)
        await a.subscribe("conversation:begun-too", presence=True)
        wish = {"channels": [{"channel": "conversation:refused", "presence": True}]}
        frame = await a.answer("channel.subscribe", wish)
        begun, refused = (parse_channel(tenant, f"conversation:{name}") for name in ("begun", "refused"))
        followed = [node.hub.presence.is_followed(channel) for channel in (begun, refused)]

    assert frame["payload"]["code"] == 4004
    assert followed == [True, False]


async def test_what_passes_in_a_made_up_channel_ends_by_itself(own_redis: RedisServer) -> None:
    """Typing in channels that nobody wrote or follows leaves no key there that never ends."""
    async with running_node(own_redis.url) as node, client(node.ws_url, token("a", "acme")) as a:
        await a.answer("chat.typing", {"state": "start"}, "conversation:made-up")
        await a.answer("chat.typing", {"state": "start"}, "conversation:made-up-too")
        found = [key for key in keys_in(own_redis.url) if "made-up" in key]
        lives = [await node.hub.log.redis.ttl(key) for key in found]

    assert len(found) == 2
    assert FOREVER not in lives
    assert max(lives) <= 900


async def test_every_reader_of_an_unwritten_channel_finds_the_epoch_that_the_first_event_adopts(
    redis_url: str, tenant: str
) -> None:
    """Two processes look, and one that starts later: one epoch, whose cursor stays good when the first event is there."""
    channel = parse_channel(tenant, "team:quiet")
    one, two = await Log.open(redis_url), await Log.open(redis_url)
    seen = {(await log.look(channel)).epoch for log in (one, two)}
    await one.close()
    later = await Log.open(redis_url)
    empty = await later.look(channel)
    await two.append(Draft(channel, "team.activity", b"{}", Actor("user", "a")))
    written = await later.look(channel, "0")
    await two.close()
    await later.close()

    assert seen == {empty.epoch} == {written.epoch}
    assert judge(Cursor("0", 0, empty.epoch), written) == Resumable(Position("0", 0))
