"""The plain ASGI endpoint: the same session and limits on a server that knows nothing of our protocol class."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import uvicorn

from hub.app import create_app
from support.nodes import free_socket, settings, token
from support.socket_client import client, raw_client


@contextlib.asynccontextmanager
async def plain_server(redis_url: str, ws: str, **changes: Any) -> AsyncIterator[str]:
    """uvicorn with one of its own WebSocket implementations."""
    bound = free_socket()
    config = uvicorn.Config(create_app(settings(redis_url, **changes)), ws=ws, log_level="error", lifespan="on")
    server = uvicorn.Server(config)
    task = asyncio.create_task(server._serve([bound]))
    while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
        await asyncio.sleep(0)  # let it start
    try:
        yield f"ws://127.0.0.1:{bound.getsockname()[1]}/ws"
    finally:
        server.should_exit = True
        await task
        bound.close()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("ws", ["websockets-sansio"])
async def test_the_same_conversation_over_plain_asgi(redis_url: str, tenant: str, ws: str) -> None:
    """Handshake, subscribe, replay, live, errors and close codes are those of the lean protocol."""
    async with plain_server(redis_url, ws) as url:
        async with client(url, token("a", tenant), capabilities=["batch"]) as a:
            for number in range(3):
                await a.say("conversation:1", f"m{number}")
            subscribed = await a.subscribe("conversation:1", after="0")
            replayed = await a.events(3)
            await a.expect("channel.resumed")
            await a.say("conversation:1", "live")
            (live,) = await a.events(1)
            await a.send_raw(b"\0")
            code = await a.closed()
        async with raw_client(url) as b:
            await b.send("connection.init", {"token": "nonsense", "versions": [1]})
            refused = await b.closed()

    assert (subscribed["replay"], [event["seq"] for event in replayed], live["seq"]) == (3, [1, 2, 3], 4)
    assert (code, refused) == (1003, 4001)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("kind", [str, str.encode])
async def test_a_message_over_the_limit_closes_with_1009(redis_url: str, tenant: str, kind: type) -> None:
    """One of the limit is taken; a longer one, text or binary, ends the socket, and nothing behind it is taken."""
    async with (
        plain_server(redis_url, "websockets-sansio", message_size_limit_bytes=2_000) as url,
        client(url, token("a", tenant)) as alice,
    ):
        await alice.send_raw(json.dumps({"type": "connection.heartbeat"}).ljust(2_000))
        await alice.expect("connection.heartbeat")
        await alice.send_raw(kind(json.dumps({"type": "connection.heartbeat"}).ljust(2_001)))
        await alice.send_raw(json.dumps({"type": "connection.heartbeat", "id": "late"}))
        code = await alice.closed()

    assert code == 1009
    assert not [frame for frame in alice.seen if frame.get("re") == "late"]
