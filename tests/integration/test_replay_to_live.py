"""The joint of replay and live over real sockets: while others write without pause, the receipt parts them exactly."""

from __future__ import annotations

import asyncio

from streams.channel import parse_channel
from streams.envelope import Actor, Draft
from support.nodes import Node, running_node, token
from support.socket_client import client
from support.tail_recorder import deaf

ROOM = "conversation:1"


async def write_on(node: Node, tenant: str, stop: asyncio.Event) -> int:
    """Append, a few at a time, until told to stop; how many there are then."""
    channel, last = parse_channel(tenant, ROOM), 0
    while not stop.is_set():
        drafts = (Draft(channel, "chat.message", b'{"text":"hi"}', Actor("user", "loud")) for _ in range(5))
        last = max(answer.seq for answer in await asyncio.gather(*(node.hub.log.append(draft) for draft in drafts)))
    return last


async def test_no_live_event_comes_before_the_receipt(redis_url: str, tenant: str) -> None:
    """subscribed, the replay up to the fence, the receipt, and only then what is newer; each once, from several clients."""
    async with running_node(redis_url) as node:
        stop = asyncio.Event()
        channel = parse_channel(tenant, ROOM)
        for _ in range(6):
            drafts = (Draft(channel, "chat.message", b'{"text":"old"}', Actor("user", "a")) for _ in range(1_000))
            await asyncio.gather(*(node.hub.log.append(draft) for draft in drafts))
        writing = asyncio.create_task(write_on(node, tenant, stop))

        async def follow(after: str, capabilities: list[str]) -> list[object]:
            async with client(node.ws_url, token("r", tenant), capabilities=capabilities) as reader:
                start = await reader.subscribe(ROOM, after=after, state=False)
                receipt = await reader.expect("channel.resumed", channel=ROOM)
                before = [frame["seq"] for frame in reader.seen if "seq" in frame]
                later = [frame["seq"] for frame in await reader.events(200)]
                return [start, receipt["payload"], before, later]

        found = await asyncio.gather(*(follow("0", ["batch"][: n % 2]) for n in range(6)))
        stop.set()
        await writing

    for start, receipt, before, later in found:
        head = start["head"]["seq"]  # type: ignore[index]
        assert before == list(range(1, head + 1))
        assert later == list(range(head + 1, head + 201))
        assert receipt == {"from_seq": 1, "to_seq": head, "count": head, "gap": None}


async def test_a_channel_that_vanished_quietly_is_told_when_somebody_new_looks(redis_url: str, tenant: str) -> None:
    """Its stream is deleted and nobody writes: a new subscriber gets the new life alone, the old one is told of the end."""
    async with running_node(redis_url) as node, client(node.ws_url, token("old", tenant)) as old:
        before = await old.subscribe(ROOM)
        for number in range(3):
            await old.say(ROOM, f"gone {number}")
        keys = node.hub.log.keys.of(parse_channel(tenant, ROOM))
        await node.hub.log.redis.delete(keys.stream, keys.meta)
        async with client(node.ws_url, token("new", tenant)) as new:
            answer = await new.subscribe(ROOM, after="0")
            receipt = await new.expect("channel.resumed", channel=ROOM)
            told = await old.expect("channel.subscribed", channel=ROOM)
            await old.say(ROOM, "new life")
            (event,) = await new.events(1)
            ghosts = [frame for frame in new.seen if "gone" in str(frame)]

    assert (answer["head"], receipt["payload"]["count"]) == ({"id": "0", "seq": 0}, 0)
    assert told["payload"]["gap"]["reason"] == "epoch_changed"
    assert told["payload"]["epoch"] == answer["epoch"] != before["epoch"]
    assert (event["seq"], ghosts) == (1, [])


async def test_who_was_replayed_further_than_the_tail_is_judged_by_its_own_place(redis_url: str, tenant: str) -> None:
    """The log goes back to where the tail still stands on firm ground: only who had read beyond it is told of a gap."""
    channel = parse_channel(tenant, ROOM)
    async with (
        running_node(redis_url) as node,
        running_node(redis_url) as other,
        client(node.ws_url, token("live", tenant)) as live,
        client(node.ws_url, token("ahead", tenant)) as ahead,
    ):
        await live.subscribe(ROOM)
        log = node.hub.log
        wire = log.servers.by_partition[0].tail._bells.wire
        assert wire is not None
        assert wire._transport is not None
        wire._transport.pause_reading()  # the tail lags
        for number in range(5):
            said = Draft(channel, "chat.message", b'{"text":"%d"}' % number, Actor("user", "a"))
            last = await other.hub.log.append(said)
        await ahead.subscribe(ROOM, after="0")
        await ahead.events(5)
        keys = log.keys.of(channel)
        await log.redis.xdel(keys.stream, last.id)  # what a promoted replica that lacks one event looks like
        await log.redis.hset(keys.meta, "seq", 4)
        wire.abort()

        told = await ahead.expect("channel.subscribed", channel=ROOM)
        got = await live.events(4)
        async with client(node.ws_url, token("writer", tenant)) as writer:
            await writer.say(ROOM, "another fifth")
        fifths = [(await reader.events(1))[0] for reader in (live, ahead)]
        breaks = [
            frame for frame in live.seen if frame["type"] == "channel.subscribed" and frame.get("channel") == ROOM
        ]

    assert told["payload"]["gap"]["reason"] == "cursor_unknown"
    assert told["payload"]["state_at"] == 4
    assert [event["seq"] for event in got] == [1, 2, 3, 4]
    assert len(breaks) == 1  # its own subscribe
    assert fifths[0] == fifths[1]
    assert (fifths[0]["seq"], fifths[0]["payload"]["text"]) == (5, "another fifth")


async def test_a_hole_in_the_stored_stream_is_named_to_who_replays_it(redis_url: str, tenant: str) -> None:
    """An event deleted out of the middle: the replay stops there, says which is missing, and goes on live from the head."""
    channel = parse_channel(tenant, ROOM)
    async with running_node(redis_url) as node, client(node.ws_url, token("a", tenant)) as reader:
        for number in range(5):
            stored = await node.hub.log.append(Draft(channel, "chat.message", b'{"text":"x"}', Actor("user", "a")))
            if number == 2:
                third = stored
        await node.hub.log.redis.xdel(node.hub.log.keys.of(channel).stream, third.id)

        await reader.subscribe(ROOM, after="0", state=False)
        told = await reader.expect("channel.subscribed", channel=ROOM)
        receipt = await reader.expect("channel.resumed", channel=ROOM)
        await node.hub.log.append(Draft(channel, "chat.message", b'{"text":"x"}', Actor("user", "a")))
        (event,) = await reader.events(1)
        history = await reader.answer("channel.history", {"after": "0"}, ROOM)

    assert told["payload"]["gap"] == receipt["payload"]["gap"] == {"reason": "trimmed", "from_seq": 3, "to_seq": 3}
    assert [frame["seq"] for frame in reader.seen if "seq" in frame] == [1, 2, 6]
    assert event["seq"] == 6
    assert [e["seq"] for e in history["payload"]["events"]] == [1, 2, 4, 5, 6]


async def test_a_hole_ahead_of_the_tail_is_named_and_passed(redis_url: str, tenant: str) -> None:
    """The same under a live subscription: what is whole is told, then the gap, and live events go on; nothing spins."""
    channel = parse_channel(tenant, ROOM)
    async with (
        running_node(redis_url) as node,
        running_node(redis_url) as other,
        client(node.ws_url, token("a", tenant)) as reader,
    ):
        await reader.subscribe(ROOM)
        log = node.hub.log
        with deaf(log):
            ids = [
                (await other.hub.log.append(Draft(channel, "chat.message", b'{"text":"x"}', Actor("user", "a")))).id
                for _ in range(5)
            ]
            await log.redis.xdel(log.keys.of(channel).stream, ids[2])
        told = await reader.expect("channel.subscribed", channel=ROOM)
        reads = log.read_count
        await log.append(Draft(channel, "chat.message", b'{"text":"x"}', Actor("user", "a")))
        (event,) = await reader.events(1)
        spun = log.read_count - reads

    assert told["payload"]["gap"] == {"reason": "trimmed", "from_seq": 3, "to_seq": 3}
    assert [frame["seq"] for frame in reader.seen if "seq" in frame] == [1, 2, 6]
    assert event["seq"] == 6
    assert spun < 20
