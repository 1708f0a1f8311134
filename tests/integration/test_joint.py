"""The joint of replay and live over real sockets: while others write without pause, the receipt parts them exactly."""

from __future__ import annotations

import asyncio

from streams.channel import parse_channel
from streams.envelope import Actor, Draft
from support.nodes import Node, running_node, token
from support.socket_client import client

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
