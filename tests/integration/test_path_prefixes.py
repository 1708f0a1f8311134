"""The hub under a path prefix: of its public address, whether or not the proxy takes it off, and mounted in an application."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import httpx
import pytest
import uvicorn
from fastapi import FastAPI
from starlette.types import ASGIApp

from hub.app import create_app
from support.nodes import free_socket, running_node, settings, token
from support.socket_client import Json, SocketClient, client
from support.uploads import request, sha256_of

PUBLIC = "https://app.example.com/realtime/_store/"
TEXT = b"hello"


@contextlib.asynccontextmanager
async def served(app: ASGIApp) -> AsyncIterator[str]:
    """An application on uvicorn, with its own WebSocket implementation: host and port."""
    bound = free_socket()
    server = uvicorn.Server(uvicorn.Config(app, ws="websockets-sansio", log_level="error", lifespan="on"))
    task = asyncio.create_task(server._serve([bound]))
    while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
        await asyncio.sleep(0)
    try:
        yield f"127.0.0.1:{bound.getsockname()[1]}"
    finally:
        server.should_exit = True
        await task
        bound.close()


async def signed_put(socket: SocketClient) -> Json:
    """The request by which a file is brought: its address and headers."""
    authorized = await request(socket, len(TEXT), strategy="single", sha256=sha256_of(TEXT))
    signed: Json = authorized["single"]
    return signed


async def put(signed: Json, where: str) -> int:
    """The status of the signed PUT, sent to its path at this host."""
    parts = urlsplit(signed["url"])
    async with httpx.AsyncClient() as http:
        url = f"http://{where}{parts.path}?{parts.query}"
        return (await http.put(url, content=TEXT, headers=signed["headers"])).status_code


@pytest.mark.parametrize("is_lean", [True, False], ids=["hub serve", "another server"])
async def test_the_path_of_the_public_address_is_everywhere(redis_url: str, tenant: str, *, is_lean: bool) -> None:
    """Sockets, API, console and store are found with and without it, and every URL a client is given has it."""
    given = {"websocket_url": "wss://app.example.com/realtime/ws"}
    async with contextlib.AsyncExitStack() as stack:
        if is_lean:
            node = await stack.enter_async_context(running_node(redis_url, **given))
            where = f"127.0.0.1:{node.port}"
        else:
            where = await stack.enter_async_context(served(create_app(settings(redis_url, **given))))
        http = await stack.enter_async_context(httpx.AsyncClient(base_url=f"http://{where}"))
        paths = ("/healthz", "/console", "/console/console.js", "/hub.js", "/hub/client.js", "/asyncapi.json")
        plain = [(await http.get(path)).status_code for path in paths]
        prefixed = [(await http.get(f"/realtime{path}")).status_code for path in paths]
        foreign = (await http.get("/realtimes/healthz")).status_code
        async with (
            client(f"ws://{where}/ws", token("a", tenant)) as a,
            client(f"ws://{where}/realtime/ws", token("a", tenant)) as b,
        ):
            signed = [await signed_put(a), await signed_put(b)]
        kept = await put(signed[0], where)

    assert plain == prefixed == [200] * 6
    assert foreign == 404
    assert [one["url"].startswith(PUBLIC) for one in signed] == [True, True]
    assert kept == 200


async def test_a_hub_mounted_in_an_application(redis_url: str, tenant: str) -> None:
    """Its sockets open, its console loads, and its URLs begin where it is mounted."""
    hub = create_app(settings(redis_url))
    outer = FastAPI(lifespan=lambda _app: hub.router.lifespan_context(hub))
    outer.mount("/apps/hub", hub)
    async with served(outer) as where, httpx.AsyncClient(base_url=f"http://{where}/apps/hub") as http:
        statuses = [(await http.get(path)).status_code for path in ("/healthz", "/console", "/hub.js")]
        async with client(f"ws://{where}/apps/hub/ws", token("a", tenant)) as a:
            said = await a.say("conversation:1", "hi")
            signed = await signed_put(a)
        kept = await put(signed, where)
        posted = await http.post(
            "/v1/channels/conversation:1/events",
            json={"type": "chat.message", "payload": {"text": "hi"}},
            headers={"Authorization": f"Bearer {token('a', tenant)}"},
        )

    assert statuses == [200] * 3
    assert (said["type"], posted.status_code) == ("message.received", 201)
    assert signed["url"].startswith(f"http://{where}/apps/hub/_store/")
    assert kept == 200
