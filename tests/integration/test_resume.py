"""Resume over real sockets and a real Redis: exactly what was missed, or an explicit gap."""

from __future__ import annotations

from support.nodes import running_node, token
from support.socket_client import client, raw_client


async def test_a_cut_client_comes_back_to_exactly_what_it_missed(redis_url: str, tenant: str) -> None:
    """Everything after the cursor is replayed once, in order, and the receipt says so."""
    async with running_node(redis_url) as node, client(node.ws_url, token("bob", tenant)) as bob:
        async with client(node.ws_url, token("alice", tenant)) as alice:
            subscribed = await alice.subscribe("conversation:1")
            await bob.say("conversation:1", "one")
            (seen,) = await alice.events(1)
            alice.reset()
        for number in range(250):
            await bob.send("chat.message", {"text": f"missed {number}"}, "conversation:1")
        last = await bob.say("conversation:1", "last")

        cursor = {"after": seen["id"], "seq": seen["seq"], "epoch": subscribed["epoch"]}
        async with client(node.ws_url, token("alice", tenant)) as back:
            answer = await back.subscribe("conversation:1", **cursor)
            missed = await back.events(251)
            receipt = await back.expect("channel.resumed", channel="conversation:1")

    assert (answer["recovered"], answer["gap"], answer["replay"]) == (True, None, 251)
    assert [event["seq"] for event in missed] == list(range(2, 253))
    assert missed[-1]["id"] == last["payload"]["id"]
    assert receipt["payload"] == {"from_seq": 2, "to_seq": 252, "count": 251, "gap": None}


async def test_reconnect_resumes_on_another_node_in_one_round_trip(redis_url: str, tenant: str) -> None:
    """`connection.reconnect` authenticates and resumes every channel, whichever node it reaches."""
    async with running_node(redis_url) as first, running_node(redis_url) as second:
        async with (
            client(first.ws_url, token("bob", tenant)) as bob,
            client(first.ws_url, token("al", tenant)) as alice,
        ):
            answer = await alice.subscribe("conversation:1")
            await bob.say("conversation:1", "seen")
            (seen,) = await alice.events(1)
            await bob.say("conversation:1", "missed")

            cursors = {"conversation:1": {"after": seen["id"], "seq": 1, "epoch": answer["epoch"]}}
            async with client(second.ws_url, token("al", tenant)) as back:
                again = {"token": token("al", tenant), "versions": [1], "cursors": cursors}
                refused = await back.answer("connection.reconnect", again)
                assert refused["payload"]["code"] == 4023
            async with raw_client(second.ws_url) as back:
                await back.send("connection.reconnect", again)
                await back.expect("connection.ack")
                await back.expect("channel.subscribed", channel="conversation:1")
                (missed,) = await back.events(1)

    assert (missed["seq"], missed["payload"]["text"]) == (2, "missed")


async def test_any_two_readers_see_the_same_bytes(redis_url: str, tenant: str) -> None:
    """Live, replayed and over the history, one seq is one sequence of bytes."""
    async with running_node(redis_url) as node, client(node.ws_url, token("a", tenant)) as live:
        await live.subscribe("conversation:1")
        await live.say("conversation:1", 'ünïcode \u2028 "quoted" 🎉')
        await live.events(1)
        async with client(node.ws_url, token("b", tenant)) as late:
            await late.subscribe("conversation:1", after="0")
            await late.events(1)

    (first,) = [raw for raw in live.raw if raw.startswith('{"id"')]
    (second,) = [raw for raw in late.raw if raw.startswith('{"id"')]
    assert first == second


async def test_a_vanished_stream_is_a_new_epoch_never_empty_and_up_to_date(redis_url: str, tenant: str) -> None:
    """After DEL a live subscriber and a resuming one are both told that history is lost."""
    async with running_node(redis_url) as node, client(node.ws_url, token("a", tenant)) as live:
        subscribed = await live.subscribe("conversation:1")
        await live.say("conversation:1", "before")
        (seen,) = await live.events(1)
        keys = node.hub.log.keys.of(next(c for c in node.hub.fanouts if c.wire == "conversation:1"))
        await node.hub.log.redis.delete(keys.stream, keys.meta)
        await live.say("conversation:1", "after")
        told = await live.expect("channel.subscribed", channel="conversation:1")

        async with client(node.ws_url, token("b", tenant)) as back:
            cursor = {"after": seen["id"], "seq": 1, "epoch": subscribed["epoch"]}
            answer = await back.subscribe("conversation:1", **cursor)

    assert "re" not in told
    assert told["payload"]["gap"]["reason"] == "epoch_changed"
    assert told["payload"]["state"]["count"] == 1
    assert (answer["recovered"], answer["gap"]["reason"]) == (False, "epoch_changed")
    assert answer["epoch"] != subscribed["epoch"]


async def test_a_trimmed_cursor_gets_a_gap_with_its_range_and_the_state(redis_url: str, tenant: str) -> None:
    """The trimmed range is named, and the state stands in for it."""
    async with running_node(redis_url) as node, client(node.ws_url, token("a", tenant)) as live:
        ids = [(await live.say("conversation:1", f"m{n}"))["payload"]["id"] for n in range(1, 6)]
        subscribed = await live.subscribe("conversation:1")
        channel = next(c for c in node.hub.fanouts if c.wire == "conversation:1")
        await node.hub.log.replay.trim(channel, ids[2])

        lost = await live.subscribe("conversation:1", after=ids[0], seq=1, epoch=subscribed["epoch"], state=False)
        unbroken = await live.subscribe("conversation:1", after=ids[2], seq=3, epoch=subscribed["epoch"])

    assert lost["gap"] == {"reason": "trimmed", "from_seq": 2, "to_seq": 3}
    assert lost["state"]["count"] == 5
    assert (unbroken["recovered"], unbroken["replay"]) == (True, 2)
    assert unbroken["floor"] == {"id": ids[2], "seq": 3}
