"""The first bytes of a connection decide who serves it: the hub's own WebSocket protocol, or uvicorn's HTTP protocol.

Uvicorn parses every request, and then writes an upgrade anew for the WebSocket protocol, which parses it again. After an
outage that is a quarter of the work of a reconnecting client. So an upgrade that arrives whole and in the usual form goes
straight to its protocol; everything else goes to `hub.http.bounded`.
"""

from __future__ import annotations

import asyncio
import re
from functools import partial
from typing import Any, Final, cast

from hub.http.bounded import HEAD_BYTES_MAX, BoundedHttp, HttpBounds

_HEAD: Final = re.compile(
    rb"GET /[!-~]* HTTP/1\.1\r\n(?:[!#$%&'*+.^_`|~0-9A-Za-z-]+:[ \t]*(?:[!-~\x80-\xff][\t -~\x80-\xff]*)?\r\n)+\r\n"
)
"""A whole head without a body: RFC 9112 sections 3 and 5, without the forms that it calls obsolete."""
_UPGRADE: Final = re.compile(rb"\r\nupgrade:[ \t]*websocket[ \t]*\r\n", re.IGNORECASE)
_CONNECTION: Final = re.compile(rb"\r\nconnection:(?:[^\r]*,)?[ \t]*upgrade[ \t]*[,\r]", re.IGNORECASE)
_BODY: Final = re.compile(rb"\r\n(?:content-length|transfer-encoding)[ \t]*:", re.IGNORECASE)


def is_plain_upgrade(data: bytes) -> bool:
    """True for the whole head of a WebSocket upgrade in the usual form, with nothing after it."""
    return (
        len(data) <= HEAD_BYTES_MAX
        and _UPGRADE.search(data) is not None
        and _CONNECTION.search(data) is not None
        and _BODY.search(data) is None
        and _HEAD.fullmatch(data) is not None
    )


class Front(asyncio.Protocol):
    """One connection until its first bytes arrive; the limits on heads and on waiting connections apply to it already."""

    __slots__ = ("_arguments", "_bounds", "_connections", "_opened_s", "_timer", "_transport")

    def __init__(self, bounds: HttpBounds, **arguments: Any) -> None:
        self._bounds = bounds
        self._arguments = arguments
        self._connections: set[asyncio.Protocol] = arguments["server_state"].connections
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Starts the timer for the first head."""
        self._transport = cast("asyncio.Transport", transport)
        if self._bounds.waiting_count >= self._bounds.waiting_max:
            self._transport.abort()
            return
        self._bounds.wait()
        self._connections.add(self)
        loop = asyncio.get_running_loop()
        self._opened_s = loop.time()
        self._timer = loop.call_later(self._bounds.head_timeout_s, self._transport.abort)

    def data_received(self, data: bytes) -> None:
        """Hands the connection over. Of many upgrades at once, each has a slice of its own."""
        if self._timer is None:
            return
        if not is_plain_upgrade(data):
            waited_s = asyncio.get_running_loop().time() - self._opened_s
            self._hand_over(BoundedHttp(self._bounds, waited_s, **self._arguments), data)
        elif self._bounds.slices.is_free:
            self._bounds.slices.run(partial(self._upgrade, data))
        else:
            self._transport.pause_reading()
            self._bounds.slices.run(partial(self._upgrade_later, data))

    def _upgrade(self, data: bytes) -> None:
        given = self._arguments
        config = given["config"]
        protocol = config.ws_protocol_class(
            config=config, server_state=given["server_state"], app_state=given["app_state"]
        )
        self._hand_over(protocol, data)

    def _upgrade_later(self, data: bytes) -> None:
        if self._timer is None or self._transport.is_closing():  # it has gone meanwhile, or waited too long
            return
        self._upgrade(data)
        if not self._transport.is_closing():
            self._transport.resume_reading()

    def _hand_over(self, protocol: asyncio.Protocol, data: bytes) -> None:
        self._leave()
        self._transport.set_protocol(protocol)
        protocol.connection_made(self._transport)
        protocol.data_received(data)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the port's signature
        """Stops counting the connection."""
        self._leave()

    def shutdown(self) -> None:
        """Closes the connection, which has asked for nothing yet; uvicorn calls this when it stops."""
        self._transport.close()

    def _leave(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._bounds.stop_waiting()
            self._connections.discard(self)


def fronted_http(bounds: HttpBounds) -> type[asyncio.Protocol]:
    """Returns the protocol to pass to uvicorn as `Config(http=…)`."""
    return cast("type[asyncio.Protocol]", partial(Front, bounds))  # uvicorn only calls it
