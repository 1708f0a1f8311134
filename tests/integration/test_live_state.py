"""`live_state`: who comes back with a cursor, and keeps the state there, is sent what is live of it (docs/protocol.md#state)."""

from __future__ import annotations

from typing import Any

import pytest

from support.nodes import running_node, token
from support.socket_client import SocketClient, client

PLACE = "conversation:1"
LIVE_FIELDS = {"uploads", "open_messages", "typing", "read_markers", "presence", "active_runs", "pending_requests"}


async def cursor_after(socket: SocketClient, place: str, text: str) -> dict[str, Any]:
    told = await socket.subscribe(place, presence=True)
    stored = (await socket.say(place, text))["payload"]
    return {"after": stored["id"], "seq": stored["seq"], "epoch": told["epoch"]}


async def test_a_recovered_resume_is_sent_what_is_live(redis_url: str, tenant: str) -> None:
    """Its events are replayed as ever; the fold of them is not sent again."""
    async with running_node(redis_url) as node, client(node.ws_url, token("bob", tenant)) as bob:
        cursor = await cursor_after(bob, PLACE, "seen")
        await bob.event("channel.presence", user="bob")
        await bob.say(PLACE, "missed")
        await bob.answer("chat.typing", {"state": "start"}, PLACE)
        async with client(node.ws_url, token("al", tenant), capabilities=["live_state"]) as back:
            told = await back.subscribe(PLACE, **cursor)
            (missed,) = await back.events(1)

    assert (told["recovered"], told["state_scope"]) == (True, "live")
    assert set(told["state"]) == LIVE_FIELDS
    assert told["state"]["typing"] == ["bob"]
    assert [person["user"] for person in told["state"]["presence"]] == ["bob"]
    assert missed["payload"]["text"] == "missed"


@pytest.mark.parametrize("cursor", [{}, {"after": "1-1", "seq": 7}, {"rewind": 1}], ids=["none", "gap", "rewind"])
async def test_who_has_no_state_gets_the_whole(redis_url: str, tenant: str, cursor: dict[str, Any]) -> None:
    """Without a cursor, after a gap, and for a look back."""
    async with running_node(redis_url) as node, client(node.ws_url, token("bob", tenant)) as bob:
        await cursor_after(bob, PLACE, "seen")
        async with client(node.ws_url, token("al", tenant), capabilities=["live_state"]) as back:
            told = await back.subscribe(PLACE, **cursor)

    assert told["state_scope"] == "full"
    assert [message["text"] for message in told["state"]["messages"]] == ["seen"]


async def test_without_the_capability_nothing_changes(redis_url: str, tenant: str) -> None:
    """The whole state, and no word of its scope."""
    async with running_node(redis_url) as node, client(node.ws_url, token("bob", tenant)) as bob:
        cursor = await cursor_after(bob, PLACE, "seen")
        async with client(node.ws_url, token("al", tenant)) as back:
            told = await back.subscribe(PLACE, **cursor)

    assert "state_scope" not in told
    assert told["state"]["count"] == 1


async def test_an_open_run_is_live(redis_url: str, tenant: str) -> None:
    """A run that waits for its agent is shown as in the whole state."""
    async with running_node(redis_url) as node, client(node.ws_url, token("bob", tenant)) as bob:
        cursor = await cursor_after(bob, PLACE, "seen")
        await bob.answer("chat.message", {"text": "summarise", "agent": "nobody"}, PLACE)
        whole = (await bob.answer("channel.state", {}, PLACE))["payload"]["state"]
        async with client(node.ws_url, token("al", tenant), capabilities=["live_state"]) as back:
            told = await back.subscribe(PLACE, **cursor)

    assert told["state"]["active_runs"] == whole["active_runs"]
    assert told["state"]["pending_requests"] == whole["pending_requests"]


@pytest.mark.parametrize("place", ["document:1", "agent:a", "team:1"])
async def test_each_kind_of_channel_shows_its_own_live_fields(redis_url: str, tenant: str, place: str) -> None:
    """They are the live fields of the whole state, with equal values."""
    async with running_node(redis_url) as node, client(node.ws_url, token("bob", tenant)) as bob:
        told = await bob.subscribe(place, presence=True)
        if place == "team:1":
            await bob.answer("channel.configure", {"members": {"add": ["bob", "carol"]}}, place)
        await bob.event("channel.presence", user="bob")
        whole = (await bob.answer("channel.state", {}, place))["payload"]["state"]
        cursor = {"after": "0", "seq": 0, "epoch": told["epoch"]}
        async with client(node.ws_url, token("al", tenant), capabilities=["live_state"]) as back:
            told = await back.subscribe(place, **cursor)

    assert told["state_scope"] == "live"
    assert told["state"] == {name: whole[name] for name in told["state"]}
    assert "metadata" not in told["state"]
    assert [person["user"] for person in told["state"]["presence"]] == ["bob"]
