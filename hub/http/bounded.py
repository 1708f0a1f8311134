"""Uvicorn's HTTP protocol with limits: on the time to send a head or a body and to read an answer, on sizes, on connections.

Without them uvicorn waits without end for a slow head and buffers all of it (slowloris), and for the rest of a body
whose request was answered already. It accepts any number of connections, and requests with two `Host` headers. It
also logs a line for each malformed request, so that anybody could fill a disk.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import logging
import struct
import sys
import termios
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from hub.auth.origins import LOOPBACK, Network, address_of, is_within
from hub.errors import HubError
from hub.http.problems import LINGER_BYTES, LINGER_S, PROBLEM_TYPE, problem_document
from hub.limits.slices import Slices
from hub.websocket.protocol import send_at_once

HEAD_BYTES_MAX: Final = 65_536
"""Maximum bytes of a head: a token of 8 KiB, cookies of other applications on the host, and some room. Checked after each read."""
BODY_GRACE_S: Final = 35.0
"""Seconds allowed for a body of any size. More than the 30 s a route waits for its body, so that the route's answer comes first."""
BODY_PACE_BYTES_PER_S: Final = 16_384
"""Minimum average bytes per second of a large body: a part of 8 MiB may take nine minutes."""
READ_WINDOW_S: Final = 30.0
"""Seconds in which a client must read what the minimum rate requires, or all that is buffered; otherwise its connection is cut, so
that unread pages, downloads and streams are not kept without end. The reader of a stream reconnects with its cursor."""
_FAULTS_ONLY: Final = logging.getLogger("uvicorn.error.requests")
_FAULTS_ONLY.setLevel(logging.ERROR)


@dataclass(slots=True)
class HttpBounds:
    """The limits on one node's HTTP connections, and the counts they apply to.

    Attributes:
        head_timeout_s: seconds for the head of a request to arrive.
        drain_s: seconds from the start of a shutdown until connections are cut.
        waiting_max: maximum connections that have not sent a head yet or were upgraded.
        plain_max: maximum connections with a plain HTTP request, counted from its head until they close.
        plain_by_address_max: the same per client address; `proxies` are not counted.
        slices: grants the time for WebSocket upgrades.
    """

    head_timeout_s: float = 10.0
    drain_s: float = 5.0
    waiting_max: int = 10_000
    plain_max: int = 2_000
    plain_by_address_max: int = 500
    proxies: Sequence[Network] = LOOPBACK
    waiting_count: int = 0
    plain_count: int = 0
    plain_by_address: Counter[str] = field(default_factory=Counter)
    slices: Slices = field(default_factory=Slices)

    def wait(self) -> None:
        """Counts a connection that has not sent a head yet."""
        self.waiting_count += 1

    def stop_waiting(self) -> None:
        """Stops counting such a connection."""
        self.waiting_count -= 1

    def enter(self, host: str) -> bool:
        """Counts a connection as plain HTTP; returns False if there are too many."""
        is_proxy = not host or is_within(host, self.proxies)
        address = address_of((host, 0), {})
        is_over = self.plain_count >= self.plain_max
        if is_over or (not is_proxy and self.plain_by_address[address] >= self.plain_by_address_max):
            self.plain_by_address += Counter()  # removes the entries that are zero
            return False
        self.plain_count += 1
        self.plain_by_address[address] += 1
        return True

    def leave(self, host: str) -> None:
        """Stops counting a plain HTTP connection."""
        address = address_of((host, 0), {})
        self.plain_count -= 1
        self.plain_by_address[address] -= 1
        if not self.plain_by_address[address]:
            del self.plain_by_address[address]


class BoundedHttp(HttpToolsProtocol):
    """One connection, until it is upgraded or closed.

    Args:
        bounds: the limits and counts of the node.
        waited_s: seconds that the connection has waited for its first bytes.
        given: the arguments of uvicorn.
    """

    def __init__(self, bounds: HttpBounds, waited_s: float, **given: Any) -> None:
        super().__init__(**given)
        self.bounds = bounds
        self._waited_s = waited_s
        self.logger = _FAULTS_ONLY
        self._head_bytes = 0
        self._unread_bytes = 0
        self._is_plain = self._is_waiting = self._is_body_due = False
        self._head_timer: asyncio.TimerHandle | None = None
        self._body_timer: asyncio.TimerHandle | None = None
        self._read_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own
        """Starts the timer for the first head."""
        super().connection_made(transport)
        if self.bounds.waiting_count >= self.bounds.waiting_max:
            transport.abort()
            return
        send_at_once(transport)  # uvicorn writes the head and the body of an answer separately
        self._is_waiting = True
        self.bounds.wait()
        self._expect_head()

    def data_received(self, data: bytes) -> None:
        """Passes data to the parser, and cuts the connection if the head or an unread body has grown too large."""
        self._head_bytes += len(data)
        is_unread = self._is_body_due and self.cycle.response_complete
        super().data_received(data)
        if self._head_timer is not None and self._head_bytes > HEAD_BYTES_MAX:
            self.transport.abort()
        if is_unread:
            self._unread_bytes += len(data)
            if self._unread_bytes > LINGER_BYTES:
                self.transport.abort()

    def on_message_begin(self) -> None:
        """Starts the timer for the head of the next request."""
        super().on_message_begin()
        self._head_bytes = 0
        self._expect_head()

    def on_headers_complete(self) -> None:
        """Stops the head's timer.

        A head without exactly one `Host` is malformed (RFC 9112 section 3.2) and answered 400.
        """
        self._stop_waiting()
        if self.parser.get_http_version() == "1.1" and sum(name == b"host" for name, _ in self.headers) != 1:
            raise ValueError("a request must name exactly one host")
        if self.parser.should_upgrade() and self._should_upgrade():
            super().on_headers_complete()
            return
        self._expect_body()
        served, self.app = self.app, self.app if self._enter() else _refuse
        try:
            super().on_headers_complete()
        finally:
            self.app = served

    def on_message_complete(self) -> None:
        """Handles the end of a body. If the answer was sent before, the keep-alive timer starts only now."""
        self._is_body_due = False
        self._stop_body_timer()
        super().on_message_complete()
        if self.cycle is not None and self.cycle.response_complete and self.timeout_keep_alive_task is None:
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def on_response_complete(self) -> None:
        """Handles the end of an answer.

        If the body is still arriving, it is read and discarded briefly, then the connection ends.
        """
        super().on_response_complete()
        if self._is_body_due and not self.transport.is_closing():
            self._stop_body_timer()
            self._body_timer = self.loop.call_later(LINGER_S, self._too_slow)

    def pause_writing(self) -> None:
        """Starts checking the rate at which the peer reads, because the write buffer is full."""
        super().pause_writing()
        self._watch_reading()

    def resume_writing(self) -> None:
        """Stops checking, because the peer has read nearly everything."""
        self._stop_read_timer()
        super().resume_writing()

    def handle_websocket_upgrade(self) -> None:
        """Stops counting the connection, which another protocol now handles."""
        self._forget()
        super().handle_websocket_upgrade()
        self.parser = None  # type: ignore[assignment]  # it refers to this object, which would otherwise live until the next search for cycles

    def connection_lost(self, exc: Exception | None) -> None:
        """Stops the timers and the counting."""
        self._stop_waiting()
        self._stop_body_timer()
        self._stop_read_timer()
        self._forget()
        super().connection_lost(exc)

    def shutdown(self) -> None:
        """Lets the current answer finish, but cuts the connection after `drain_s`, however slowly its peer reads."""
        super().shutdown()
        if not self.transport.is_closing():
            self.loop.call_later(self.bounds.drain_s, self.transport.abort)

    def _expect_head(self) -> None:
        if self._head_timer is None:
            left_s = max(0.0, self.bounds.head_timeout_s - self._waited_s)
            self._waited_s = 0.0
            self._head_timer = self.loop.call_later(left_s, self._too_slow)

    def _expect_body(self) -> None:
        """Starts one timer for the whole body; arriving data does not extend it."""
        sizes = [value for name, value in self.headers if name == b"content-length"]
        size_bytes = int(sizes[0]) if sizes and sizes[0].isdigit() else 0
        self._is_body_due, self._unread_bytes = True, 0
        self._stop_body_timer()
        self._body_timer = self.loop.call_later(BODY_GRACE_S + size_bytes / BODY_PACE_BYTES_PER_S, self._too_slow)

    def _enter(self) -> bool:
        if self._is_plain:
            return True
        self._forget()
        self._is_plain = self.bounds.enter(self._host())
        return self._is_plain

    def _forget(self) -> None:
        if self._is_waiting:
            self._is_waiting = False
            self.bounds.stop_waiting()
        if self._is_plain:
            self._is_plain = False
            self.bounds.leave(self._host())

    def _host(self) -> str:
        return self.client[0] if self.client else ""

    def _stop_waiting(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _stop_body_timer(self) -> None:
        if self._body_timer is not None:
            self._body_timer.cancel()
            self._body_timer = None

    def _watch_reading(self) -> None:
        self._stop_read_timer()
        self._read_timer = self.loop.call_later(READ_WINDOW_S, self._look_at_reading, self._unread_by_peer_bytes())

    def _unread_by_peer_bytes(self) -> int:
        return self.transport.get_write_buffer_size() + _kernel_bytes(self.transport)

    def _look_at_reading(self, before_bytes: int) -> None:
        self._read_timer = None
        if before_bytes - self._unread_by_peer_bytes() < READ_WINDOW_S * BODY_PACE_BYTES_PER_S:
            self.transport.abort()
        else:
            self._watch_reading()

    def _stop_read_timer(self) -> None:
        if self._read_timer is not None:
            self._read_timer.cancel()
            self._read_timer = None

    def _too_slow(self) -> None:
        self._head_timer = self._body_timer = None
        self.transport.abort()


def _kernel_bytes(transport: asyncio.Transport) -> int:
    """Bytes that the peer has not acknowledged; 0 where the kernel cannot tell.

    The kernel takes new bytes only when a third of its buffer, which grows to megabytes, is free, so the transport's own
    buffer does not change for up to a minute although the peer reads.
    """
    accepted = transport.get_extra_info("socket")
    if accepted is None or sys.platform != "linux":
        return 0
    try:
        (size_bytes,) = struct.unpack("i", fcntl.ioctl(accepted.fileno(), termios.TIOCOUTQ, bytes(4)))
    except (OSError, ValueError):  # the socket has just been closed
        return 0
    return int(size_bytes)


async def _refuse(scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG001 - the port's signature
    """Answers a request of a connection over the limit, and closes it."""
    error = HubError(4010, "too many connections; reuse one for several requests, or retry later", retry_after_ms=1_000)
    body = json.dumps(problem_document(error)).encode()
    headers = [
        (b"content-type", PROBLEM_TYPE.encode()),
        (b"content-length", b"%d" % len(body)),
        (b"retry-after", b"1"),
        (b"connection", b"close"),
        (b"cache-control", b"no-store"),
    ]
    await send({"type": "http.response.start", "status": error.row.http_status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
