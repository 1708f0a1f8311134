"""Sentences of the wire contract that only a client beside a real node can hold it to."""

from __future__ import annotations

from typing import Any

from hub.node.fanout import HELD_EVENTS_MAX, Sub
from streams.channel import parse_channel
from support.nodes import Node, running_node, token
from support.redis_server import RedisServer
from support.socket_client import SocketClient, client, raw_client
from support.until import until

CHANNEL = "conversation:1"
KEPT = HELD_EVENTS_MAX + 10
"""More events than a node holds encoded: who stands before them must ask the log."""


async def say(someone: SocketClient, count: int) -> list[str]:
    """The IDs of `count` messages."""
    return [(await someone.say(CHANNEL, f"text {number}"))["payload"]["id"] for number in range(count)]


async def say_once_back(someone: SocketClient, text: str) -> Any:
    """The reply to a message that is repeated until Redis takes it."""
    while (answer := await someone.say(CHANNEL, text))["type"] != "message.received":
        assert answer["payload"]["code"] == 4013
    return answer


def subscription_of(node: Node, user: str) -> Sub:
    """A person's place in the channel."""
    (connection,) = [one for one in node.hub.connections if one.session.principal.user == user]
    return connection.subscriptions[CHANNEL]


async def stream_of(node: Node, tenant: str) -> Any:
    return node.hub.log.keys.of(parse_channel(tenant, CHANNEL)).stream


async def test_leaving_what_is_no_channel_is_refused_by_its_name(redis_url: str, tenant: str) -> None:
    """One answer for each channel named: an error says which of them it answers."""
    async with running_node(redis_url) as node, client(node.ws_url, token("a", tenant)) as alice:
        id_ = await alice.send("channel.unsubscribe", {"channels": ["room:1", CHANNEL]})
        refused = await alice.expect("connection.error", re=id_)
        left = await alice.expect("channel.unsubscribed", re=id_)

    assert (refused["channel"], refused["payload"]["code"], left["channel"]) == ("room:1", 4006, CHANNEL)


async def test_presence_where_one_is_not_says_what_is_missing(redis_url: str, tenant: str) -> None:
    """4021 names the field and the present state."""
    async with running_node(redis_url) as node, client(node.ws_url, token("a", tenant)) as alice:
        refused = await alice.answer("channel.presence", {"status": "away"}, CHANNEL)

    assert refused["payload"]["details"] == [{"field": "channel", "problem": "is not subscribed"}]


async def test_a_status_is_told_also_when_it_is_the_present_one(redis_url: str, tenant: str) -> None:
    """`channel.presence` is delivered as it was sent: who has joined and says `active` is heard."""
    async with running_node(redis_url) as node, client(node.ws_url, token("a", tenant)) as alice:
        await alice.subscribe(CHANNEL, presence=True)
        await alice.expect("channel.presence")
        await alice.answer("channel.presence", {"status": "active"}, CHANNEL)
        told = await alice.expect("channel.presence")

    assert told["payload"] == {"user": "a", "status": "active", "devices": 1}


async def test_a_channel_named_with_its_cursor_and_among_the_channels_goes_on_at_the_cursor(
    redis_url: str, tenant: str
) -> None:
    """The wishes of the one are joined with the place of the other; a place of its own comes before."""
    async with running_node(redis_url) as node, client(node.ws_url, token("b", tenant)) as bob:
        ids = await say(bob, 3)
        cursors = {CHANNEL: {"after": ids[1], "seq": 2}}
        for item, seqs in (
            (CHANNEL, [3]),
            ({"channel": CHANNEL, "state": False}, [3]),
            ({"channel": CHANNEL, "after": "0"}, [1, 2, 3]),
            ({"channel": CHANNEL, "rewind": 2}, [2, 3]),
        ):
            async with raw_client(node.ws_url) as alice:
                again = {"token": token("a", tenant), "versions": [1], "cursors": cursors, "channels": [item]}
                await alice.send("connection.reconnect", again)
                subscribed = await alice.expect("channel.subscribed", channel=CHANNEL)
                receipt = await alice.expect("channel.resumed", channel=CHANNEL)

            replayed = [frame["seq"] for frame in alice.seen if "seq" in frame]
            assert (replayed, receipt["payload"]["count"]) == (seqs, len(seqs))
            assert ("state" in subscribed["payload"]) is (item == CHANNEL or "state" not in item)


async def test_a_cursor_whose_entry_was_taken_out_is_resumed(redis_url: str, tenant: str) -> None:
    """The entry behind it has the next seq, so nothing is missing; a reader that has not seen the entry is told the hole."""
    async with running_node(redis_url) as node, client(node.ws_url, token("a", tenant)) as alice:
        ids = await say(alice, 5)
        await node.hub.log.redis.xdel(await stream_of(node, tenant), ids[2])
        answer = await alice.subscribe(CHANNEL, after=ids[2], seq=3)
        events = await alice.events(2)
        told = await alice.subscribe(CHANNEL, after=ids[1], seq=2)

    assert (answer["recovered"], [event["seq"] for event in events]) == (True, [4, 5])
    assert told["gap"] == {"reason": "trimmed", "from_seq": 3, "to_seq": 3}


async def test_a_stream_trimmed_to_nothing_is_not_a_new_one(redis_url: str, tenant: str) -> None:
    """Redis keeps the last ID of an emptied stream, whoever emptied it: its head stands, and who is behind is told."""
    async with running_node(redis_url) as node, client(node.ws_url, token("a", tenant)) as alice:
        ids = await say(alice, 3)
        epoch = (await alice.subscribe(CHANNEL))["epoch"]
        await node.hub.log.redis.xtrim(await stream_of(node, tenant), maxlen=0, approximate=False)
        at_head = await alice.subscribe(CHANNEL, after=ids[2], seq=3, epoch=epoch)
        behind = await alice.subscribe(CHANNEL, after=ids[0], seq=1, epoch=epoch)
        following = await alice.say(CHANNEL, "next")

    assert (at_head["recovered"], at_head["head"]) == (True, {"id": ids[2], "seq": 3})
    assert behind["gap"] == {"reason": "trimmed", "from_seq": 2, "to_seq": 3}
    assert (following["payload"]["seq"], at_head["epoch"]) == (4, epoch)


async def test_history_between_any_two_times(redis_url: str, tenant: str) -> None:
    """Times before 1970 are times: nothing is older. Backwards too, nothing older than asked is promised."""
    async with running_node(redis_url) as node, client(node.ws_url, token("a", tenant)) as alice:
        ids = await say(alice, 3)
        old = "1960-01-01T00:00:00.000Z"
        pages = [
            (await alice.answer("channel.history", query, CHANNEL))["payload"]
            for query in ({"to_time": old}, {"to_time": old, "before": ids[2]}, {"from_time": old, "before": ids[2]})
        ]

    assert [[event["seq"] for event in page["events"]] for page in pages] == [[], [], [1, 2]]
    assert [(page["next"], page["gap"]) for page in pages] == [(None, None)] * 3


async def test_of_cursors_that_come_too_fast_the_newest_is_told(redis_url: str, tenant: str) -> None:
    """Each frame is answered once, those above the rate as dropped; where the client stands in the end, everybody sees."""
    document = "document:1"
    async with (
        running_node(redis_url, rate_limits={"cursor": (4.0, 5.0)}) as node,
        client(node.ws_url, token("a", tenant)) as alice,
        client(node.ws_url, token("b", tenant)) as bob,
    ):
        await bob.subscribe(document)
        await alice.subscribe(document)
        for number in range(40):
            await alice.send("document.cursor", {"selection": number}, document, id_=f"c{number}")
        acks = [await alice.expect("ack") for _ in range(40)]
        told = [(await bob.expect("document.cursor"))["payload"]["selection"]]
        while told[-1] != 39:
            told.append((await bob.expect("document.cursor"))["payload"]["selection"])

    answers = {ack["re"]: ack["payload"] for ack in acks}
    assert [answers[f"c{number}"] for number in range(5)] == [{}] * 5
    assert (len(answers), answers["c39"]) == (40, {"dropped": True})
    assert told == sorted(told)
    assert len(told) < 40


async def test_a_refusal_by_what_is_away_names_the_channel(own_redis: RedisServer, tenant: str) -> None:
    """An error says where it was refused, whether or not the command needed the log."""
    async with running_node(own_redis.url) as node, client(node.ws_url, token("a", tenant)) as alice:
        await alice.say(CHANNEL, "before")
        own_redis.kill()
        answers = [await alice.answer(name, {}, CHANNEL) for name in ("channel.history", "channel.state")]

    assert [(answer["channel"], answer["payload"]["code"]) for answer in answers] == [(CHANNEL, 4013)] * 2


async def test_a_subscription_that_cannot_start_over_stays_as_it_was(own_redis: RedisServer, tenant: str) -> None:
    """A refused command changes nothing: what was followed before is followed on, without a hole."""
    async with (
        running_node(own_redis.url) as node,
        client(node.ws_url, token("a", tenant)) as alice,
        client(node.ws_url, token("b", tenant)) as bob,
    ):
        await alice.subscribe(CHANNEL)
        await alice.say(CHANNEL, "before")
        await alice.events(1)
        with own_redis.killed():
            refused = await alice.answer("channel.subscribe", {"channels": [{"channel": CHANNEL, "after": "0"}]})
        answer = await say_once_back(bob, "after")
        (event,) = await alice.events(1)
        again = await alice.subscribe(CHANNEL, after="0")

    assert (refused["channel"], refused["payload"]["code"]) == (CHANNEL, 4013)
    assert (event["seq"], event["payload"]["text"]) == (2, "after")
    assert (again["recovered"], again["replay"]) == (True, answer["payload"]["seq"])


async def test_a_catch_up_that_lost_redis_goes_on_when_it_is_back(own_redis: RedisServer, tenant: str) -> None:
    """A reader behind when the log went away gets all of it with the next event, though its socket was never full again."""
    async with (
        running_node(own_redis.url) as node,
        client(node.ws_url, token("a", tenant)) as alice,
        client(node.ws_url, token("b", tenant)) as bob,
    ):
        await alice.subscribe(CHANNEL)
        await say(bob, KEPT)
        await alice.events(KEPT)
        sub = subscription_of(node, "a")
        with own_redis.killed():
            sub.begin("0", 0)
            node.hub.recovery.note_behind(sub)
            await until(lambda: not node.hub.recovery.is_catching_up(sub.connection))
        await say_once_back(bob, "after")
        events = await alice.events(KEPT + 1)

    assert [event["seq"] for event in events] == list(range(1, KEPT + 2))
