"""Every row of docs/protocol.md#errors, met over a real socket and, where it applies, over HTTP."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from hub.errors import ERROR_CODES
from support.nodes import Node, running_node, token
from support.redis_server import RedisServer
from support.socket_client import SocketClient, client, raw_client

CHANNEL = "conversation:1"
READER = {f"{kind}:*": ["read"] for kind in ("conversation", "team", "document", "agent")}
FILE = {"filename": "a.txt", "size": 5, "mime": "text/plain"}


class Bench:
    """The tools of a scenario; everything it opens is closed with it."""

    def __init__(self, redis_url: str, tenant: str, folder: Path, stack: AsyncExitStack) -> None:
        self.redis_url, self.tenant, self._folder, self._stack = redis_url, tenant, folder, stack

    async def enter(self, context: AbstractAsyncContextManager[Any]) -> Any:
        """Keep something open until the test ends."""
        return await self._stack.enter_async_context(context)

    async def node(self, **changes: Any) -> Node:
        """A running node."""
        found: Node = await self.enter(running_node(self.redis_url, data_dir=str(self._folder), **changes))
        return found

    def token(self, user: str = "a", **more: Any) -> str:
        """A token of this test's tenant."""
        return token(user, self.tenant, **more)

    async def socket(self, node: Node, text: str | None = None) -> SocketClient:
        """A socket that said who it is."""
        found: SocketClient = await self.enter(client(node.ws_url, text or self.token()))
        return found

    async def raw(self, node: Node) -> SocketClient:
        """A socket that said nothing yet."""
        found: SocketClient = await self.enter(raw_client(node.ws_url))
        return found

    async def http(self, node: Node, text: str | None = None) -> httpx.AsyncClient:
        """An HTTP client with a token."""
        found: httpx.AsyncClient = await self.enter(node.http(text or self.token()))
        return found


@pytest.fixture
async def bench(redis_url: str, tenant: str, tmp_path: Path) -> AsyncIterator[Bench]:
    """Closes what a scenario opened."""
    async with AsyncExitStack() as stack:
        yield Bench(redis_url, tenant, tmp_path, stack)


Json = dict[str, Any]
Seen = tuple[SocketClient, Json]
"""The socket that met the code, and the frame that told it."""


async def greet(bench: Bench, text: str, node: Node | None = None, **payload: Any) -> Seen:
    """A handshake with this token."""
    a = await bench.raw(node or await bench.node())
    return a, await a.answer("connection.init", {"token": text, "versions": [1], **payload})


async def ask(bench: Bench, type_: str, payload: Json, channel: str | None = CHANNEL, **more: Any) -> Seen:
    """One command on a socket that is served."""
    a = await bench.socket(await bench.node(**more.pop("settings", {})), more.pop("text", None))
    return a, await a.answer(type_, payload, channel)


async def invalid_token(bench: Bench) -> Seen:
    return await greet(bench, "a.b.c")


async def expired_token(bench: Bench) -> Seen:
    return await greet(bench, bench.token(ttl_s=-100))


async def revoked_token(bench: Bench) -> Seen:
    node = await bench.node()
    await (await bench.http(node)).post("/v1/revocations", json={"jti": "j1"}, headers=admin(bench))
    return await greet(bench, bench.token(jti="j1"), node)


def admin(bench: Bench) -> dict[str, str]:
    """The header of somebody who may revoke."""
    return {"Authorization": f"Bearer {token('root', bench.tenant, {'*': ['*']})}"}


async def rate_limited(bench: Bench) -> Seen:
    a = await bench.socket(await bench.node(rate_limits={"chat": (0.01, 1)}))
    await a.say(CHANNEL, "one")
    return a, await a.say(CHANNEL, "two")


async def silent_handshake(bench: Bench) -> Seen:
    a = await bench.raw(await bench.node(handshake_timeout_s=0.2))
    return a, await a.next()


async def conflict(bench: Bench) -> Seen:
    a = await bench.socket(await bench.node())
    for text in ("one", "two"):
        await a.send("chat.message", {"text": text}, CHANNEL, "same")
    await a.expect("message.received")
    return a, await a.expect("connection.error")


async def full_node(bench: Bench) -> Seen:
    node = await bench.node(max_connections=1)
    await bench.socket(node)
    a = await bench.raw(node)
    return a, await a.next()


async def too_large(bench: Bench) -> Seen:
    reading = {"up_to": "0-0"}
    a = await bench.socket(await bench.node(quota_bytes_stored=10))
    assert (await a.answer("channel.read", reading, CHANNEL))["type"] == "ack"
    return a, await a.say(CHANNEL, "more than ten bytes")


async def too_far_behind(bench: Bench) -> Seen:
    node = await bench.node(max_lag_events=5)
    slow, writer = await bench.socket(node), await bench.socket(node, bench.token("w"))
    await slow.subscribe(CHANNEL)
    slow.socket.transport.pause_reading()
    while not node.hub.metrics.slow_closes:
        await writer.say(CHANNEL, "x" * 32_000)
    slow.socket.transport.resume_reading()
    return slow, await slow.expect("connection.error")


async def redis_away(bench: Bench) -> Seen:
    with contextlib.closing(RedisServer()) as own:
        bench.redis_url = own.url
        a = await bench.socket(await bench.node())
        own.kill()
        return a, await a.say(CHANNEL, "hi")


async def unknown_version(bench: Bench) -> Seen:
    return await greet(bench, bench.token(), versions=[9])


async def many_channels(bench: Bench) -> Seen:
    return await ask(
        bench, "channel.subscribe", {"channels": ["team:1", "team:2"]}, None, settings={"max_subscriptions": 1}
    )


async def silence(bench: Bench) -> Seen:
    a = await bench.socket(await bench.node(heartbeat_interval_s=0.2))
    return a, await a.expect("connection.error")


async def refused_file(bench: Bench) -> Seen:
    return await ask(bench, "file.upload.request", FILE | {"mime": "text/html"})


async def live_revocation(bench: Bench) -> Seen:
    node = await bench.node()
    a = await bench.socket(node)
    await (await bench.http(node)).post("/v1/revocations", json={"sub": "a"}, headers=admin(bench))
    return a, await a.expect("connection.error")


async def replaced(bench: Bench) -> Seen:
    node = await bench.node()
    a = await bench.socket(node)
    session = a.seen[0]["payload"]["session_id"]
    newer = await bench.raw(node)
    await newer.answer(
        "connection.reconnect", {"token": bench.token(), "versions": [1], "session_id": session, "cursors": {}}
    )
    return a, await a.expect("connection.error")


async def stale_version(bench: Bench) -> Seen:
    patch = {"base_version": 7, "patch": [{"op": "add", "path": "/a", "value": 1}]}
    return await ask(bench, "document.update", patch, "document:1")


async def late_upload(bench: Bench) -> Seen:
    node = await bench.node()
    a = await bench.socket(node)
    upload = (await a.answer("file.upload.request", FILE, CHANNEL))["payload"]["upload_id"]
    jump_two_days(node)
    return a, await a.answer("file.upload.status", {"upload_id": upload}, CHANNEL)


def jump_two_days(node: Node) -> None:
    """Let the node's uploads see a later time."""
    uploads = node.hub.uploads
    assert uploads is not None
    uploads._clock = lambda: time.time() + 2 * 86_400


async def second_init(bench: Bench) -> Seen:
    return await ask(bench, "connection.init", {"token": bench.token(), "versions": [1]}, None)


async def no_files_here(bench: Bench) -> Seen:
    node = await bench.node()
    node.hub.uploads = None
    a = await bench.socket(node)
    return a, await a.answer("file.upload.request", FILE, CHANNEL)


async def our_fault(bench: Bench) -> Seen:
    node = await bench.node()
    break_agents(node)
    a = await bench.socket(node)
    return a, await a.answer("agent.list", {})


def break_agents(node: Node) -> None:
    """Let every question about agents fail in a way nobody foresaw."""

    class Broken:
        async def is_available(self, name: str) -> bool:
            raise ZeroDivisionError("a secret detail of the inside")

        async def cards(self) -> list[Any]:
            raise ZeroDivisionError("a secret detail of the inside")

    node.hub.agents = Broken()


def permission(bench: Bench) -> Awaitable[Seen]:
    return ask(bench, "chat.message", {"text": "hi"}, text=bench.token(grants=READER))


SOCKET: dict[int, Callable[[Bench], Awaitable[Seen]]] = {
    4001: invalid_token, 4002: expired_token, 4003: permission, 4004: rate_limited,
    4005: lambda bench: ask(bench, "chat.nothing", {}), 4006: lambda bench: ask(bench, "chat.message", {}, "room:1"),
    4007: lambda bench: ask(bench, "agent.invoke", {"agent": "nobody-here", "input": "hi"}),
    4008: silent_handshake, 4009: conflict, 4010: full_node, 4011: too_large, 4012: too_far_behind, 4013: redis_away,
    4014: unknown_version, 4015: many_channels, 4016: silence, 4017: refused_file,
    4018: lambda bench: ask(bench, "chat.edit", {"message_id": "1-0", "text": "x"}), 4019: live_revocation,
    4020: replaced, 4021: stale_version, 4022: late_upload, 4023: second_init, 4024: no_files_here, 4030: our_fault,
}  # fmt: skip # a table


def test_every_code_has_a_scenario() -> None:
    """A new row of the table needs one here, over the socket."""
    assert SOCKET.keys() == ERROR_CODES.keys()


@pytest.mark.parametrize("code", sorted(SOCKET))
async def test_a_code_is_met_over_a_real_socket(bench: Bench, code: int) -> None:
    """The frame says what the table says, and the socket is closed with the code or goes on."""
    row = ERROR_CODES[code]
    a, frame = await SOCKET[code](bench)
    while frame.get("type") == "channel.subscribed":  # of the channels that fitted
        frame = await a.next()

    assert frame["type"] == "connection.error", frame
    told = frame["payload"]
    assert (told["code"], told["name"], told["retry"]) == (code, row.name, row.retry)
    assert "secret" not in json.dumps(frame)
    if row.closes:
        assert await a.closed() == code
    else:
        assert (await a.answer("connection.heartbeat"))["type"] == "connection.heartbeat"


async def test_a_revoked_token_is_refused_at_the_handshake(bench: Bench) -> None:
    """4019 before anything was opened, and as the close code."""
    a, frame = await revoked_token(bench)

    assert frame["payload"]["code"] == 4019
    assert await a.closed() == 4019


Call = Callable[[Bench], Awaitable[httpx.Response]]
EVENTS = f"/v1/channels/{CHANNEL}/events"


def message(text: str = "hi") -> Json:
    return {"type": "chat.message", "payload": {"text": text}}


async def post(bench: Bench, body: Any, path: str = EVENTS, **more: Any) -> httpx.Response:
    """One POST to a fresh node."""
    node = more.pop("node", None) or await bench.node(**more.pop("settings", {}))
    http = await bench.http(node, more.pop("text", None))
    return await http.post(path, json=body, **more)


async def http_revoked(bench: Bench) -> httpx.Response:
    node = await bench.node()
    http = await bench.http(node)  # with a token of before: a later one is not revoked
    assert (await post(bench, {"sub": "a"}, "/v1/revocations", node=node, headers=admin(bench))).status_code == 201
    return await http.post(EVENTS, json=message())


async def http_limited(bench: Bench) -> httpx.Response:
    node = await bench.node(rate_limits={"chat": (0.01, 1)})
    assert (await post(bench, message(), node=node)).status_code == 201
    return await post(bench, message(), node=node)


async def http_conflict(bench: Bench) -> httpx.Response:
    node, key = await bench.node(), {"Idempotency-Key": "k1"}
    await post(bench, message("one"), node=node, headers=key)
    return await post(bench, message("two"), node=node, headers=key)


async def http_full(bench: Bench) -> httpx.Response:
    node = await bench.node(quota_connections=1)
    await bench.socket(node)
    return await (await bench.http(node)).get(f"/v1/channels/{CHANNEL}/stream")


async def http_redis_away(bench: Bench) -> httpx.Response:
    with contextlib.closing(RedisServer()) as own:
        bench.redis_url = own.url
        node = await bench.node()
        own.kill()
        return await post(bench, message(), node=node)


async def http_late_upload(bench: Bench) -> httpx.Response:
    node = await bench.node()
    upload = (await post(bench, {"type": "file.upload.request", "payload": FILE}, node=node)).json()["upload_id"]
    jump_two_days(node)
    return await post(bench, {"type": "file.upload.progress", "payload": {"upload_id": upload, "sent": 1}}, node=node)


async def http_no_files(bench: Bench) -> httpx.Response:
    node = await bench.node()
    node.hub.uploads = None
    return await post(bench, {"type": "file.upload.request", "payload": FILE}, node=node)


async def http_our_fault(bench: Bench) -> httpx.Response:
    node = await bench.node()
    break_agents(node)
    return await post(bench, {"type": "agent.invoke", "payload": {"agent": "x", "input": "hi"}}, node=node)


HTTP: dict[int, Call] = {
    4001: lambda b: post(b, message(), text="a.b.c"), 4002: lambda b: post(b, message(), text=b.token(ttl_s=-100)),
    4003: lambda b: post(b, message(), text=b.token(grants=READER)), 4004: http_limited,
    4005: lambda b: post(b, {"type": "chat.nothing"}),
    4006: lambda b: post(b, message(), "/v1/channels/room:1/events"),
    4007: lambda b: post(b, {"type": "agent.invoke", "payload": {"agent": "nobody-here", "input": "hi"}}),
    4009: http_conflict, 4010: http_full, 4011: lambda b: post(b, message("x" * 2_000), settings=SMALL),
    4013: http_redis_away,
    4017: lambda b: post(b, {"type": "file.upload.request", "payload": FILE | {"mime": "text/html"}}),
    4018: lambda b: post(b, {"type": "chat.edit", "payload": {"message_id": "1-0", "text": "x"}}), 4019: http_revoked,
    4021: lambda b: post(b, STALE, "/v1/channels/document:1/events"), 4022: http_late_upload, 4024: http_no_files,
    4030: http_our_fault,
}  # fmt: skip # a table
SMALL = {"message_size_limit_bytes": 1_024}
STALE = {
    "type": "document.update",
    "payload": {"base_version": 7, "patch": [{"op": "add", "path": "/a", "value": 1}]},
}
SOCKETS_ONLY = {4008, 4012, 4014, 4015, 4016, 4020, 4023}
"""Handshake, heartbeat, sessions, subscriptions: HTTP has none of them."""


def test_every_code_is_met_over_http_or_is_of_sockets() -> None:
    """A new row of the table needs a decision here."""
    assert HTTP.keys() | SOCKETS_ONLY == ERROR_CODES.keys()
    assert not HTTP.keys() & SOCKETS_ONLY


@pytest.mark.parametrize("code", sorted(HTTP))
async def test_a_code_is_met_over_http(bench: Bench, code: int) -> None:
    """An RFC 9457 document with the status, code and name of the table."""
    row = ERROR_CODES[code]
    answer = await HTTP[code](bench)

    assert answer.status_code == row.http_status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    told = answer.json()
    assert (told["code"], told["title"], told["status"]) == (code, row.name, row.http_status)
    assert (told["retry"], told["name"]) == (row.retry, row.name)
    assert ("retry-after" in answer.headers) == ("retry_after_ms" in told)
    assert "secret" not in answer.text
