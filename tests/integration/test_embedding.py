"""A hub inside an application: real uvicorn processes of every WebSocket implementation, beside what the application has itself."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.testclient import TestClient
from websockets.asyncio.client import connect

import hub
from streams.errors import LogUnavailable, MalformedChannel
from streams.events.validation import InvalidPayload
from support.hub_process import clean_environment
from support.nodes import SECRET, free_socket, settings, token
from support.socket_client import SocketClient, client, raw_client

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the server is told to end by a signal")

ROOT = Path(__file__).parents[2]
PATIENCE_S = 150.0
NOTE = {"kind": "note", "title": "hi"}


class Application:
    """The application of `support.embedding_app` on uvicorn, as a process."""

    def __init__(self, redis_url: str, tenant: str, folder: Path, *arguments: str) -> None:
        with free_socket() as bound:
            port = bound.getsockname()[1]
        env = clean_environment(
            REDIS_URL=redis_url, TENANT=tenant, HUB_JWT_SECRET=SECRET, HUB_DATA=str(folder),
            HUB_RATE_LIMITS="off", PYTHONPATH=f"{ROOT}:{ROOT / 'tests'}",
        )  # fmt: skip # a table
        command = [sys.executable, "-m", "uvicorn", "support.embedding_app:app", "--port", str(port), *arguments]
        self.process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert self.process.stdout is not None
        self.told = ""
        while "Uvicorn running" not in self.told and (line := self.process.stdout.readline()):
            self.told += line
        assert "Uvicorn running" in self.told, self.told
        self.url, self.ws = f"http://127.0.0.1:{port}", f"ws://127.0.0.1:{port}"

    def end(self) -> str:
        """SIGTERM; what it said."""
        self.process.send_signal(signal.SIGTERM)
        out, _ = self.process.communicate(timeout=PATIENCE_S)
        return out


@contextlib.contextmanager
def application(redis_url: str, tenant: str, folder: Path, *arguments: str) -> Iterator[Application]:
    """It runs inside the block."""
    running = Application(redis_url, tenant, folder, *arguments)
    try:
        yield running
    finally:
        running.process.kill()
        running.process.communicate()


@contextlib.asynccontextmanager
async def with_cookie(running: Application, user: str) -> AsyncIterator[SocketClient]:
    """A socket of the second hub, opened with a cookie and without a token."""
    url = f"{running.ws}/apps/second/ws"
    async with raw_client(url, additional_headers={"Cookie": f"user={user}"}) as socket:
        ack = await socket.answer("connection.init", {"versions": [1]})
        assert (ack["type"], ack["payload"]["user"]) == ("connection.ack", user), ack
        await socket.expect("channel.subscribed")
        yield socket


@pytest.mark.slow
@pytest.mark.parametrize("ws", ["auto", "websockets", "websockets-sansio", "wsproto"])
async def test_a_plain_uvicorn_serves_it_with_whatever_sockets_it_has(
    redis_url: str, tenant: str, tmp_path: Path, ws: str
) -> None:
    """Handshake, command, replay and the hub's own close codes; the second hub sees what is stored through the first."""
    if ws == "wsproto":
        pytest.importorskip("wsproto", reason="wsproto is not installed")
    with application(redis_url, tenant, tmp_path, "--ws", ws) as running:
        async with client(f"{running.ws}/rt/ws", token("alice", tenant)) as alice, with_cookie(running, "bob") as bob:
            await alice.say("conversation:1", "one")
            await bob.subscribe("conversation:1", after="0")
            (replayed,) = await bob.events(1)
            await alice.say("conversation:1", "two")
            (live,) = await bob.events(1)
            await bob.send_raw(b"\0")
            code = await bob.closed()
        async with raw_client(f"{running.ws}/rt/ws") as stranger:
            await stranger.send("connection.init", {"versions": [1]})
            refused = await stranger.closed()

    assert [event["payload"]["text"] for event in (replayed, live)] == ["one", "two"]
    assert (code, refused) == (1003, 4001)


@pytest.mark.slow
async def test_what_the_application_has_itself_goes_on(redis_url: str, tenant: str, tmp_path: Path) -> None:
    """Routes, sockets, catch-all, lifespan with its state; its middleware stands around the hub's answers as well."""
    with application(redis_url, tenant, tmp_path) as running:
        async with httpx.AsyncClient(base_url=running.url, timeout=PATIENCE_S) as http:
            theirs = await http.get("/theirs")
            page = await http.get("/anything/else")
            ready = await http.get("/rt/readyz")
            console = await http.get("/apps/second/console")
            unknown = await http.get("/rt/nothing")
            async with connect(f"{running.ws}/ws") as socket:
                await socket.send("theirs")
                echoed = await socket.recv()

    assert (theirs.json(), page.json(), echoed) == ({"theirs": "kept"}, "page anything/else", "theirs")
    assert (ready.status_code, console.status_code, unknown.status_code) == (200, 200, 404)
    assert [answer.headers["X-Theirs"] for answer in (theirs, ready, console, unknown)] == ["yes"] * 4
    assert (unknown.headers["Content-Type"], ready.headers["Content-Encoding"]) == ("application/problem+json", "gzip")


@pytest.mark.slow
async def test_a_stream_comes_through_their_middleware_event_by_event(
    redis_url: str, tenant: str, tmp_path: Path
) -> None:
    """And a signal ends the application although the stream is open, once it has been told to wait no longer."""
    headers = {"Authorization": f"Bearer {token('alice', tenant)}"}
    with application(redis_url, tenant, tmp_path, "--timeout-graceful-shutdown", "1") as running:
        async with httpx.AsyncClient(base_url=running.url, timeout=PATIENCE_S, headers=headers) as http:
            async with http.stream("GET", "/rt/v1/channels/conversation:1/stream?after=0") as stream:
                lines = stream.aiter_lines()
                texts = []
                for text in ("one", "two"):
                    event = {"type": "chat.message", "payload": {"text": text}}
                    stored = await http.post("/rt/v1/channels/conversation:1/events", json=event)
                    assert stored.status_code == 201
                    async for line in lines:
                        if line.startswith("data:") and '"type":"chat.message"' in line:
                            texts.append(json.loads(line[5:])["payload"]["text"])
                            break
                said = running.end()

    assert texts == ["one", "two"]
    assert "Application shutdown complete" in said


@pytest.mark.slow
async def test_the_hub_begins_before_and_ends_after_the_application(
    redis_url: str, tenant: str, tmp_path: Path
) -> None:
    """Both ends of the application's lifespan reach the channel; a socket that is open is told to come back (1012)."""
    with application(redis_url, tenant, tmp_path) as running:
        async with client(f"{running.ws}/rt/ws", token("alice", tenant)) as alice:
            running.process.send_signal(signal.SIGTERM)
            code = await alice.closed()
        running.process.communicate(timeout=PATIENCE_S)
    with application(redis_url, tenant, tmp_path) as running:
        async with client(f"{running.ws}/rt/ws", token("alice", tenant)) as alice:
            await alice.subscribe("team:life", after="0")
            titles = [event["payload"]["title"] for event in await alice.events(3)]

    assert code == 1012
    assert titles == ["begun", "ended", "begun"]


@pytest.mark.slow
async def test_the_applications_own_users(redis_url: str, tenant: str, tmp_path: Path) -> None:
    """By cookie, over sockets and HTTP; refused, foreign, broken and signed out, each with its code."""
    with application(redis_url, tenant, tmp_path) as running:
        second = f"{running.url}/apps/second/v1/channels/conversation:1"
        async with httpx.AsyncClient(timeout=PATIENCE_S) as http, with_cookie(running, "carol") as carol:
            say = {"type": "chat.message", "payload": {"text": "hi"}}

            async def post(user: str, **headers: str) -> tuple[int, int]:
                answer = await http.post(f"{second}/events", json=say, headers={"Cookie": f"user={user}", **headers})
                return answer.status_code, answer.json().get("code", 0)

            posted = await post("carol")
            own_page = await post("carol", Origin=running.url)
            foreign_page = await post("carol", Origin="https://evil.example")
            refused = await post("mallory")
            nobody = (await http.post(f"{second}/events", json=say)).json()["code"]
            by_token = await http.post(f"{second}/events", json=say, headers={"Authorization": "Bearer dave"})
            async with httpx.AsyncClient(
                timeout=PATIENCE_S
            ) as other:  # uvicorn closes a connection on which something broke
                answer = await other.post(f"{second}/events", json=say, headers={"Cookie": "user=broken"})
            broken = answer.status_code, answer.json()["code"]
            ordered = [(await http.post(f"{running.url}/orders/carol")).json()["seq"] for _ in range(2)]
            told = await carol.event("team.notification", title="ordered")
            await http.post(f"{running.url}/sign-out/carol")
            ended = await carol.closed()
        async with with_cookie(running, "carol"):
            pass  # whoever signs in again is let in
        async with raw_client(f"{running.ws}/apps/second/ws", additional_headers={"Cookie": "user=mallory"}) as mallory:
            answer = await mallory.answer("connection.init", {"versions": [1]})
        said = running.end()

    assert (posted, own_page) == ((201, 0), (201, 0))
    assert (foreign_page, refused, nobody, by_token.status_code) == ((403, 4003), (401, 4001), 4001, 201)
    assert broken == (500, 4030)
    assert "authenticate returned an identity that cannot be used: sub must be" in said
    assert (ordered, told["title"], ended) == ([1, 1], "ordered", 4019)
    assert (answer["payload"]["code"], answer["payload"]["message"]) == (
        4001,
        "the application does not know you; sign in again",
    )


def whoever(request: HTTPConnection, token: str) -> hub.Identity:
    """Everybody is alice."""
    return hub.Identity("alice", "acme", {"team:*": ["read"]})


def test_the_testing_client_of_starlette_works_too(redis_url: str, tenant: str) -> None:
    """An application's own tests need no server. What is appended is held to the catalogue, and to the grammar of names."""
    app = Starlette()
    live = hub.embed(app, settings=settings(redis_url), authenticate=whoever, waits=False)

    async def tell(request: Any) -> Any:
        refused: list[str] = []
        for channel, type_, payload in (
            ("team:1", "team.nonsense", NOTE), ("team:1", "team.notification", {"kind": 1}),
            ("document:1", "chat.message", {"text": "hi"}), ("team:no such", "team.notification", NOTE),
        ):  # fmt: skip # a table
            with pytest.raises((InvalidPayload, MalformedChannel)) as caught:
                await live.broadcast(tenant, channel, type_, payload)
            refused.append(type(caught.value).__name__)
        with pytest.raises(ValueError, match="key must be"):
            await live.broadcast(tenant, "team:1", "team.notification", NOTE, key="a/b")
        with pytest.raises(MalformedChannel):
            await live.send_to_user("no tenant", "alice", "team.notification", NOTE)
        stored = await live.broadcast(tenant, "team:1", "team.notification", NOTE)
        return JSONResponse({"refused": refused, "seq": stored.seq})

    app.router.add_route("/tell", tell)
    with TestClient(app) as http:
        told = http.get("/tell").json()
        with http.websocket_connect("/rt/ws") as socket:
            socket.send_text(json.dumps({"type": "connection.init", "id": "1", "payload": {"versions": [1]}}))
            ack = json.loads(socket.receive_text())

    assert told == {"refused": ["InvalidPayload", "InvalidPayload", "InvalidPayload", "MalformedChannel"], "seq": 1}
    assert (ack["type"], ack["payload"]["user"]) == ("connection.ack", "alice")


def test_a_quota_is_charged_for_what_the_application_tells(redis_url: str, tenant: str) -> None:
    """To the tenant it is told in."""
    app = Starlette()
    live = hub.embed(app, settings=settings(redis_url, quota_publishes_per_s=1), authenticate=whoever, waits=False)

    async def tell(request: Any) -> Any:
        codes = []
        for _ in range(20):
            try:
                await live.broadcast(tenant, "team:1", "team.notification", NOTE)
            except Exception as error:
                codes.append(getattr(error, "row", None) and error.row.code)  # type: ignore[attr-defined]
        return PlainTextResponse(",".join(map(str, codes)))

    app.router.add_route("/tell", tell)
    with TestClient(app) as http:
        codes = http.get("/tell").text

    assert "4004" in codes


def test_without_the_lifespan_it_says_what_is_missing(redis_url: str) -> None:
    """A mounted application's lifespan is run by nobody; neither is one with --lifespan off."""
    app = FastAPI()
    live = hub.embed(app, settings=settings(redis_url))
    http = TestClient(app)
    answer = http.get("/rt/readyz")

    assert answer.status_code == 503
    assert "uvicorn --lifespan on" in answer.json()["missing"][0]
    with pytest.raises(LogUnavailable, match="lifespan"):
        _ = live.hub
    with pytest.raises(RuntimeError, match="before the application starts"):
        hub.embed(app, "/late", settings=settings(redis_url))


@pytest.mark.parametrize("prefix", ["", "/", "rt", "/rt/", "/r t", "/{x}"])
def test_a_prefix_is_a_path(redis_url: str, prefix: str) -> None:
    """Anything else would be found nowhere."""
    with pytest.raises(ValueError, match="prefix must be a path"):
        hub.embed(FastAPI(), prefix, settings=settings(redis_url))


def test_cookies_and_every_page_do_not_go_together(redis_url: str) -> None:
    """Any page could act for its visitors."""
    with pytest.raises(ValueError, match="HUB_ALLOWED_ORIGINS must list the pages"):
        hub.embed(FastAPI(), settings=settings(redis_url, allowed_origins=frozenset({"*"})), authenticate=whoever)


def test_the_client_needs_nothing_of_the_server() -> None:
    """`hub.embed` is imported when it is asked for."""
    code = (
        "import sys, hub, hub.client; assert 'fastapi' not in sys.modules; hub.embed; assert 'fastapi' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)})
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = hub.nothing  # type: ignore[attr-defined]
