"""The hub a team writes first: FastAPI, a task for each socket, Redis PUB/SUB; nothing is stored. `uvicorn` serves `app`."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections import defaultdict
from collections.abc import AsyncIterator

import jwt
import redis.asyncio as redis
from fastapi import FastAPI, WebSocket, WebSocketDisconnect
from redis.asyncio.client import PubSub

_UNUSED = "unused"
followers: dict[str, set[WebSocket]] = defaultdict(set)


async def read(subscription: PubSub) -> None:
    """Pass every message on to the sockets of its channel."""
    async for message in subscription.listen():
        text = message["data"].decode()
        for socket in list(followers[message["channel"].decode()]):
            with contextlib.suppress(RuntimeError, WebSocketDisconnect):
                await socket.send_text(text)


@contextlib.asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """One pool of connections and one subscription for the process."""
    pool = redis.BlockingConnectionPool.from_url(os.environ["REDIS_URL"], max_connections=50, timeout=None)
    app.state.redis = redis.Redis(connection_pool=pool)
    app.state.subscription = app.state.redis.pubsub(ignore_subscribe_messages=True)
    await app.state.subscription.subscribe(_UNUSED)  # `listen` ends where there is no subscription
    reading = asyncio.create_task(read(app.state.subscription))
    yield
    reading.cancel()


app = FastAPI(lifespan=lifespan)


@app.websocket("/ws")
async def serve(socket: WebSocket) -> None:
    """Authenticate, subscribe, then publish whatever arrives."""
    await socket.accept()
    channels: list[str] = []
    try:
        hello = json.loads(await socket.receive_text())
        jwt.decode(hello["token"], os.environ["SECRET"], algorithms=["HS256"], audience="hub")
        channels = hello["channels"]
        for channel in channels:
            if not followers[channel]:
                await app.state.subscription.subscribe(channel)
            followers[channel].add(socket)
        await socket.send_text(json.dumps({"subscribed": channels}))
        while True:
            message = json.loads(await socket.receive_text())
            await app.state.redis.publish(message["channel"], json.dumps(message))
    except WebSocketDisconnect:
        pass
    finally:
        for channel in channels:
            followers[channel].discard(socket)
