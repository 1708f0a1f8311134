"""Bad input over a real socket: each gets its code, and the node goes on."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import jwt
import pytest
from websockets.exceptions import ConnectionClosed

from support.nodes import SECRET, Node, running_node, token
from support.socket_client import SocketClient, client, raw_client

DEEP = "[" * 10_000 + "]" * 10_000
CHANNEL = "conversation:1"


@contextlib.asynccontextmanager
async def going_on(node: Node, tenant: str) -> AsyncIterator[None]:
    """Whatever happens inside, somebody else is served before and after, and nothing is appended."""
    async with client(node.ws_url, token("witness", tenant)) as witness:
        before = await witness.subscribe(CHANNEL)
    yield
    async with client(node.ws_url, token("witness", tenant)) as witness:
        after = await witness.subscribe(CHANNEL)
    assert after["head"]["seq"] == before["head"]["seq"]


def frame(**changes: Any) -> str:
    """A valid chat message with some fields changed; None leaves one out."""
    whole = {"type": "chat.message", "id": "m1", "channel": CHANNEL, "payload": {"text": "hi"}} | changes
    return json.dumps({name: value for name, value in whole.items() if value is not None})


BAD_FRAMES = {
    "not json": ("{", 4005),
    "a string": ('"hi"', 4005),
    "an empty array": ("[]", 4005),
    "nested 10,000 deep": (DEEP, 4005),
    "deep inside the payload": ('{"type":"chat.message","id":"m1","payload":{"text":' + DEEP + "}}", 4005),
    "no type": (frame(type=None), 4005),
    "type is a number": (frame(type=5), 4005),
    "unknown type": (frame(type="chat.nothing"), 4005),
    "a type of ours": (frame(type="message.received"), 4005),
    "no id": (frame(id=None), 4005),
    "id of 65 characters": (frame(id="x" * 65), 4005),
    "id with a space": (frame(id="a b"), 4005),
    "unknown frame field": (frame(extra=1), 4005),
    "no channel": (frame(channel=None), 4005),
    "channel with ..": (frame(channel="conversation:../x"), 4006),
    "channel with {": (frame(channel="conversation:{p00}"), 4006),
    "channel with NUL": (frame(channel="conversation:a\0b"), 4006),
    "channel with newline": (frame(channel="conversation:a\nb"), 4006),
    "channel too long": (frame(channel="conversation:" + "x" * 129), 4006),
    "unknown kind": (frame(channel="room:1"), 4006),
    "wrong kind": (frame(channel="team:1"), 4005),
    "payload is a list": (frame(payload=[]), 4005),
    "text missing": (frame(payload={}), 4005),
    "text is null": (frame(payload={"text": None}), 4005),
    "text too long": (frame(payload={"text": "x" * 32_769}), 4005),
    "text with NUL": (frame(payload={"text": "a\0b"}), 4005),
    "unknown payload field": (frame(payload={"text": "a", "x": 1}), 4005),
    "lone surrogate": ('{"type":"chat.message","id":"m1","channel":"conversation:1","payload":{"text":"\\ud800"}}', 4005),
    "a number beyond 2^63": (
        frame(type="channel.history", payload={"limit": 2**63}), 4005,
    ),
    "a number beyond 2^63 in free JSON": (
        frame(type="document.cursor", channel="document:1", payload={"selection": [2**64]}), 4005,
    ),
    "NaN": ('{"type":"document.cursor","id":"m1","channel":"document:1","payload":{"selection":NaN}}', 4005),
}  # fmt: skip # a table


@pytest.mark.parametrize("case", BAD_FRAMES)
async def test_a_bad_frame_gets_its_code(node: Node, tenant: str, case: str) -> None:
    """The connection stays open, nothing is stored, and the next frame is served."""
    text, code = BAD_FRAMES[case]
    async with going_on(node, tenant), client(node.ws_url, token("a", tenant)) as a:
        await a.send_raw(text)
        error = await a.expect("connection.error")
        heartbeat = await a.answer("connection.heartbeat")

    assert error["payload"]["code"] == code
    assert "retry" in error["payload"]
    assert heartbeat["type"] == "connection.heartbeat"


async def test_three_unreadable_messages_in_a_row_close(node: Node, tenant: str) -> None:
    """A client that speaks something else is sent away with the code."""
    async with going_on(node, tenant), client(node.ws_url, token("a", tenant)) as a:
        for _ in range(3):
            await a.send_raw("{")
        assert await a.closed() == 4005


async def test_a_message_over_the_limit_closes_with_1009(node: Node, tenant: str) -> None:
    """1 MB and one byte."""
    async with going_on(node, tenant), client(node.ws_url, token("a", tenant)) as a:
        await a.send_raw("x" * (1_048_576 + 1))
        assert await a.closed() == 1009


async def test_a_binary_message_closes_with_1003(node: Node, tenant: str) -> None:
    """Binary is for those who announced it."""
    async with going_on(node, tenant), client(node.ws_url, token("a", tenant)) as a:
        await a.send_raw(b"\0" * 40)
        assert await a.closed() == 1003


def signed(home: str, key: str = SECRET, **changes: Any) -> str:
    """A token with claims changed; None leaves one out."""
    claims = {"sub": "a", "tenant": home, "aud": "hub", "exp": 4_000_000_000, "grants": {}} | changes
    return jwt.encode({k: v for k, v in claims.items() if v is not None}, key, "HS256")


TOKENS = {
    "expired": ({"exp": 1_000_000_000}, 4002),
    "another audience": ({"aud": "elsewhere"}, 4001),
    "no expiry": ({"exp": None}, 4001),
    "not yet valid": ({"nbf": 3_900_000_000}, 4001),
    "another key": ({"key": "another-secret-of-more-than-32-bytes"}, 4001),
    "a user outside the grammar": ({"sub": "a b"}, 4001),
    "no tenant": ({"tenant": None}, 4001),
}


@pytest.mark.parametrize("case", TOKENS)
async def test_a_token_that_does_not_hold_closes_with_its_code(node: Node, tenant: str, case: str) -> None:
    """The error is sent after the upgrade, so that a browser sees it, and then the socket closes with the code."""
    changes, code = TOKENS[case]
    await refused(node, signed(tenant, **changes), code)


@pytest.mark.parametrize("text", ["", "nonsense", "a.b.c", "x" * 8_193])
async def test_what_is_not_a_token_is_4001_or_4005(node: Node, text: str) -> None:
    """A token of more than 8,192 characters does not even fit the payload."""
    await refused(node, text, 4005 if len(text) > 8_192 else 4001)


async def test_an_unsigned_token_is_4001(node: Node, tenant: str) -> None:
    """`alg: none` is never taken."""
    claims = {"sub": "a", "tenant": tenant, "aud": "hub", "exp": 4_000_000_000}
    await refused(node, jwt.encode(claims, None, "none"), 4001)


async def refused(node: Node, text: str, code: int) -> None:
    """A handshake with this token is refused with `code`; a refused handshake that may be mended stays open."""
    async with raw_client(node.ws_url) as a:
        error = await a.answer("connection.init", {"token": text, "versions": [1]})
        assert error["payload"]["code"] == code
        if code != 4005:
            assert await a.closed() == code


FIRST_FRAMES = {
    "something else first": ({"type": "chat.typing", "channel": CHANNEL, "payload": {"state": "start"}}, 4001),
    "an unknown version": ({"type": "connection.init", "id": "i", "payload": {"token": "T", "versions": [9]}}, 4014),
}


@pytest.mark.parametrize("case", FIRST_FRAMES)
async def test_a_wrong_first_frame_closes(node: Node, tenant: str, case: str) -> None:
    """Only init and reconnect open a session."""
    first, code = FIRST_FRAMES[case]
    async with going_on(node, tenant), raw_client(node.ws_url) as a:
        await a.send_raw(json.dumps(first).replace('"T"', json.dumps(token("a", tenant))))
        assert await a.closed() == code
    assert a.seen[0]["payload"]["code"] == code


async def test_silence_before_init_closes_with_4008(redis_url: str) -> None:
    """The handshake timeout."""
    async with running_node(redis_url, handshake_timeout_s=0.3) as node, raw_client(node.ws_url) as a:
        assert await a.closed() == 4008


async def test_silence_of_two_heartbeats_closes_with_4016(redis_url: str, tenant: str) -> None:
    """A client that says nothing is taken for dead."""
    async with running_node(redis_url, heartbeat_interval_s=0.3) as node, client(node.ws_url, token("a", tenant)) as a:
        assert await a.closed() == 4016


async def test_a_node_that_stood_still_does_not_take_its_clients_for_silent(redis_url: str, tenant: str) -> None:
    """It hears first what they said meanwhile; all of them would come back at once otherwise."""
    async with running_node(redis_url, heartbeat_interval_s=0.6) as node, client(node.ws_url, token("a", tenant)) as a:
        is_awake = asyncio.Event()
        for at_s, happens in ((0.1, partial(time.sleep, 2.0)), (0.4, is_awake.set)):  # a check comes before the second
            asyncio.get_running_loop().call_later(at_s, happens)
        await is_awake.wait()
        answer = await a.answer("connection.heartbeat", {})

    assert answer["type"] == "connection.heartbeat"


async def test_a_second_init_closes_with_4023(node: Node, tenant: str) -> None:
    """One session a socket."""
    async with client(node.ws_url, token("a", tenant)) as a:
        error = await a.answer("connection.init", {"token": token("a", tenant), "versions": [1]})
        assert error["payload"]["code"] == 4023
        assert await a.closed() == 4023


async def test_a_hundred_thousand_pings_are_answered_or_merged(node: Node, tenant: str) -> None:
    """RFC 6455 5.5.3: a pong for the newest ping is enough. The client is still served."""
    async with going_on(node, tenant), client(node.ws_url, token("a", tenant)) as a:
        transport = a.socket.transport
        ping = b"\x89\x84\0\0\0\0ping"
        for _ in range(100):
            transport.write(ping * 1_000)
            await asyncio.sleep(0)  # let the transport hand the kernel what it takes
        answered = await a.answer("connection.heartbeat")

    assert answered["type"] == "connection.heartbeat"


async def test_the_same_id_with_another_body_is_4009(node: Node, tenant: str) -> None:
    """And with the same body it is answered again, stored once."""
    async with client(node.ws_url, token("a", tenant)) as a:
        await a.send_raw(frame())
        first = await a.expect("message.received")
        await a.send_raw(frame())
        again = await a.expect("message.received")
        await a.send_raw(frame(payload={"text": "other"}))
        conflict = await a.expect("connection.error")
        head = (await a.subscribe(CHANNEL))["head"]

    assert again["payload"] == first["payload"] | {"duplicate": True}
    assert conflict["payload"]["code"] == 4009
    assert head["seq"] == 1


async def test_a_full_node_says_so_after_the_upgrade(redis_url: str, tenant: str) -> None:
    """4010 reaches the client as an error and as the close code."""
    async with running_node(redis_url, max_connections=1) as node, client(node.ws_url, token("a", tenant)):
        async with raw_client(node.ws_url) as late:
            assert await late.closed() == 4010
        assert late.seen[0]["payload"]["code"] == 4010


async def test_too_many_subscriptions_are_4015_each(redis_url: str, tenant: str) -> None:
    """As many fit as `connection.ack` says, the own inbox not counted; the others are refused one by one."""
    async with running_node(redis_url, max_subscriptions=2) as node, client(node.ws_url, token("a", tenant)) as a:
        answers = await _subscribe_each(a, ["team:1", "team:2", "team:3"])

    assert answers == {"team:1": "channel.subscribed", "team:2": "channel.subscribed", "team:3": 4015}


async def test_the_inbox_can_be_left_and_followed_again_when_all_places_are_taken(redis_url: str, tenant: str) -> None:
    """It takes no place, whichever way it is followed, and gives none when it is left."""
    async with running_node(redis_url, max_subscriptions=2) as node, client(node.ws_url, token("a", tenant)) as a:
        await _subscribe_each(a, ["team:1", "team:2"])
        await a.send("channel.unsubscribe", {"channels": ["user:a"]})
        assert (await a.expect("channel.unsubscribed"))["channel"] == "user:a"
        answers = await _subscribe_each(a, ["team:3", "user:a"])

    assert answers == {"team:3": 4015, "user:a": "channel.subscribed"}


async def _subscribe_each(a: SocketClient, channels: list[str]) -> dict[str, object]:
    await a.send("channel.subscribe", {"channels": channels})
    answers: dict[str, object] = {}
    while len(answers) < len(channels):
        frame = await a.next()
        if frame["type"] in {"channel.subscribed", "connection.error"}:
            answers[frame["channel"]] = frame["payload"].get("code", frame["type"])
    return answers


async def test_another_tenants_channel_looks_like_an_empty_one(node: Node, tenant: str) -> None:
    """Same name, other tenant: no head, no history, no difference."""
    async with client(node.ws_url, token("a", tenant)) as a:
        said = await a.say(CHANNEL, "secret")
        async with client(node.ws_url, token("a", tenant + "x")) as other:
            subscribed = await other.subscribe(CHANNEL, after=said["payload"]["id"], seq=1)
            history = await other.answer("channel.history", {}, CHANNEL)

    assert subscribed["head"] == {"id": "0", "seq": 0}
    assert subscribed["gap"]["reason"] == "cursor_unknown"
    assert history["payload"]["events"] == []


async def test_a_closed_socket_closes_with_its_reason_not_1006(node: Node, tenant: str) -> None:
    """A client that closes properly is answered properly."""
    async with client(node.ws_url, token("a", tenant)) as a:
        await a.socket.close(1000)
        with pytest.raises(ConnectionClosed):
            await a.socket.recv()

    assert a.socket.close_code == 1000
