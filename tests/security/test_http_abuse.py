"""Plain HTTP as an attack: streams held open, the distant past asked for again and again, bodies that end early, smuggling."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from hub.http import bounded
from hub.http.requests import BODY_TIMEOUT_S
from streams.channel import parse_channel
from streams.envelope import Actor, Draft
from support.nodes import running_node, token
from support.socket_client import client
from support.until import until

STREAM = "/v1/channels/conversation:1/stream"
STATE = "/v1/channels/conversation:1/state"


async def test_a_user_holds_as_many_streams_as_a_socket_follows_channels(redis_url: str, tenant: str) -> None:
    """One more is 4015; a closed one makes room; another user is not concerned."""
    mine, other = ({"Authorization": f"Bearer {token(user, tenant)}"} for user in "ab")
    async with running_node(redis_url, max_subscriptions=3) as node, AsyncExitStack() as stack:
        http = await stack.enter_async_context(httpx.AsyncClient(base_url=node.url, timeout=BODY_TIMEOUT_S))
        async with AsyncExitStack() as held:
            opened = [await held.enter_async_context(http.stream("GET", STREAM, headers=mine)) for _ in range(3)]
            refused = await http.get(STREAM, headers=mine)
            waiting = await http.get(STREAM.replace("stream", "events"), params={"wait_ms": 1}, headers=mine)
            theirs = await held.enter_async_context(http.stream("GET", STREAM, headers=other))
            statuses = [answer.status_code for answer in (*opened, theirs)]
        await until(lambda: not node.hub.streams)
        again = await stack.enter_async_context(http.stream("GET", STREAM, headers=mine))

    assert statuses == [200] * 4
    assert (refused.status_code, refused.json()["code"]) == (429, 4015)
    assert (waiting.status_code, waiting.json()["code"]) == (429, 4015)
    assert again.status_code == 200


async def test_a_state_of_the_past_costs_what_it_reads(redis_url: str, tenant: str) -> None:
    """Folding 2,600 events is charged as the six pages they are: who asks again at once is told to wait."""
    headers = {"Authorization": f"Bearer {token('a', tenant)}"}
    channel = parse_channel(tenant, "conversation:1")
    async with (
        running_node(redis_url, rate_limits={"history": (0.01, 7)}) as node,
        httpx.AsyncClient(base_url=node.url, headers=headers, timeout=BODY_TIMEOUT_S) as http,
    ):
        drafts = [Draft(channel, "chat.message", b'{"text":"x"}', Actor("user", "a")) for _ in range(2_600)]
        await asyncio.gather(*(node.hub.log.append(draft) for draft in drafts))
        cheap = [await http.get(STATE, params={"at": "1-0"}) for _ in range(3)]
        dear = await http.get(STATE, params={"at": "9999-12-31T23:59:59Z"})
        refused = await http.get(STATE, params={"at": "9999-12-31T23:59:59Z"})

    assert [answer.status_code for answer in cheap] == [200] * 3
    assert (dear.status_code, dear.json()["state_at"]) == (200, 2_600)
    assert (refused.status_code, refused.json()["code"]) == (429, 4004)
    assert refused.json()["retry_after_ms"] > 100_000


def raw_answer(port: int, request: bytes) -> bytes:
    """The bytes that come back before the node closes, or for two seconds."""
    with socket.create_connection(("127.0.0.1", port), timeout=2) as found:
        found.sendall(request)
        came = b""
        with contextlib.suppress(TimeoutError):
            while part := found.recv(65_536):
                came += part
        return came


async def test_a_client_that_leaves_in_its_body_is_no_fault_of_ours(
    redis_url: str, tenant: str, caplog: pytest.LogCaptureFixture
) -> None:
    """No 4030 and no traceback: anybody could fill the log with them."""
    head = (
        f"POST /v1/channels/conversation:1/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token('a', tenant)}\r\n"
    )
    async with running_node(redis_url) as node:
        for _ in range(3):
            _, writer = await asyncio.open_connection("127.0.0.1", node.port)
            writer.write(head.encode() + b"Content-Length: 1000\r\n\r\n{")
            await until(lambda: bool(node.server.server_state.tasks))
            writer.close()
            await until(lambda: not node.server.server_state.tasks)
        errors = node.hub.metrics.errors[4030]

    assert errors == 0
    assert [record.message for record in caplog.records if record.levelno >= logging.ERROR] == []


BODY = b'{"type":"chat.message","payload":{"text":"smuggled"}}'
SMUGGLING = {
    "CL and TE": b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "two CL": b"Content-Length: 4\r\nContent-Length: 53\r\n\r\n" + BODY,
    "negative CL": b"Content-Length: -1\r\n\r\n" + BODY,
    "signed CL": b"Content-Length: +53\r\n\r\n" + BODY,
    "unknown TE": b"Transfer-Encoding: xchunked\r\n\r\n" + BODY,
    "TE not last": b"Transfer-Encoding: chunked, identity\r\n\r\n" + BODY,
    "space before colon": b"Transfer-Encoding : chunked\r\n\r\n35\r\n" + BODY + b"\r\n0\r\n\r\n",
    "chunk overflow": b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n" + BODY,
    "folded": b"X-A: b\r\n c\r\nContent-Length: 53\r\n\r\n" + BODY,
    "NUL": b"X-A: \0\r\nContent-Length: 53\r\n\r\n" + BODY,
    "second host": b"Host: y\r\nContent-Length: 53\r\n\r\n" + BODY,
}


async def test_requests_that_two_servers_could_read_in_two_ways_are_refused(
    redis_url: str, tenant: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Smuggling: 400, nothing is stored, nothing behind it is read as a request, and no line is written for it."""
    head = (
        f"POST /v1/channels/conversation:1/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token('a', tenant)}\r\n"
    )
    behind = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    async with running_node(redis_url) as node:
        answers = {
            name: await asyncio.to_thread(raw_answer, node.port, head.encode() + rest + behind)
            for name, rest in SMUGGLING.items()
        }
        hostless = await asyncio.to_thread(raw_answer, node.port, b"GET /healthz HTTP/1.1\r\n\r\n")
        async with httpx.AsyncClient(
            base_url=node.url, headers={"Authorization": f"Bearer {token('a', tenant)}"}
        ) as http:
            page = await http.get("/v1/channels/conversation:1/events")

    assert {name: answer[:12] for name, answer in answers.items()} == dict.fromkeys(SMUGGLING, b"HTTP/1.1 400")
    assert [name for name, answer in answers.items() if answer.count(b"HTTP/1.1") != 1] == []
    assert hostless.startswith(b"HTTP/1.1 400")
    assert page.json()["events"] == []
    assert [record.message for record in caplog.records if "Invalid HTTP" in record.message] == []


OPEN = {"/healthz", "/readyz", "/metrics", "/openapi.json", "/asyncapi.json", "/console", "/console/{name}"}
"""The routes that SECURITY.md lists are open by default; every other route asks for a token or a signature."""
NOT_FOUND_BUT_OPEN = {"/console/{name}"}


PATH_VALUES = {
    "channel": "conversation:1",
    "user": "a",
    "session_id": "x",
    "parked_id": "0:1-1",
    "event": "1-1",
    "tile": "0/000",
    "number": 1,
}


async def test_every_route_is_open_or_closed_as_written(redis_url: str) -> None:
    """Each route of the app, without a token: as the table of SECURITY.md says; with HUB_METRICS_TOKEN `/metrics` is closed too."""
    async with running_node(redis_url, metrics_token="a-token-of-metrics") as node, node.http() as http:
        app: Any = node.server.config.app
        routes = [(path, method) for path, methods in app.openapi()["paths"].items() for method in methods]
        document = set(app.openapi()["paths"])
        hidden = {"/console", "/console/{name}", "/_store/{key:path}", "/openapi.json", "/ws"}
        found = {
            (path, method): (await http.request(method.upper(), path.format(**PATH_VALUES))).status_code
            for path, method in routes
        }
        metrics = found.pop(("/metrics", "get"))
        pages = [(await http.get(path)).status_code for path in ("/console", "/openapi.json")]
        store = [(await http.request(method, "/_store/t/x")).status_code for method in ("GET", "PUT")]
    async with running_node(redis_url) as node, node.http() as http:
        by_default = (await http.get("/metrics")).status_code

    assert {path for path, _ in routes if path not in OPEN} == {path for path in document if path.startswith("/v1/")}
    assert {status for (path, _), status in found.items() if path in OPEN} == {200}
    assert {status for (path, _), status in found.items() if path not in OPEN} == {401}
    assert (metrics, by_default, pages, store) == (401, 200, [200, 200], [403, 403])
    written = (Path(__file__).parents[2] / "SECURITY.md").read_text()
    named = {
        "/v1/channels",
        "/v1/channels/",
        "/v1/users/{user}/events",
        "/v1/revocations",
        "/v1/connections",
        "/v1/runs",
        "/v1/parked",
        "/v1/log/",
        "/v1/processes",
        "/v1/rollout",
        "/_store/",
        "/ws",
        *OPEN - NOT_FOUND_BUT_OPEN,
    }
    assert [path for path in document | hidden if not any(path.startswith(known) for known in named)] == []
    assert [known for known in named if known not in written] == []


def head_of(body_bytes: int, *, path: str = "/v1/channels/team:1/events") -> bytes:
    """A request without a token that announces a body."""
    return f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {body_bytes}\r\n\r\n".encode()


async def gone(reader: asyncio.StreamReader) -> bool:
    """True once the other side has ended the connection; whatever it says before is passed over."""
    async with asyncio.timeout(20):
        with contextlib.suppress(ConnectionResetError):
            while await reader.read(65_536):
                pass
    return True


@pytest.mark.parametrize("path", ["/v1/channels/team:1/events", "/nowhere", "/healthz"])
async def test_a_body_that_does_not_come_ends_the_connection(
    redis_url: str, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Answered at once, then one byte and silence: given up after a moment, whichever route did not read it."""
    monkeypatch.setattr(bounded, "LINGER_S", 0.3)
    async with running_node(redis_url) as node:
        reader, writer = await asyncio.open_connection("127.0.0.1", node.port)
        writer.write(head_of(900_000, path=path))
        answered = await reader.readuntil(b"\r\n")
        writer.write(b"x")
        ended = await gone(reader)
        writer.close()

    assert answered.split()[1] in {b"401", b"404", b"405"}
    assert ended


async def test_data_does_not_move_the_deadline_of_a_body(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A byte now and then, behind the answer or in place of it: the deadline is that of the whole body."""
    monkeypatch.setattr(bounded, "LINGER_S", 0.5)
    async with running_node(redis_url) as node:
        reader, writer = await asyncio.open_connection("127.0.0.1", node.port)
        writer.write(head_of(900_000))

        async def drip() -> None:
            with contextlib.suppress(ConnectionError):
                while True:
                    writer.write(b"x")
                    await writer.drain()
                    await asyncio.sleep(0)

        dripping = asyncio.create_task(drip())
        ended = await gone(reader)
        dripping.cancel()
        writer.close()

    assert ended


async def test_a_body_that_comes_late_leaves_the_connection_open(redis_url: str) -> None:
    """Refused before its body was there; the rest is thrown away, and the next request is answered."""
    async with running_node(redis_url) as node:
        reader, writer = await asyncio.open_connection("127.0.0.1", node.port)
        writer.write(head_of(200_000))
        first = await reader.readuntil(b"}")
        writer.write(b"x" * 200_000 + b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        second = await reader.readuntil(b"}")
        writer.close()

    assert b" 401 " in first.split(b"\r\n")[0]
    assert b" 200 " in second.split(b"\r\n")[0]


@pytest.mark.parametrize("bound", [
    {"max_http_connections": 3}, {"max_http_connections_by_address": 3, "trusted_proxies": ()},
])  # fmt: skip # a case a row
async def test_connections_of_plain_http_are_bounded(redis_url: str, tenant: str, bound: dict[str, Any]) -> None:
    """In total and by address: one more is told so and closed; sockets and other requests are not concerned."""
    mine = {"Authorization": f"Bearer {token('a', tenant)}"}
    async with running_node(redis_url, **bound) as node, AsyncExitStack() as stack:
        http = await stack.enter_async_context(httpx.AsyncClient(base_url=node.url, timeout=BODY_TIMEOUT_S))
        async with AsyncExitStack() as held:
            for _ in range(3):
                await held.enter_async_context(http.stream("GET", STREAM, headers=mine))
            refused = await http.get("/healthz")
            async with client(node.ws_url, token("b", tenant)) as b:
                said = await b.say("conversation:1", "hi")
        await until(lambda: not node.hub.streams)
        async with asyncio.timeout(20):
            while (again := await http.get("/healthz")).status_code != 200:
                pass

    assert (refused.status_code, refused.json()["code"]) == (429, 4010)
    assert refused.headers["connection"] == "close"
    assert said["type"] == "message.received"
    assert again.status_code == 200


@pytest.mark.parametrize("path", [f"{STREAM}?after=0", "/v1/channels/conversation:1/events?limit=1000"])
async def test_an_answer_that_nobody_reads_is_given_up(
    redis_url: str, tenant: str, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stream, and a page of 4 MiB: each was held for as long as its reader liked."""
    monkeypatch.setattr(bounded, "READ_WINDOW_S", 0.5)
    async with running_node(redis_url, rate_limits={"chat": (1_000.0, 1_000.0)}) as node:
        async with client(node.ws_url, token("a", tenant)) as a:
            for _ in range(150):
                await a.say("conversation:1", "x" * 32_000)
        with socket.socket() as deaf:
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
            deaf.connect(("127.0.0.1", node.port))
            deaf.sendall(
                f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token('a', tenant)}\r\n\r\n".encode()
            )
            await asyncio.to_thread(deaf.recv, 1)
            await until(lambda: not node.server.server_state.connections and not node.hub.streams)


async def test_an_answer_that_is_read_slowly_enough_is_read_to_its_end(
    redis_url: str, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever takes a part of it in each window is not cut off."""
    monkeypatch.setattr(bounded, "READ_WINDOW_S", 0.5)
    async with running_node(redis_url, rate_limits={"chat": (1_000.0, 1_000.0)}) as node:
        async with client(node.ws_url, token("a", tenant)) as a:
            for _ in range(100):
                await a.say("conversation:1", "x" * 32_000)
        reader, writer = await asyncio.open_connection("127.0.0.1", node.port, limit=4_096)
        path = "/v1/channels/conversation:1/events?limit=1000"
        writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token('a', tenant)}\r\n\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        size = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        got = len(await reader.readexactly(size))
        writer.close()

    assert got > 3_000_000


async def test_a_slow_reader_behind_a_full_kernel_buffer_is_not_cut(
    redis_url: str, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel takes nothing more until a third of its megabytes is read: meanwhile a reader of 256 KB/s looked deaf."""
    monkeypatch.setattr(bounded, "READ_WINDOW_S", 2.0)
    step_bytes, step_s, enough_bytes = 12_800, 0.05, 1_000_000
    channel = parse_channel(tenant, "conversation:1")
    async with running_node(redis_url) as node:
        draft = Draft(channel, "chat.message", b'{"text":"%b"}' % (b"x" * 30_000), Actor("user", "a"))
        for _ in range(6):
            await asyncio.gather(*(node.hub.log.append(draft) for _ in range(100)))
        loop, who = asyncio.get_running_loop(), token("a", tenant)
        with socket.socket() as slow:
            slow.setblocking(False)
            await loop.sock_connect(slow, ("127.0.0.1", node.port))
            request = f"GET {STREAM}?after=0 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {who}\r\n\r\n"
            await loop.sock_sendall(slow, request.encode())
            got = 0
            while got < enough_bytes:
                await asyncio.sleep(step_s)  # its pace
                got += len(await loop.sock_recv(slow, step_bytes))
            is_held = bool(node.server.server_state.connections)

    assert is_held
