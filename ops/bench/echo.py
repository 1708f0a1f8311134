"""An echo server on the hub's own WebSocket protocol class: `python -m ops.bench.echo --port 9001`.

It is for conformance suites and for measuring the WebSocket layer alone, without a hub.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Final

import uvicorn

from hub.websocket.codec import encode_binary, encode_text
from hub.websocket.deflate import deflate_text
from hub.websocket.protocol import WireSettings, lean_protocol

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping

    from hub.sockets import SocketTransport, Upgrade

MESSAGE_SIZE_LIMIT_BYTES: Final = 67_108_864
"""64 MiB: four times the largest message that the conformance suites send."""


class Echo:
    """Sends every message back, and stops reading from a client that does not read."""

    __slots__ = ("_transport",)

    def opened(self, transport: SocketTransport, upgrade: Upgrade) -> None:  # noqa: ARG002 (every path echoes)
        """Store the socket."""
        self._transport = transport

    def text(self, data: bytes) -> None:
        """Echo a text message."""
        self._transport.write(deflate_text(data) if self._transport.is_deflate else encode_text(data))

    def binary(self, data: bytes) -> None:
        """Echo a binary message."""
        self._transport.write(encode_binary(data))

    def heard(self) -> None:
        """Does nothing, because no timeout depends on received data."""

    def writable(self, is_writable: bool) -> None:
        """Stop reading while the client does not read."""
        if is_writable:
            self._transport.resume_reading()
        else:
            self._transport.pause_reading()

    def draining(self) -> None:
        """Close the socket when the server stops."""
        self._transport.close(1012, "restart")

    def closed(self, code: int) -> None:
        """Does nothing: there is nothing to release."""


def echo_protocol(
    message_size_limit_bytes: int = MESSAGE_SIZE_LIMIT_BYTES, *, is_deflate_accepted: bool = False
) -> type:
    """Make the protocol class that echoes messages; it selects no subprotocol."""
    return lean_protocol(
        WireSettings(
            lambda _upgrade: Echo(),
            subprotocols=(),
            message_size_limit_bytes=message_size_limit_bytes,
            is_deflate_accepted=is_deflate_accepted,
        )
    )


async def not_found(
    scope: MutableMapping[str, object],
    receive: Callable[[], Awaitable[MutableMapping[str, object]]],  # noqa: ARG001 (ASGI's shape)
    send: Callable[[MutableMapping[str, object]], Awaitable[None]],
) -> None:
    """Answer plain HTTP requests with a sentence about the server."""
    if scope["type"] != "http":
        return
    body = b"This server echoes WebSocket messages; connect with ws://.\n"
    headers = [(b"content-type", b"text/plain"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 404, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def arguments() -> argparse.ArgumentParser:
    """Build the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m ops.bench.echo",
        description="Echo text and binary WebSocket messages over the hub's own protocol class (no Redis, no tokens).",
        epilog="Try it:  python -m ops.bench.echo --port 9001   then   python -m websockets ws://127.0.0.1:9001/",
    )
    parser.add_argument("--port", type=int, required=True, help="TCP port to listen on, 1 to 65535; 0 picks a free one")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument(
        "--message-size-limit",
        type=int,
        default=MESSAGE_SIZE_LIMIT_BYTES,
        metavar="BYTES",
        help="a larger message is closed with 1009 (default: %(default)s)",
    )
    parser.add_argument("--loop", choices=("auto", "asyncio", "uvloop"), default="auto", help="event loop to run on")
    parser.add_argument("--deflate", action="store_true", help="accept permessage-deflate (RFC 7692); off by default")
    return parser


def main() -> None:
    """Serve until Ctrl-C."""
    options = arguments().parse_args()
    uvicorn.run(
        not_found,
        host=options.host,
        port=options.port,
        loop=options.loop,
        ws=echo_protocol(options.message_size_limit, is_deflate_accepted=options.deflate),
        log_level="info",
        access_log=False,
        lifespan="off",
    )


if __name__ == "__main__":
    main()
