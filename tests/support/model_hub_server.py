"""The model hub behind a real WebSocket server, for tests of the client's use of sockets."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from support.model_hub import ModelHub, ModelSession


class ModelHubServer:
    """Serves a model hub at `url`; events appended by a test are sent when it calls `push`.

    Attributes:
        sockets: every accepted socket, oldest first.
        upgrade_status: if set, the HTTP status with which upgrades are refused.
        deaf: accept sockets and never answer.
    """

    def __init__(self, hub: ModelHub) -> None:
        self.hub = hub
        self.url = ""
        self.sockets: list[ServerConnection] = []
        self.sessions: list[ModelSession] = []
        self.upgrade_status: int | None = None
        self.deaf = False
        self.arrived = asyncio.Condition()

    async def append(self, channel: str, text: str = "x", count: int = 1) -> None:
        for _ in range(count):
            self.hub.append(channel, text)
        await self.push()

    async def push(self) -> None:
        """Send the waiting data of each open socket."""
        for socket, session in zip(self.sockets, self.sessions, strict=True):
            with contextlib.suppress(ConnectionClosed):
                while session.out:
                    await socket.send(session.out.pop(0))

    async def until_seen(self, kind: str, count: int = 1) -> list[dict[str, object]]:
        """Wait until this many messages of a type were received, over all sockets; returns them."""

        def seen() -> list[dict[str, object]]:
            return [frame for session in self.sessions for frame in session.seen if frame["type"] == kind]

        async with self.arrived:
            await self.arrived.wait_for(lambda: len(seen()) >= count)
        return seen()

    def answer_upgrade(self, connection: ServerConnection, request: Request) -> Response | None:
        if self.upgrade_status is None:
            return None
        return connection.respond(self.upgrade_status, "no")

    async def handle(self, socket: ServerConnection) -> None:
        session = ModelSession(self.hub)
        self.sockets.append(socket)
        self.sessions.append(session)
        try:
            async for message in socket:
                if not self.deaf:
                    session.receive(str(message))
                    await self.push()
                async with self.arrived:
                    self.arrived.notify_all()
                if session.closed is not None:
                    await socket.close(session.closed)
        except ConnectionClosed:
            return
        finally:
            session.leave()


@contextlib.asynccontextmanager
async def serving(hub: ModelHub) -> AsyncIterator[ModelHubServer]:
    """Serve a model hub on a free port of 127.0.0.1."""
    server = ModelHubServer(hub)
    async with serve(server.handle, "127.0.0.1", 0, process_request=server.answer_upgrade) as listening:
        server.url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
        yield server
