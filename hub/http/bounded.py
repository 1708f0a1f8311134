"""Uvicorn's HTTP protocol with bounds: on the time a head and a body may take, on their size, on connections.

Uvicorn waits for ever for a slow head and keeps all of it (slowloris), and for the rest of a body whose request it has answered
already; accepts any number of connections, and a request with two hosts; and logs a line for each malformed one, so that anybody
could fill a disk.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final

from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from hub.auth.origins import LOOPBACK, Network, address_of, is_within
from hub.errors import HubError
from hub.http.problems import LINGER_BYTES, LINGER_S, PROBLEM_TYPE, problem_document
from hub.websocket.protocol import send_at_once

HEAD_BYTES_MAX: Final = 65_536
"""A token of 8 KiB, cookies of other applications of the same host, and room. Checked after each read of the socket."""
BODY_GRACE_S: Final = 35.0
"""The time for a body of any size. Longer than a route waits for one of its own (30 s), so that its answer comes first."""
BODY_PACE_BYTES_PER_S: Final = 16_384
"""The pace a large body must keep on the whole: a part of 8 MiB has nine minutes."""
_FAULTS_ONLY: Final = logging.getLogger("uvicorn.error.requests")
_FAULTS_ONLY.setLevel(logging.ERROR)


@dataclass(slots=True)
class HttpBounds:
    """The bounds of one node's HTTP connections, and the counts they are held against.

    Attributes:
        head_timeout_s: until the head of a request has arrived.
        drain_s: from the start of a shutdown until connections are cut.
        waiting_max: connections that have not sent a head yet, or were upgraded since.
        plain_max: connections with a plain request, from its head until they end.
        plain_by_address_max: of them from one address; `proxies` are not counted.
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

    def enter(self, host: str) -> bool:
        """Count a connection as plain; false when there are too many."""
        is_proxy = not host or is_within(host, self.proxies)
        address = address_of((host, 0), {})
        is_over = self.plain_count >= self.plain_max
        if is_over or (not is_proxy and self.plain_by_address[address] >= self.plain_by_address_max):
            self.plain_by_address += Counter()  # drops the zero that the look-up left behind
            return False
        self.plain_count += 1
        self.plain_by_address[address] += 1
        return True

    def leave(self, host: str) -> None:
        """Stop counting a plain connection."""
        address = address_of((host, 0), {})
        self.plain_count -= 1
        self.plain_by_address[address] -= 1
        if not self.plain_by_address[address]:
            del self.plain_by_address[address]


class BoundedHttp(HttpToolsProtocol):
    """One connection until it is upgraded or gone."""

    bounds: ClassVar[HttpBounds] = HttpBounds()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.logger = _FAULTS_ONLY
        self._head_bytes = 0
        self._unread_bytes = 0
        self._is_plain = self._is_waiting = self._is_body_due = False
        self._head_timer: asyncio.TimerHandle | None = None
        self._body_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own
        """Start waiting for the first head."""
        super().connection_made(transport)
        if self.bounds.waiting_count >= self.bounds.waiting_max:
            transport.abort()
            return
        send_at_once(transport)  # a head and its body are two writes
        self._is_waiting = True
        self.bounds.waiting_count += 1
        self._expect_head()

    def data_received(self, data: bytes) -> None:
        """Feed the parser; a head that has grown too large ends the connection, and so does a body that nobody reads."""
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
        """Start waiting for the head of the next request."""
        super().on_message_begin()
        self._head_bytes = 0
        self._expect_head()

    def on_headers_complete(self) -> None:
        """Stop waiting. A head without exactly one host is malformed (RFC 9112 section 3.2): the parser answers 400."""
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
        """The body has arrived. If it was answered before that, the wait for the next request begins only now."""
        self._is_body_due = False
        self._stop_body_timer()
        super().on_message_complete()
        if self.cycle is not None and self.cycle.response_complete and self.timeout_keep_alive_task is None:
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def on_response_complete(self) -> None:
        """Answered. A body that is still on its way is read and thrown away for a moment, then the connection ends."""
        super().on_response_complete()
        if self._is_body_due and not self.transport.is_closing():
            self._stop_body_timer()
            self._body_timer = self.loop.call_later(LINGER_S, self._too_slow)

    def handle_websocket_upgrade(self) -> None:
        """The socket is another protocol's from here on."""
        self._forget()
        super().handle_websocket_upgrade()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting and counting."""
        self._stop_waiting()
        self._stop_body_timer()
        self._forget()
        super().connection_lost(exc)

    def shutdown(self) -> None:
        """Let the answer under way end within the drain; then the connection is cut, however slowly its peer reads."""
        super().shutdown()
        if not self.transport.is_closing():
            self.loop.call_later(self.bounds.drain_s, self.transport.abort)

    def _expect_head(self) -> None:
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(self.bounds.head_timeout_s, self._too_slow)

    def _expect_body(self) -> None:
        """One deadline for the whole body, which data that arrives does not move."""
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
            self.bounds.waiting_count -= 1
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

    def _too_slow(self) -> None:
        self._head_timer = self._body_timer = None
        self.transport.abort()


async def _refuse(scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG001 - the port's signature
    """Answer a request of a connection too many, and end it."""
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


def bounded_http(bounds: HttpBounds) -> type[BoundedHttp]:
    """The class to pass as uvicorn's `Config(http=…)`."""
    return type("BoundedHttp", (BoundedHttp,), {"bounds": bounds})
