"""A replica that lags is promoted: what it never saw is lost, and everybody who saw it is told so, never left in silence."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from streams.channel import parse_channel
from streams.envelope import Actor, Draft
from streams.errors import LogUnavailable
from streams.redis.log import Log
from support.nodes import Node, running_node, token
from support.replica import Pair, replicated
from support.socket_client import SocketClient, client

ROOM = "conversation:1"


async def write(url: str, tenant: str, texts: list[str]) -> None:
    """Append straight to one server, as another node would."""
    log = await Log.open(url)
    channel = parse_channel(tenant, ROOM)
    for text in texts:
        await log.append(Draft(channel, "chat.message", json.dumps({"text": text}).encode(), Actor("user", "late")))
    await log.close()


async def say_at_last(socket: SocketClient, text: str, id_: str) -> dict[str, Any]:
    """Send until it is stored."""
    while True:
        await socket.send("chat.message", {"text": text}, ROOM, id_)
        while (frame := await socket.next()).get("re") != id_:
            pass
        if frame["type"] == "message.received":
            payload: dict[str, Any] = frame["payload"]
            return payload
        assert frame["payload"]["code"] == 4013, frame


async def until_back(node: Node) -> None:
    """Until the node's log answers."""
    while True:
        try:
            await node.hub.log.ping()
        except LogUnavailable:
            await asyncio.sleep(0)
        else:
            return


async def lose_half(pair: Pair, alice: SocketClient) -> tuple[list[dict[str, Any]], str]:
    """Ten events of which the replica gets five; returns all ten as alice saw them, and the epoch."""
    subscribed = await alice.subscribe(ROOM, state=True)
    for number in range(1, 6):
        await alice.say(ROOM, f"kept {number}")
    await pair.catch_up()
    pair.lag()
    for number in range(6, 11):
        await alice.say(ROOM, f"lost {number}")
    while len(seen := [frame for frame in alice.seen if "seq" in frame]) < 10:
        await alice.next()
    warm = await alice.answer("channel.state", {}, ROOM)  # the node has folded them all
    assert warm["payload"]["state_at"] == 10
    return seen, subscribed["epoch"]


def texts_of(state: dict[str, Any]) -> list[str]:
    return [message["text"] for message in state["messages"]]


@pytest.mark.parametrize("later", [0, 3, 5, 8], ids=["nothing new", "fewer new", "as many new", "more new"])
async def test_a_stale_promoted_replica_ends_in_an_explicit_answer(tenant: str, later: int) -> None:
    """Live or coming back, with seq or without: whoever saw lost events gets a gap, also where new ones bear the same seqs."""
    async with replicated() as pair, running_node(pair.front.url) as node:
        async with (
            client(node.ws_url, token("alice", tenant)) as alice,
            client(node.ws_url, token("q", tenant)) as quiet,
        ):
            await quiet.subscribe(ROOM)  # follows, and never writes
            seen, epoch = await lose_half(pair, alice)
            await quiet.events(10)
            new = [f"new {number}" for number in range(later)]
            pair.front.is_refusing = True  # the node is away while the new master takes events from others
            await pair.fail_over()
            await write(pair.replica.url, tenant, new)
            pair.front.is_refusing = False

            told = await alice.expect("channel.subscribed", channel=ROOM)
            told_quiet = await quiet.expect("channel.subscribed", channel=ROOM)
            await until_back(node)
            async with client(node.ws_url, token("writer", tenant)) as writer:
                stored = await say_at_last(writer, "after", "after-1")
            (event,) = await alice.events(1)
            (event_quiet,) = await quiet.events(1)
            answers = [await resume(node, tenant, cursor) for cursor in lost_cursors(seen, epoch)]
            kept = await resume(node, tenant, {"after": seen[3]["id"], "seq": 4, "epoch": epoch})
            history = await alice.answer("channel.history", {"after": seen[7]["id"]}, ROOM)

    for frame in (told, told_quiet):
        assert "re" not in frame
        assert frame["payload"]["gap"]["reason"] == "cursor_unknown"
        assert frame["payload"]["recovered"] is False
        assert texts_of(frame["payload"]["state"]) == [f"kept {n}" for n in range(1, 6)] + new
        assert frame["payload"]["state_at"] == 5 + later
    assert event == event_quiet
    assert (event["seq"], event["id"]) == (6 + later, stored["id"])
    for answer in answers:
        assert (answer["recovered"], answer["gap"]["reason"]) == (False, "cursor_unknown")
        assert texts_of(answer["state"]) == [f"kept {n}" for n in range(1, 6)] + new + ["after"]
    assert (kept["recovered"], kept["replay"]) == (True, later + 2)
    assert history["payload"]["gap"]["reason"] == "cursor_unknown"


def lost_cursors(seen: list[dict[str, Any]], epoch: str) -> list[dict[str, Any]]:
    """Cursors at events that are gone, with everything an SDK sends, with less, and with the ID alone."""
    return [
        {"after": seen[9]["id"], "seq": 10, "epoch": epoch},
        {"after": seen[5]["id"], "seq": 6, "epoch": epoch},
        {"after": seen[7]["id"], "seq": 8},
        {"after": seen[7]["id"]},
    ]


async def resume(node: Node, tenant: str, cursor: dict[str, Any]) -> dict[str, Any]:
    """The hub's answer to a client that comes back with this cursor."""
    async with client(node.ws_url, token("back", tenant)) as back:
        return await back.subscribe(ROOM, **cursor)


async def test_a_command_whose_event_was_lost_is_stored_again(tenant: str) -> None:
    """The command ids are lost with the events: the same id sent again is no duplicate, and is stored once."""
    async with replicated() as pair, running_node(pair.front.url) as node:
        async with client(node.ws_url, token("alice", tenant)) as alice:
            await lose_half(pair, alice)
            await alice.send("chat.message", {"text": "lost too"}, ROOM, "cmd-1")
            await alice.expect("message.received", re="cmd-1")
            await pair.fail_over()
            again = await say_at_last(alice, "lost too", "cmd-1")
            once_more = await say_at_last(alice, "lost too", "cmd-1")

    assert (again["seq"], again["duplicate"]) == (6, False)
    assert once_more == again | {"duplicate": True}


async def test_a_failover_that_lost_nothing_tells_nobody(tenant: str) -> None:
    """The replica had everything: the live subscriber just goes on, and the next event follows without a gap."""
    async with replicated() as pair, running_node(pair.front.url) as node:
        async with client(node.ws_url, token("alice", tenant)) as alice:
            await alice.subscribe(ROOM)
            await alice.send("chat.message", {"text": "one"}, ROOM)
            await alice.events(1)
            await pair.catch_up()
            await pair.fail_over()
            await until_back(node)
            async with client(node.ws_url, token("writer", tenant)) as writer:
                await say_at_last(writer, "two", "two")
            (event,) = await alice.events(1)
            told = [frame for frame in alice.seen if frame["type"] == "channel.subscribed" and "re" not in frame]

    assert (event["seq"], event["payload"]["text"]) == (2, "two")
    assert [frame["channel"] for frame in told] == ["user:alice"]
