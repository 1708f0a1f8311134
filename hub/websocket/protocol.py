"""The hub's WebSocket transport: a lean `asyncio.Protocol` that takes over upgrades from uvicorn.

`uvicorn.Config(ws=lean_protocol(WireSettings(factory)))`. It needs no task, queue, timer or Starlette object per
connection, and knows nothing of JSON, tokens or channels: bytes pass through the frame codec, and messages go
straight to the `SocketReceiver`.

A socket ends, whoever begins it, with Close frames in both directions, then our FIN, then the peer's FIN. Until then
we read and discard, because closing a socket with unread bytes sends a reset that can destroy the Close frame in
transit, and a browser would report 1006 instead of our code. One deadline covers all of it. TLS has no half-close:
there we read on for a moment after a protocol violation, then close.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from dataclasses import dataclass
from enum import IntEnum
from functools import partial
from typing import Final, Protocol, cast

from hub.sockets import ReceiverFactory, SocketReceiver, Upgrade, UpgradeRefused
from hub.websocket.codec import (
    BINARY,
    CLOSE,
    FAILED,
    PING,
    PONG,
    TEXT,
    FrameDecoder,
    close_code,
    echo_close,
    encode_close,
    encode_pong,
    frame_close,
)
from hub.websocket.deflate import answer_to
from hub.websocket.upgrade import MESSAGE_SIZE_LIMIT_BYTES, SUBPROTOCOL, accept_response, read_upgrade, refusal_response

_logger: Final = logging.getLogger(__name__)

WRITE_HIGH_BYTES: Final = 262_144
"""High-water mark of the write buffer: above it a peer counts as slow. With less, a burst of joined events would look slow;
more costs memory per stalled peer: at this size 10,000 of them take 2.6 GB."""
WRITE_LOW_BYTES: Final = 65_536
"""Low-water mark of the write buffer, low enough to catch up by whole pages of events and not one by one."""

CLOSE_TIMEOUT_S: Final = 5.0
"""Seconds from our Close (or the peer's FIN) to a reset. Less cuts off slow phones, more keeps dead sockets."""

TLS_LINGER_S: Final = 1.0
"""Seconds for which a TLS peer that violated the protocol is still read, as it may be in the middle of sending. With less our
close code is lost on slow lines; with more the peer waits, and browsers give up after two seconds."""


@dataclass(frozen=True, slots=True)
class WireSettings:
    """Factory, limits, watermarks and timeouts shared by all sockets of one protocol class."""

    factory: ReceiverFactory
    subprotocols: tuple[str, ...] = (SUBPROTOCOL,)
    message_size_limit_bytes: int = MESSAGE_SIZE_LIMIT_BYTES
    write_high_bytes: int = WRITE_HIGH_BYTES
    write_low_bytes: int = WRITE_LOW_BYTES
    close_timeout_s: float = CLOSE_TIMEOUT_S
    tls_linger_s: float = TLS_LINGER_S
    handshake_size_limit_bytes: int | None = None
    """Maximum message size until the receiver calls `trust`; None for receivers without a handshake."""
    is_deflate_accepted: bool = False
    """True accepts offers of permessage-deflate. The receiver compresses what it writes; see `SocketTransport.is_deflate`."""


class _Phase(IntEnum):
    OPENING = 0
    OPEN = 1
    CLOSING = 2  # our Close was sent, the peer's has not arrived
    LINGERING = 3  # everything is exchanged; waiting for the peer's FIN
    CLOSED = 4


_OPENING, _OPEN, _CLOSING, _LINGERING, _CLOSED = _Phase


class ServerState(Protocol):
    """The part of uvicorn's `ServerState` used here: the set of live protocols, which shutdown goes through."""

    connections: set[asyncio.Protocol]


def lean_protocol(settings: WireSettings) -> type[asyncio.Protocol]:
    """Returns the protocol to pass to uvicorn as `Config(ws=…)`; the settings' factory makes the receiver of each socket."""
    return cast("type[asyncio.Protocol]", partial(LeanWebSocket, settings))  # uvicorn only calls it


def _discard(frames: bytes, /) -> None:
    """Replaces `write` once closing has begun: no frame may follow a Close (RFC 6455 section 5.5.1)."""


class LeanWebSocket(asyncio.Protocol):
    """One socket; to its receiver it is the `SocketTransport`.

    While the socket is open, `write` is the asyncio transport's own method, which saves fan-out a call.
    """

    __slots__ = (
        "_close_code",
        "_connections",
        "_decoder",
        "_next",
        "_owed_pong",
        "_phase",
        "_receiver",
        "_transport",
        "is_writable",
        "settings",
        "write",
    )

    def __init__(
        self,
        settings: WireSettings,
        *,
        config: object,  # noqa: ARG002 (uvicorn's call)
        server_state: ServerState,
        app_state: object,  # noqa: ARG002 (the same)
    ) -> None:
        self.settings = settings
        self._connections = server_state.connections
        self._phase = _OPENING
        self._close_code = 1006
        self._decoder: FrameDecoder | None = None
        self._next: asyncio.Handle | None = (
            None  # while open: the scheduled reading of buffered messages; afterwards: the closing deadline
        )
        self._owed_pong: bytes | None = None
        self._receiver: SocketReceiver | None = None
        self.is_writable = True
        self.write = _discard

    @property
    def is_deflate(self) -> bool:
        """See `SocketTransport`."""
        return self._decoder is not None and self._decoder.is_deflate

    # The opening

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Takes over the socket; uvicorn calls this, then `data_received` with the rebuilt request."""
        self._transport = cast("asyncio.Transport", transport)
        self._connections.add(self)

    def _open(self, request: bytes) -> None:
        transport, settings = self._transport, self.settings
        try:
            upgrade = read_upgrade(request, _peer(transport), settings.subprotocols, _port(transport))
            receiver = settings.factory(upgrade)
        except UpgradeRefused as refused:
            self._refuse(refused)
        except Exception:
            _logger.exception("the receiver factory failed; the upgrade is answered 500")
            self._refuse(UpgradeRefused(500, "internal error"))
        else:
            transport.set_protocol(self)  # uvicorn does so later, but flow control must work during `opened` already
            send_at_once(transport)
            transport.set_write_buffer_limits(settings.write_high_bytes, settings.write_low_bytes)
            offers = upgrade.headers.get(b"sec-websocket-extensions") if settings.is_deflate_accepted else None
            extension = answer_to(offers) if offers else None
            transport.write(accept_response(upgrade, extension=extension))
            self.write = transport.write
            first_limit_bytes = settings.handshake_size_limit_bytes
            limit_bytes = settings.message_size_limit_bytes
            self._decoder = FrameDecoder(
                limit_bytes if first_limit_bytes is None else min(first_limit_bytes, limit_bytes),
                is_deflate=extension is not None,
                is_one_a_feed=first_limit_bytes is not None,
            )
            self._start(receiver, upgrade)

    def _refuse(self, refused: UpgradeRefused) -> None:
        self._phase = _LINGERING
        self._transport.write(refusal_response(refused))
        self._transport.close()

    def _start(self, receiver: SocketReceiver, upgrade: Upgrade) -> None:
        self._phase = _OPEN
        self._receiver = receiver
        try:
            receiver.opened(self, upgrade)
        except Exception:
            self._break()

    # Incoming

    def data_received(self, data: bytes) -> None:
        """Decodes one read and passes its messages to the receiver."""
        decoder, receiver = self._decoder, self._receiver
        if decoder is None or receiver is None:
            if self._phase is _OPENING:
                self._open(data)
            return
        try:
            for kind, payload in decoder.feed(data):
                if self._phase is not _OPEN:
                    self._end_by(kind, payload)
                elif kind == TEXT:
                    receiver.text(payload)
                elif kind == BINARY:
                    receiver.binary(payload)
                elif kind in (PING, PONG):
                    self._answer(kind, payload)
                    receiver.heard()
                else:
                    self._end_by(kind, payload)
            if decoder.has_more:
                self._rest()
        except Exception:
            self._break()

    def _rest(self) -> None:
        """Schedules the decoder's buffered messages for the next loop iteration, before anything more is read.

        If the receiver has paused reading, `resume_reading` does so instead.
        """
        if self._phase is _OPEN and self._transport.is_reading():
            self._transport.pause_reading()
            self._read_on_soon()

    def _read_on_soon(self) -> None:
        if self._next is None:
            self._next = asyncio.get_running_loop().call_soon(self._read_on)

    def _read_on(self) -> None:
        self._next = None
        self._transport.resume_reading()
        self.data_received(b"")

    def _answer(self, kind: int, payload: bytes) -> None:
        """Answers a ping. A peer that does not read its pongs gets only the latest one (RFC 6455 section 5.5.3)."""
        if kind == PONG:
            return
        if self.is_writable:
            self.write(encode_pong(payload))
        else:
            self._owed_pong = payload

    def _end_by(self, kind: int, payload: bytes) -> None:
        """Answers the peer's Close or protocol violation, unless we closed first; then lingers."""
        if kind not in (CLOSE, FAILED):
            return
        if self._phase is _OPEN:
            self._close_code = close_code(payload)
            self._transport.write(echo_close(payload) if kind == CLOSE else frame_close(payload))
        self._linger(is_peer_done=kind == CLOSE)

    def _break(self) -> None:
        """Closes after an exception in the receiver, which then gets only `closed`. Called in an `except` block."""
        _logger.exception("the receiver failed; its socket is closed with 1011")
        self.close(1011, "internal error")

    # Outgoing

    def close(self, code: int = 1000, reason: str = "") -> None:
        """See `SocketTransport`."""
        frame = encode_close(code, reason)
        if self._phase is not _OPEN:
            return
        self.write(frame)
        self.write = _discard
        self._end(_CLOSING)
        self._close_code = code
        self._start_deadline()
        self._transport.resume_reading()  # otherwise the peer's Close would never be read
        if self._decoder is not None:
            self._decoder.discard()
            if self._decoder.has_more:  # the peer's Close may have been read already
                asyncio.get_running_loop().call_soon(self.data_received, b"")

    def abort(self) -> None:
        """See `SocketTransport`."""
        if self._phase is not _CLOSED:
            self.write = _discard
            self._end(_LINGERING)
            self._decoder = None
            self._transport.abort()

    def trust(self) -> None:
        """See `SocketTransport`."""
        if self._decoder is not None:
            self._decoder.trust(self.settings.message_size_limit_bytes)

    def pause_reading(self) -> None:
        """See `SocketTransport`."""
        if self._phase is _OPEN:
            self._transport.pause_reading()
            self._forget_next()

    def resume_reading(self) -> None:
        """See `SocketTransport`."""
        if self._phase is not _OPEN:
            return
        if self._decoder is not None and self._decoder.has_more:
            self._read_on_soon()
        else:
            self._transport.resume_reading()

    def pause_writing(self) -> None:
        """Handles the write buffer rising above its high-water mark."""
        self.is_writable = False
        self._tell_writable()

    def resume_writing(self) -> None:
        """Handles the write buffer falling below its low-water mark."""
        self.is_writable = True
        if self._owed_pong is not None:
            self.write(encode_pong(self._owed_pong))
            self._owed_pong = None
        self._tell_writable()

    def _tell_writable(self) -> None:
        if self._phase is _OPEN and self._receiver is not None:
            try:
                self._receiver.writable(self.is_writable)
            except Exception:
                self._break()

    # The end

    def shutdown(self) -> None:
        """Makes the receiver drain and close when uvicorn stops; uvicorn waits for `connection_lost`."""
        if self._phase is _OPEN and self._receiver is not None:
            try:
                self._receiver.draining()
            except Exception:
                self._break()

    def _linger(self, *, is_peer_done: bool) -> None:
        self.write = _discard
        self._end(_LINGERING)
        self._decoder = None
        self._start_deadline()
        if self._transport.can_write_eof():
            try:
                self._transport.write_eof()
            except OSError:  # the peer has gone already (ENOTCONN), so there is nothing to wait for
                self._transport.abort()
        elif is_peer_done:  # TLS cannot half-close
            self._transport.close()
        else:
            asyncio.get_running_loop().call_later(self.settings.tls_linger_s, self._transport.close)

    def _start_deadline(self) -> None:
        if self._next is None:
            self._next = asyncio.get_running_loop().call_later(self.settings.close_timeout_s, self.abort)

    def _end(self, phase: _Phase) -> None:
        if self._phase is _OPEN:
            self._forget_next()
        self._phase = phase

    def _forget_next(self) -> None:
        if self._next is not None:
            self._next.cancel()
            self._next = None

    def eof_received(self) -> None:
        """Handles the peer's FIN.

        The transport closes itself once its buffer is written; the deadline is for peers that do not read.
        """
        self.write = _discard
        self._end(_LINGERING)
        self._decoder = None
        self._start_deadline()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 (a reset is how mobile clients leave)
        """Releases everything after the socket has closed."""
        self._connections.discard(self)
        self._phase = _CLOSED
        self.write = _discard
        self._decoder = None
        self._forget_next()
        receiver, self._receiver = self._receiver, None
        if receiver is not None:
            try:
                receiver.closed(self._close_code)
            except Exception:
                _logger.exception("the receiver failed in closed()")


def send_at_once(transport: asyncio.Transport) -> None:
    """Sets TCP_NODELAY, which asyncio does not set on listeners that it did not create itself.

    Without it a second small write waits until the first is acknowledged, which a peer may delay by 40 ms. uvloop sets it on
    every socket by itself.
    """
    if type(transport).__module__ == "uvloop.loop":
        return
    accepted = transport.get_extra_info("socket")
    if accepted is not None and accepted.family != socket.AF_UNIX:
        accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, True)


def _peer(transport: asyncio.Transport) -> tuple[str, int] | None:
    name = transport.get_extra_info("peername")
    return (str(name[0]), int(name[1])) if isinstance(name, tuple) and len(name) > 1 else None


def _port(transport: asyncio.Transport) -> int | None:
    name = transport.get_extra_info("sockname")
    return int(name[1]) if isinstance(name, tuple) and len(name) > 1 else None
