"""The interface between a WebSocket, on uvicorn or any ASGI server, and the connection that handles it, as Protocols. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Upgrade:
    """The HTTP request that asks for a WebSocket.

    Attributes:
        path: the request target before `?`, percent-encoding kept.
        query: the part after `?`; empty if absent.
        headers: lower-case names; repeated fields joined by a comma (RFC 9110 section 5.3).
        client: address and port of the peer, None on a Unix socket.
        subprotocol: the one chosen from the client's offer, None if none fits.
        prefix: the path that the hub is mounted at, which `path` does not include.
        scope: the ASGI scope, if an ASGI server took the request; None on our own protocol class.
        port: the port that took the request; None on a Unix socket.
    """

    path: str
    query: str
    headers: Mapping[bytes, bytes]
    client: tuple[str, int] | None
    subprotocol: str | None
    prefix: str = ""
    scope: Mapping[str, Any] | None = None
    port: int | None = None


class UpgradeRefused(Exception):
    """Raised by a receiver factory to answer an upgrade with an HTTP status: 404 unknown path, 503 stopping.

    Attributes:
        status: the HTTP status, 400 to 599.
        text: one sentence for the body.
    """

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text


class SocketTransport(Protocol):
    """A socket, as its receiver sees it. Every method may be called at any time; after the end each does nothing."""

    @property
    def is_writable(self) -> bool:
        """False while the write buffer is above its high-water mark. Writing then still works, but costs memory."""
        ...

    @property
    def is_deflate(self) -> bool:
        """True if compressed frames may be written (`hub.websocket.deflate`); fixed once the socket is open."""
        ...

    def write(self, frames: bytes, /) -> None:
        """Writes complete frames, one or several joined. They are dropped once closing has begun."""
        ...

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Starts the closing handshake after what was written; nothing is received any more.

        A peer that does not answer within the closing timeout is reset. `reason` is cut to 123 bytes of
        UTF-8.

        Raises:
            ValueError: `code` must not appear on the wire (1005, 1006, 1015, or outside the registered ranges).
        """
        ...

    def abort(self) -> None:
        """Resets the connection now; unsent data is lost."""
        ...

    def trust(self) -> None:
        """Allows messages of the full size from now on, because the peer has sent a handshake."""
        ...

    def pause_reading(self) -> None:
        """Stops reading from the peer. Messages of data already read (at most 256 KiB) still arrive."""
        ...

    def resume_reading(self) -> None:
        """Reads again after `pause_reading`."""
        ...


class SocketReceiver(Protocol):
    """Handles the events of one socket; called only from the event loop, and never after `closed`.

    An exception from any method is logged once and closes the socket with 1011; the node continues.
    """

    def opened(self, transport: SocketTransport, upgrade: Upgrade) -> None:
        """Called once, before everything else, when the upgrade was accepted. It may already write and close."""
        ...

    def text(self, data: bytes) -> None:
        """Handles a complete text message: valid UTF-8, within the message size limit."""
        ...

    def binary(self, data: bytes) -> None:
        """Handles a complete binary message, within the message size limit."""
        ...

    def heard(self) -> None:
        """Handles a ping or pong, which shows that the peer is alive. The transport has answered the ping."""
        ...

    def writable(self, is_writable: bool) -> None:
        """Called with False when the write buffer exceeds its high-water mark, with True when it is below the low one again.

        The former may happen inside `write`.
        """
        ...

    def draining(self) -> None:
        """Called when the server shuts down: send a notice, then `close(1012)`. The server waits for the socket to end."""
        ...

    def closed(self, code: int) -> None:
        """Called exactly once, last, when the socket has closed.

        `code` is that of the first Close frame, the peer's (1005 if it gave none) or ours; 1006 without a
        closing handshake.
        """
        ...


ReceiverFactory = Callable[[Upgrade], SocketReceiver]
"""Returns the receiver of one socket, or raises `UpgradeRefused`."""
