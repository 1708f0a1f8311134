"""Permissions over every path: the catalogue by actions, on sockets, HTTP, streams, reconnects and after a refresh."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import Any

import pytest

from streams.events import CATALOGUE
from streams.events.declaration import Action
from support.nodes import Node, running_node, token
from support.payloads import short_payload
from support.socket_client import SocketClient, client, raw_client

INBOUND = sorted(event.name for event in CATALOGUE.values() if event.is_inbound and event.is_served)
HANDSHAKES = {"connection.init", "connection.reconnect"}
WITH_CHANNEL = [name for name in INBOUND if CATALOGUE[name].kinds]
GRANTS = [action.value for action in Action]


def wire_of(name: str) -> str:
    """A channel of a kind the event may be sent to."""
    kind = min(kind.value for kind in CATALOGUE[name].kinds)
    return f"{kind}:other" if kind == "user" else f"{kind}:blue"


def only(action: str) -> dict[str, list[str]]:
    """Grants of one action everywhere."""
    return {"*": [action]}


async def codes_over_the_socket(node: Node, tenant: str, action: str) -> dict[str, int]:
    """Event → code (0: none) of one valid command of each type, by somebody who may do only `action`."""
    codes = {}
    async with client(node.ws_url, token(f"by-{action}", tenant, only(action))) as a:
        for name in WITH_CHANNEL:
            answer = await a.answer(name, short_payload(CATALOGUE[name]), wire_of(name))
            codes[name] = answer["payload"].get("code", 0) if answer["type"] == "connection.error" else 0
    return codes


@pytest.mark.parametrize("action", GRANTS)
async def test_over_the_socket_an_event_asks_for_its_own_action(redis_url: str, tenant: str, action: str) -> None:
    """4003 exactly where the action is another; a new event without a rule is 4003 for nobody and fails here."""
    async with running_node(redis_url) as node:
        codes = await codes_over_the_socket(node, tenant, action)

    assert all(CATALOGUE[name].action is not None for name in WITH_CHANNEL)
    wrong = {name: code for name, code in codes.items() if (code == 4003) != (CATALOGUE[name].action != action)}
    assert {name: code for name, code in wrong.items() if not _is_own_rule(name, code, action)} == {}


def _is_own_rule(name: str, code: int, action: str) -> bool:
    """Rules about whose thing it is come on top of the table, and are 4003 as well: never the other way round."""
    return code == 4003 and CATALOGUE[name].action == action and name in OWN_RULES


OWN_RULES = {"team.notification.read", "chat.configure", "chat.message", "chat.regenerate"}
"""Only one's own inbox; settings and messages that name an agent need `invoke` too; regenerating invites one."""


@pytest.mark.parametrize("action", GRANTS)
async def test_over_http_an_event_asks_for_the_same_action(redis_url: str, tenant: str, action: str) -> None:
    """`POST …/events` with each type: 403 exactly where the socket says 4003, or it is for sockets only."""
    async with running_node(redis_url) as node, node.http(token(f"by-{action}", tenant, only(action))) as http:
        over_socket = await codes_over_the_socket(node, tenant, action)
        told = {}
        for name in WITH_CHANNEL:
            body = {"type": name, "payload": short_payload(CATALOGUE[name])}
            told[name] = await http.post(f"/v1/channels/{wire_of(name)}/events", json=body)
    sockets_only = {name for name, answer in told.items() if "only be sent over a WebSocket" in answer.text}

    refused = {name for name, answer in told.items() if answer.status_code == 403 and answer.json()["code"] == 4003}
    assert refused == {name for name, code in over_socket.items() if code == 4003} - sockets_only
    assert not [name for name, answer in told.items() if answer.status_code >= 500 and answer.json()["code"] == 4030]


READS = ["events", "state", "presence", "stream"]


@pytest.mark.parametrize("path", READS)
@pytest.mark.parametrize("action", GRANTS)
async def test_reading_over_http_asks_for_read(redis_url: str, tenant: str, path: str, action: str) -> None:
    """Pages, long polls, state, presence and streams alike; a longer pattern that takes it away decides."""
    own = only(action) | {"team:secret": []}
    async with running_node(redis_url) as node, node.http(token("a", tenant, own)) as http:
        codes = []
        for channel in ("team:blue", "team:secret"):
            async with http.stream("GET", f"/v1/channels/{channel}/{path}") as answer:
                codes.append(answer.status_code)

    assert codes == [200 if action == "read" else 403, 403]


@pytest.mark.parametrize("action", GRANTS)
async def test_subscribing_asks_for_read_each_channel_anew(redis_url: str, tenant: str, action: str) -> None:
    """In init, in subscribe and in reconnect with a cursor from when it was allowed."""
    expected = 0 if action == "read" else 4003
    async with AsyncExitStack() as stack:
        node = await stack.enter_async_context(running_node(redis_url))
        before = await stack.enter_async_context(client(node.ws_url, token("a", tenant)))
        said = await before.answer("team.activity", short_payload(CATALOGUE["team.activity"]), "team:blue")
        cursor = {"after": said["payload"]["id"], "seq": 1}
        text = token("a", tenant, only(action) | {"team:red": []})
        codes = [
            await handshake(stack, node, "connection.init", {"token": text, "channels": ["team:blue", "team:red"]}),
            await handshake(
                stack, node, "connection.reconnect",
                {"token": text, "session_id": "s", "cursors": {"team:blue": cursor, "team:red": cursor}},
            ),
        ]  # fmt: skip # a table
        a = await stack.enter_async_context(client(node.ws_url, text))
        answers = [await a.answer("channel.subscribe", {"channels": [name]}) for name in ("team:blue", "team:red")]
        codes.append({frame["channel"]: frame["payload"].get("code", 0) for frame in answers})

    assert codes == [{"team:blue": expected, "team:red": 4003}] * 3


async def handshake(stack: AsyncExitStack, node: Node, type_: str, payload: dict[str, Any]) -> dict[str, int]:
    """Channel → code (0: followed) of a handshake that names two."""
    a: SocketClient = await stack.enter_async_context(raw_client(node.ws_url))
    await a.answer(type_, payload | {"versions": [1]})
    codes: dict[str, int] = {}
    while len(codes) < 2:
        frame = await a.next()
        if str(frame.get("channel", "")).startswith("team:"):
            codes[frame["channel"]] = frame["payload"].get("code", 0)
    return codes


async def test_after_a_refresh_every_command_is_judged_by_the_new_token(redis_url: str, tenant: str) -> None:
    """Narrowed to nothing, each type of the catalogue is refused; widened again, each is judged anew."""
    async with running_node(redis_url) as node, client(node.ws_url, token("a", tenant)) as a:
        await a.answer("connection.refresh", {"token": token("a", tenant, {})})
        narrowed = {
            name: (await a.answer(name, short_payload(CATALOGUE[name]), wire_of(name)))["payload"].get("code", 0)
            for name in WITH_CHANNEL
        }
        await a.answer("connection.refresh", {"token": token("a", tenant)})
        widened = await a.answer("chat.message", {"text": "hi"}, "conversation:blue")

    assert narrowed == dict.fromkeys(WITH_CHANNEL, 4003)
    assert widened["type"] == "message.received"


async def test_everybody_reads_their_own_inbox_and_nobody_elses(redis_url: str, tenant: str) -> None:
    """Without any grant: one's own `user:` channel, by every way of reading; writing to a person asks `manage` on all."""
    async with (
        running_node(redis_url) as node,
        client(node.ws_url, token("a", tenant, {})) as a,
        node.http(token("a", tenant, {})) as http,
    ):
        codes = {}
        for name in ("user:a", "user:b"):
            answers = [
                await a.answer("channel.subscribe", {"channels": [name]}),
                await a.answer("channel.history", {}, name),
                await a.answer("channel.state", {}, name),
            ]
            codes[name] = [frame["payload"].get("code", 0) for frame in answers]
            codes[name] += [(await http.get(f"/v1/channels/{name}/{path}")).status_code for path in READS[:3]]
        body = {"type": "team.notification", "payload": {"kind": "k", "title": "t"}}
        sent = [(await http.post(f"/v1/users/{user}/events", json=body)).status_code for user in ("a", "b")]

    assert codes == {"user:a": [0, 0, 0, 200, 200, 200], "user:b": [4003, 4003, 4003, 403, 403, 403]}
    assert sent == [403, 403]
