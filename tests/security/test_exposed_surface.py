"""The service's surface: pages, metrics, bodies, drips, fragments, what is written to logs and into error texts."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import logging
import secrets
from collections.abc import AsyncIterator, Iterator

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from hub.logs import configure_logging
from hub.node.foreign_pages import LINES_MAX, OPEN_MAX
from support.client_frames import client_frame
from support.logging_kept import logging_kept
from support.nodes import SECRET, Node, running_node, token
from support.raw_socket import RawSocket
from support.socket_client import SocketClient, client, raw_client

CHANNEL = "conversation:1"
EVENTS = f"/v1/channels/{CHANNEL}/events"
PUBLIC_CODE = ("/hub.js", "/hub.d.ts", "/hub/client.js")


# Pages


async def may_open(node: Node, origin: str | None) -> bool:
    """True when a page of this origin gets a socket; else it is told so in a way that browsers hand on."""
    async with connect(node.ws_url, origin=origin) as socket:  # type: ignore[arg-type]  # a NewType of str
        with contextlib.suppress(ConnectionClosed):
            await socket.send("no JSON")
        told = json.loads(await socket.recv())["payload"]
        if told["code"] != 4003:
            return True
        with pytest.raises(ConnectionClosed):
            await socket.recv()
        assert "HUB_ALLOWED_ORIGINS" in told["message"]
        assert (told["retry"], socket.close_code) == ("no", 4003)
        return False


async def test_only_pages_of_the_hub_itself_open_sockets_by_default(redis_url: str) -> None:
    """No `Origin` is a program; `null` is a sandboxed page."""
    async with running_node(redis_url) as node:
        own = await may_open(node, f"http://127.0.0.1:{node.port}")
        behind_tls = await may_open(node, f"https://127.0.0.1:{node.port}")
        program = await may_open(node, None)
        foreign = [
            await may_open(node, origin)
            for origin in (
                "https://evil.example",
                "null",
                "http://127.0.0.1:1",
                f"http://127.0.0.1.evil.example:{node.port}",
            )
        ]

    assert (own, behind_tls, program) == (True, True, True)
    assert foreign == [False] * 4


async def test_a_refused_page_is_logged_once_a_minute_with_the_setting(
    redis_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Its developer saw a failed connection, and its operator nothing. Many made-up origins fill no disk."""
    origins = ["https://app.example", "https://app.example", *(f"https://{n}.example" for n in range(LINES_MAX))]
    async with running_node(redis_url) as node:
        for origin in origins:
            assert not await may_open(node, origin)

    lines = [line for line in caplog.messages if "HUB_ALLOWED_ORIGINS" in line]
    assert sum("https://app.example" in line for line in lines) == 1
    assert len(lines) == LINES_MAX


async def test_pages_that_do_not_take_their_leave_are_bounded(redis_url: str) -> None:
    """A socket that is told and does not close stays for seconds: past a bound the upgrade is refused."""
    ask = (
        b"GET /ws HTTP/1.1\r\nHost: 127.0.0.1\r\nOrigin: https://evil.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    )
    answers: list[bytes] = []
    async with running_node(redis_url) as node, contextlib.AsyncExitStack() as opened:
        for _ in range(OPEN_MAX + 1):
            reader, writer = await asyncio.open_connection("127.0.0.1", node.port)
            opened.push_async_callback(writer.wait_closed)
            opened.callback(writer.transport.abort)
            writer.write(ask)
            answers.append((await reader.readuntil(b"\r\n")).split()[1])

    assert answers == [b"101"] * OPEN_MAX + [b"403"]


async def test_listed_pages_and_the_public_address_may_too(redis_url: str) -> None:
    """HUB_ALLOWED_ORIGINS, and the host of WEBSOCKET_URL where a proxy rewrites `Host`."""
    listed = {"allowed_origins": frozenset({"https://app.example"}), "websocket_url": "wss://hub.example/ws"}
    async with running_node(redis_url, **listed) as node:
        allowed = [await may_open(node, origin) for origin in ("https://app.example", "https://hub.example")]
        foreign = [await may_open(node, origin) for origin in ("http://app.example", "https://app.example:444")]
    async with running_node(redis_url, allowed_origins=frozenset({"*"})) as node:
        anybody = await may_open(node, "https://evil.example")

    assert allowed == [True, True]
    assert foreign == [False, False]
    assert anybody


async def test_other_pages_read_no_answers_unless_listed(redis_url: str) -> None:
    """CORS is silent by default and names exactly the listed page; credentials are never allowed, as there are none.

    The JavaScript client is public code, which every page may import.
    """
    asked = {"Origin": "https://app.example", "Access-Control-Request-Method": "POST"}
    async with running_node(redis_url) as node, node.http() as http:
        silent = [await http.options(EVENTS, headers=asked), await http.get("/healthz", headers=asked)]
        silent.append(await http.get("/console/console.js", headers=asked))
        code = [await http.get(path, headers=asked) for path in PUBLIC_CODE]
    async with running_node(redis_url, allowed_origins=frozenset({"https://app.example"})) as node, node.http() as http:
        listed = await http.options(EVENTS, headers=asked)
        code += [await http.get(path, headers=asked | {"Origin": "https://evil.example"}) for path in PUBLIC_CODE]
        other = await http.options(EVENTS, headers=asked | {"Origin": "https://evil.example"})

    assert not [name for answer in silent for name in answer.headers if name.startswith("access-control")]
    assert listed.headers["access-control-allow-origin"] == "https://app.example"
    assert "access-control-allow-credentials" not in listed.headers
    assert "access-control-allow-origin" not in other.headers
    assert [answer.headers["access-control-allow-origin"] for answer in code] == ["*"] * 6


async def test_pages_of_ours_run_nothing_foreign(redis_url: str) -> None:
    """The console's policy: own scripts only, no frames, no guessing of types; and no other page is served."""
    async with running_node(redis_url) as node, node.http() as http:
        console = await http.get("/console")
        missing = [
            (await http.get(path)).status_code
            for path in (
                "/docs",
                "/redoc",
                "/console/../app.py",
                "/console/%2e%2e%2fapp.py",
                "/console/__init__.py",
                "/hub/../__init__.py",
                "/hub/%2e%2e%2f__init__.py",
                "/hub/package.json",
            )
        ]

    policy = console.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert console.headers["x-content-type-options"] == "nosniff"
    assert missing == [404] * 8


async def test_metrics_need_their_token_where_one_is_set(redis_url: str, tenant: str) -> None:
    """And tell no tenant, user or channel to whoever has it."""
    known = "a-token-for-metrics"
    async with (
        running_node(redis_url, metrics_token=known) as node,
        node.http() as http,
        client(node.ws_url, token("somebody", tenant)) as a,
    ):
        await a.say("conversation:secret-name", "hi")
        refused = [
            (await http.get("/metrics", headers=headers)).status_code
            for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Bearer {token('a', tenant)}"})
        ]
        allowed = await http.get("/metrics", headers={"Authorization": f"Bearer {known}"})

    assert refused == [401] * 3
    assert allowed.status_code == 200
    assert "hub_connections" in allowed.text
    assert not [name for name in (tenant, "somebody", "secret-name") if name in allowed.text]


# Bodies


async def drip(count: int, piece: bytes = b" " * 1_024) -> AsyncIterator[bytes]:
    """A body without a declared length."""
    for _ in range(count):
        yield piece


@pytest.mark.parametrize("path", [EVENTS, "/v1/users/bob/events", "/v1/revocations"])
async def test_a_body_over_the_limit_is_413_declared_or_not(redis_url: str, tenant: str, path: str) -> None:
    """Announced by `Content-Length` or sent in chunks without end; the node goes on."""
    headers = {"Authorization": f"Bearer {token('root', tenant, {'*': ['*']})}"}
    async with (
        running_node(redis_url, message_size_limit_bytes=4_096) as node,
        httpx.AsyncClient(base_url=node.url, headers=headers, timeout=30) as http,
    ):
        declared = await http.post(path, content=b" " * 5_000)
        chunked = await http.post(path, content=drip(6))
        alive = await http.get("/healthz")

    for answer in (declared, chunked):
        assert (answer.status_code, answer.json()["code"]) == (413, 4011)
        assert answer.headers["connection"] == "close"
    assert alive.status_code == 200


@pytest.mark.parametrize("body", [b"[]", b'[{"type":"chat.message","payload":{"text":"a"}}]', b'"x"', b"", b"\xff{}"])
async def test_a_body_is_one_object(redis_url: str, tenant: str, body: bytes) -> None:
    """An array of frames is for sockets."""
    async with running_node(redis_url) as node, node.http(token("a", tenant)) as http:
        answer = await http.post(EVENTS, content=body)

    assert (answer.status_code, answer.json()["code"]) == (422, 4005)


# Bytes that come too slowly, or never end


@pytest.mark.parametrize("begun", [b"", b"GET /ws HTTP/1.1\r\nHost: x\r\nX-Slow: "], ids=["nothing", "half a head"])
async def test_a_handshake_that_never_comes_is_given_up(redis_url: str, begun: bytes) -> None:
    """Slowloris: the head of a request must be there within the handshake's time."""
    async with running_node(redis_url, handshake_timeout_s=0.3) as node:
        with RawSocket(node.port) as slow:
            slow.send(begun)
            ending = await asyncio.to_thread(slow.ending)  # nobody else would end it

    assert ending in {"fin", "reset"}


async def test_a_head_without_end_is_cut_off(redis_url: str) -> None:
    """More than 64 KiB of headers: the connection is gone before memory is."""

    def pour(slow: RawSocket) -> int:
        slow.send(b"GET /ws HTTP/1.1\r\nHost: x\r\n")
        sent = 0
        with contextlib.suppress(OSError):
            for number in range(20_000):
                slow.send(b"X-%d: " % number, b"y" * 1_000, b"\r\n")
                sent += 1_000
        return sent

    async with running_node(redis_url) as node:
        with RawSocket(node.port) as slow:
            sent = await asyncio.to_thread(pour, slow)
        async with node.http() as http:
            alive = await http.get("/healthz")

    assert sent < 20_000_000
    assert alive.status_code == 200


async def test_fragments_without_end_meet_the_limit_or_the_heartbeat(redis_url: str) -> None:
    """Many small ones: 1009. One, and then silence: the handshake's deadline."""
    async with (
        running_node(redis_url, message_size_limit_bytes=1_024) as patient,
        running_node(redis_url, handshake_timeout_s=0.5) as node,
    ):
        with RawSocket(patient.port) as many, RawSocket(node.port) as one:
            await asyncio.to_thread(many.upgrade)
            await asyncio.to_thread(one.upgrade)
            many.send(
                client_frame(0x1, b"x", is_final=False),
                *(client_frame(0x0, b"x", is_final=False) for _ in range(1_024)),
            )
            one.send(client_frame(0x1, b"x", is_final=False))
            codes = [await asyncio.to_thread(raw.close_code) for raw in (many, one)]

    assert codes == [1009, 4008]


async def test_fragments_are_no_sign_of_life(redis_url: str, tenant: str) -> None:
    """A client that only ever begins a message is closed like a silent one."""
    async with running_node(redis_url, heartbeat_interval_s=0.25) as node, client(node.ws_url, token("a", tenant)) as a:
        a.socket.transport.write(client_frame(0x1, b"{", is_final=False))
        assert await a.closed() == 4016


@pytest.mark.parametrize("has_token", [False, True])
async def test_a_bomb_is_refused_at_the_limit(redis_url: str, tenant: str, has_token: bool) -> None:
    """A compressed message counts by what it inflates to: 128 KiB of a stranger, 1 MiB of a user; one byte more is 1009."""
    limit = 1_048_576 if has_token else 131_072
    async with running_node(redis_url) as node, connect(node.ws_url, compression="deflate") as socket:
        assert socket.protocol.extensions
        if has_token:
            hello = {"token": token("ann", tenant), "versions": [1]}
            await socket.send(json.dumps({"type": "connection.init", "id": "1", "payload": hello}))
            await socket.recv()
        await socket.send("x" * (limit + 1))
        code = await SocketClient(socket).closed()

    assert code == 1009


# What is said and written about input


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    """Everything this process logs, as the process of a node would write it."""
    stream = io.StringIO()
    with logging_kept():
        configure_logging(logging.INFO, secrets=[SECRET], stream=stream)
        yield stream


async def test_a_hostile_client_writes_no_line_and_no_secret(redis_url: str, tenant: str, lines: io.StringIO) -> None:
    """Line breaks, escapes and tokens in every place a client can put text: what is logged stays ours, a line an event."""
    mark = f"mark{secrets.token_hex(4)}"
    evil = f'{mark}\r\n\x1b[31m{{"level":"error"}}\u2028'
    text = token("a", tenant)
    async with running_node(redis_url) as node:
        async with raw_client(node.ws_url, user_agent_header=f"agent-{mark}") as a:
            hello = {"token": text, "versions": [1], "client_id": mark, "client": {"name": mark, "version": mark}}
            await a.answer("connection.init", hello)
            for frame in (
                {"type": evil, "id": "1"},
                {"type": "chat.message", "id": "2", "channel": evil, "payload": {"text": evil}},
                {"type": "chat.message", "id": "3", "channel": CHANNEL, "payload": {evil: evil}},
                {"type": "connection.refresh", "id": "4", "payload": {"token": evil}},
            ):
                await a.send_raw(json.dumps(frame))
                await a.expect("connection.error", re=frame["id"])
        async with node.http() as http:
            for path in (f"/{mark}?token={text}", EVENTS + f"?after={mark}&token={text}"):
                await http.get(path, headers={"Authorization": f"Bearer {mark}", "X-Evil": mark})
        with RawSocket(node.port) as raw:
            raw.send(f"GET /{mark} HTTP/9.9\r\n\r\n".encode())
            await asyncio.to_thread(raw.ending)
    written = lines.getvalue()

    assert all(isinstance(json.loads(line), dict) for line in written.splitlines())
    assert written.isascii()
    assert not [part for part in (mark, SECRET, *text.split(".")) if part in written]


async def test_error_texts_repeat_nothing_a_client_sent(redis_url: str, tenant: str) -> None:
    """Whatever is wrong with a frame, `message` and `details` are our words; `channel` and `re` are the frame's own."""
    mark = f"mark{secrets.token_hex(4)}"
    script = f"<script>{mark}</script>"
    frames = [
        {"type": script}, {"type": mark}, {"type": "chat.message", "channel": script},
        {"type": "chat.message", "channel": f"{mark}:1"}, {"type": "chat.message", "channel": CHANNEL, script: 1},
        {"type": "chat.message", "channel": CHANNEL, "payload": {"text": 1, script: script}},
        {"type": "chat.message", "channel": CHANNEL, "payload": {"text": "x", "parts": [{"type": script}]}},
        {"type": "document.update", "channel": "document:1", "payload": {
            "base_version": 0, "patch": [{"op": script, "path": mark}]}},
        {"type": "agent.invoke", "channel": CHANNEL, "payload": {"agent": mark, "input": script}},
        {"type": "chat.edit", "channel": CHANNEL, "payload": {"message_id": "1-1", "text": script}},
        {"type": "channel.subscribe", "payload": {"channels": [{"channel": CHANNEL, "after": script}]}},
        {"type": "connection.refresh", "payload": {"token": script}},
    ]  # fmt: skip # a table
    async with running_node(redis_url) as node, client(node.ws_url, token("a", tenant)) as a:
        told = []
        for number, frame in enumerate(frames):
            await a.send_raw(json.dumps(frame | {"id": f"f{number}"}))
            told.append(await a.expect("connection.error", re=f"f{number}"))

    assert not [frame for frame in told if mark in json.dumps(frame["payload"])]
