"""What a wire and the thing behind it owe each other: `SocketTransport` and `Receiver`. Pure.

One socket has one of each. A wire (WebSocket on uvicorn, or the ASGI adapter) calls the receiver as frames come in, and
the receiver calls the wire with frames that are ready to go. Nothing here knows sessions, channels or JSON.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Upgrade:
    """The request that asked for a socket.

    Attributes:
        path: the request target before `?`, percent-encoding kept.
        query: what follows `?`, without it; empty when absent.
        headers: lower-case names; repeated fields joined by a comma (RFC 9110 section 5.3).
        client: address and port of the peer, None on a Unix socket.
        subprotocol: the one chosen of those the client offered, None when none fits.
    """

    path: str
    query: str
    headers: Mapping[bytes, bytes]
    client: tuple[str, int] | None
    subprotocol: str | None


class UpgradeRefused(Exception):
    """A factory's way to answer an upgrade with an HTTP status: 404 unknown path, 503 draining.

    Attributes:
        status: the HTTP status, 400 to 599.
        text: one sentence for the body.
    """

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text


class SocketTransport(Protocol):
    """What a receiver may do to its socket. Every call is allowed at any time; after the end each does nothing."""

    @property
    def is_writable(self) -> bool:
        """False while more than the write mark waits in the buffer. Writing then still works, but costs memory."""
        ...

    def write(self, frames: bytes, /) -> None:
        """Send bytes that are whole frames already, one or several joined. Dropped once closing has begun."""
        ...

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Begin the closing handshake behind what was written; nothing is received any more.

        A peer that does not answer within the wire's deadline is aborted. `reason` is cut to 123 bytes of UTF-8.

        Raises:
            ValueError: `code` must not appear on the wire (1005, 1006, 1015, or outside the registered ranges).
        """
        ...

    def abort(self) -> None:
        """Reset the connection now; what was not sent is lost."""
        ...

    def trust(self) -> None:
        """The peer's first message was a handshake: from now on messages may have the full size."""
        ...

    def pause_reading(self) -> None:
        """Take no more from the peer. Messages of the read in hand (at most 256 KiB) still arrive."""
        ...

    def resume_reading(self) -> None:
        """Undo `pause_reading`."""
        ...


class Receiver(Protocol):
    """What a wire calls, always from the event loop, never after `closed`.

    An exception out of any of these is logged once and closes the socket with 1011; the node goes on.
    """

    def opened(self, transport: SocketTransport, upgrade: Upgrade) -> None:
        """The upgrade was accepted: called once, before everything else. It may write and close already."""
        ...

    def text(self, data: bytes) -> None:
        """A whole text message, valid UTF-8, at most the message size limit."""
        ...

    def binary(self, data: bytes) -> None:
        """A whole binary message, at most the message size limit."""
        ...

    def heard(self) -> None:
        """A ping or pong came in: the peer lives. Pings are answered already; messages are signs of life themselves."""
        ...

    def writable(self, is_writable: bool) -> None:
        """False: the write buffer passed its high mark (this may come inside `write`). True: it drained below the low."""
        ...

    def draining(self) -> None:
        """The server is shutting down: announce it, then `close(1012)`. The server waits for the socket to end."""
        ...

    def closed(self, code: int) -> None:
        """The socket is gone; called exactly once, last.

        `code` is the peer's (1005 if it gave none) or ours, whoever closed first; 1006 without a closing handshake.
        """
        ...


ReceiverFactory = Callable[[Upgrade], Receiver]
"""Makes the receiver of one socket, or raises `UpgradeRefused`."""
