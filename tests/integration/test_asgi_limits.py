"""The plain ASGI endpoint keeps the limits itself: the server in front of it has its own."""

from __future__ import annotations

import asyncio
import json

import pytest
import uvicorn

from hub.app import create_app
from support.nodes import free_socket, settings, token
from support.socket_client import client


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("kind", [str, str.encode])
async def test_a_message_over_the_limit_closes_with_1009(redis_url: str, tenant: str, kind: type) -> None:
    """One of the limit is taken; a longer one, text or binary, ends the socket, and nothing behind it is taken."""
    bound = free_socket()
    app = create_app(settings(redis_url, message_size_limit_bytes=2_000))
    server = uvicorn.Server(uvicorn.Config(app, ws="websockets-sansio", log_level="error", lifespan="on"))
    task = asyncio.create_task(server._serve([bound]))
    while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
        await asyncio.sleep(0)
    try:
        async with client(f"ws://127.0.0.1:{bound.getsockname()[1]}/ws", token("a", tenant)) as alice:
            await alice.send_raw(json.dumps({"type": "connection.heartbeat"}).ljust(2_000))
            await alice.expect("connection.heartbeat")
            await alice.send_raw(kind(json.dumps({"type": "connection.heartbeat"}).ljust(2_001)))
            await alice.send_raw(json.dumps({"type": "connection.heartbeat", "id": "late"}))
            code = await alice.closed()
    finally:
        server.should_exit = True
        await task
        bound.close()

    assert code == 1009
    assert not [frame for frame in alice.seen if frame.get("re") == "late"]
