"""Uvicorn's HTTP protocol with bounds: the head of a request must arrive in time and stay small.

Uvicorn waits for ever for a slow head and keeps all of it (slowloris), accepts a request with two hosts, and logs a line
for each malformed one, so that anybody could fill a disk. Bodies are bounded where they are read.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any, ClassVar, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_BYTES_MAX: Final = 65_536
"""A token of 8 KiB, cookies of other applications of the same host, and room. Checked after each read of the socket."""
_FAULTS_ONLY: Final = logging.getLogger("uvicorn.error.requests")
_FAULTS_ONLY.setLevel(logging.ERROR)


class BoundedHttp(HttpToolsProtocol):
    """One connection until it is upgraded or gone."""

    head_timeout_s: ClassVar[float] = 10.0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.logger = _FAULTS_ONLY
        self._head_bytes = 0
        self._head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own
        """Start waiting for the first head."""
        super().connection_made(transport)
        self._expect_head()

    def data_received(self, data: bytes) -> None:
        """Feed the parser; a head that has grown too large ends the connection."""
        self._head_bytes += len(data)
        super().data_received(data)
        if self._head_timer is not None and self._head_bytes > HEAD_BYTES_MAX:
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
            raise ValueError("a request names one host")
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        self._stop_waiting()
        super().connection_lost(exc)

    def _expect_head(self) -> None:
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(self.head_timeout_s, self._too_slow)

    def _stop_waiting(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _too_slow(self) -> None:
        self._head_timer = None
        self.transport.abort()


def bounded_http(head_timeout_s: float) -> type[BoundedHttp]:
    """The class to pass as uvicorn's `Config(http=…)`."""
    return type("BoundedHttp", (BoundedHttp,), {"head_timeout_s": head_timeout_s})
