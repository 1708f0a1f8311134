"""A real uvicorn server with the hub's WebSocket protocol class and no hub, in a thread with its own event loop.

The thread lets tests use plain blocking sockets; what the server receives is passed to the test in a queue.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from contextlib import contextmanager
from queue import Queue
from typing import TypeVar

import uvicorn

from hub.sockets import SocketTransport, Upgrade, UpgradeRefused
from hub.websocket.codec import encode_binary, encode_text
from hub.websocket.deflate import deflate_text
from hub.websocket.protocol import WireSettings, lean_protocol
from support.certificate import Certificate

WAIT_S = 30.0
"""Maximum duration of a single step on a loaded machine; normally no step takes this long."""


T = TypeVar("T")


class Boom(Exception):
    """Raised by a receiver that is told to fail."""


class Recorder:
    """A receiver that records every call, and acts on the path and on received texts.

    Path: `/refuse/404` refuses with that status, `/crash` fails in the factory, `/boom/<call>` raises in that call. Text:
    `close 4001 why`, `abort`, `flood N` (N text frames of 1 KiB), `pause`, `close then write`; any other text is echoed.
    """

    def __init__(self, upgrade: Upgrade) -> None:
        if upgrade.path.startswith("/refuse/"):
            raise UpgradeRefused(int(upgrade.path.removeprefix("/refuse/")), "not here")
        if upgrade.path == "/crash":
            raise Boom
        self._fails_in = upgrade.path.removeprefix("/boom/") if upgrade.path.startswith("/boom/") else ""
        self.calls: Queue[tuple[str, object]] = Queue()

    def _record(self, call: str, value: object = None) -> None:
        self.calls.put((call, value))
        if call == self._fails_in:
            raise Boom

    def opened(self, transport: SocketTransport, upgrade: Upgrade) -> None:
        self.transport = transport
        self._loop = asyncio.get_running_loop()
        self._record("opened", upgrade)

    def text(self, data: bytes) -> None:
        self._record("text", data)
        word, _, rest = data.decode().partition(" ")
        if data == b"close then write":
            self.transport.close(4000)
            self.transport.write(encode_text(b"too late"))
        elif word == "close":
            code, _, reason = rest.partition(" ")
            self.transport.close(int(code), reason)
        elif word == "abort":
            self.transport.abort()
        elif word == "pause":
            self.transport.pause_reading()
        elif word == "flood":
            for _ in range(int(rest)):
                self.transport.write(encode_text(b"x" * 1024))
        else:
            self.transport.write(deflate_text(data) if self.transport.is_deflate else encode_text(data))

    def binary(self, data: bytes) -> None:
        self._record("binary", data)
        self.transport.write(encode_binary(data))

    def heard(self) -> None:
        self._record("heard")

    def writable(self, is_writable: bool) -> None:
        self._record("writable", is_writable)

    def draining(self) -> None:
        self._record("draining")
        self.transport.close(1012, "restart")

    def closed(self, code: int) -> None:
        self._record("closed", code)

    # Called from the test's thread

    def inside(self, call: Callable[[], T]) -> T:
        """Run a function in the server's event loop and return its result."""
        answer: Queue[T] = Queue()
        self._loop.call_soon_threadsafe(lambda: answer.put(call()))
        return answer.get(timeout=WAIT_S)

    def next_call(self, name: str) -> object:
        """Wait for the next call of that name and return its value; earlier calls are skipped."""
        while True:
            call, value = self.calls.get(timeout=WAIT_S)
            if call == name:
                return value


class WireServer:
    """The server's address, its receivers in order, and a way to run code inside its event loop."""

    def __init__(self, server: uvicorn.Server, listener: socket.socket) -> None:
        self._server = server
        self.port: int = listener.getsockname()[1]
        self.receivers: Queue[Recorder] = Queue()

    def next_receiver(self) -> Recorder:
        """The receiver of the next socket that is upgraded."""
        return self.receivers.get(timeout=WAIT_S)

    @property
    def live(self) -> int:
        """The number of connections for which uvicorn would wait at shutdown."""
        return len(self._server.server_state.connections)

    def stop(self) -> None:
        """Begin uvicorn's graceful shutdown; returns at once."""
        self._server.should_exit = True


async def plain_http(
    scope: MutableMapping[str, object],
    receive: Callable[[], Awaitable[MutableMapping[str, object]]],
    send: Callable[[MutableMapping[str, object]], Awaitable[None]],
) -> None:
    """The ASGI app that answers plain HTTP."""
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})
    await send({"type": "http.response.body", "body": b"plain"})


@contextmanager
def wire_server(
    *,
    loop: str = "uvloop",
    http: str = "httptools",
    close_timeout_s: float = WAIT_S,
    message_size_limit_bytes: int = 1_048_576,
    certificate: Certificate | None = None,
    is_deflate_accepted: bool = False,
) -> Iterator[WireServer]:
    """Run the server for the duration of the block; at its end the server is drained and its thread joined."""
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65_536)  # so that a megabyte is enough to fill the buffers

    def factory(upgrade: Upgrade) -> Recorder:
        receiver = Recorder(upgrade)
        wire.receivers.put(receiver)
        return receiver

    protocol = lean_protocol(
        WireSettings(
            factory,
            close_timeout_s=close_timeout_s,
            message_size_limit_bytes=message_size_limit_bytes,
            is_deflate_accepted=is_deflate_accepted,
        )
    )
    config = uvicorn.Config(
        plain_http,
        loop=loop,
        http=http,
        ws=protocol,
        lifespan="off",
        log_config=None,
        ssl_certfile=certificate and certificate.certificate,
        ssl_keyfile=certificate and certificate.key,
    )
    server = uvicorn.Server(config)
    wire = WireServer(server, listener)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="wire server")
    thread.start()
    try:
        yield wire
    finally:
        server.should_exit = True
        thread.join(WAIT_S)
        listener.close()
        assert not thread.is_alive(), "the server did not stop: a socket never ended"
