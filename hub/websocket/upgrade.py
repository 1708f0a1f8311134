"""The server side of the WebSocket opening handshake: RFC 6455 section 4.2. Pure.

It parses the request as one block of bytes, as uvicorn passes it, and returns the bytes to write. The receiver
factory checks paths, origins and tokens.
"""

from __future__ import annotations

import binascii
from base64 import b64encode
from collections.abc import Mapping
from hashlib import sha1
from http import HTTPStatus
from typing import Final

from hub.sockets import Upgrade, UpgradeRefused

SUBPROTOCOL: Final = "hub.v1.json"
MESSAGE_SIZE_LIMIT_BYTES: Final = 1_048_576

HANDSHAKE_SIZE_LIMIT_BYTES: Final = 131_072
"""Maximum bytes of the first message. The largest `connection.reconnect` fits: a token of 8,192, 200 cursors of 320 with the
longest name, id and epoch, 100 channels of 360. With more, unauthenticated peers could occupy memory for as long as a
handshake may take."""

_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_KEY_BYTES: Final = 16
_EXTRA_HEADERS: Final[Mapping[int, bytes]] = {
    405: b"allow: GET\r\n",
    426: b"upgrade: websocket\r\nsec-websocket-version: 13\r\n",
}
"""Headers that a status requires: RFC 9110 sections 15.5.6 and 15.5.22, RFC 6455 section 4.4."""

_REFUSAL_HEADERS: Final = b"content-type: text/plain; charset=utf-8\r\ncontent-length: %d\r\nconnection: close\r\n\r\n"


def read_upgrade(
    request: bytes, client: tuple[str, int] | None, subprotocols: tuple[str, ...], port: int | None = None
) -> Upgrade:
    """Parses and checks the request; chooses the first of `subprotocols` that the client offers.

    Raises:
        UpgradeRefused: not a WebSocket upgrade, a version other than 13, or a key that is not 16 bytes in base64.
    """
    request_line, _, block = request.partition(b"\r\n")
    method, target, _ = request_line.split(b" ", 2)
    headers = _read_headers(block)
    _judge(method, headers)
    path, _, query = target.decode("latin-1").partition("?")
    offered = _tokens(headers, b"sec-websocket-protocol")
    chosen = next((name for name in subprotocols if name.encode() in offered), None)
    return Upgrade(path, query, headers, client, chosen, port=port)


def accept_response(upgrade: Upgrade, *, extension: bytes | None = None) -> bytes:
    """Returns the 101 that opens the socket (section 4.2.2); `extension` is the negotiated one with its parameters."""
    key = upgrade.headers[b"sec-websocket-key"]
    proof = b64encode(sha1(key + _GUID, usedforsecurity=False).digest())
    head = b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\nsec-websocket-accept: "
    chosen = b"" if upgrade.subprotocol is None else b"\r\nsec-websocket-protocol: " + upgrade.subprotocol.encode()
    extended = b"" if extension is None else b"\r\nsec-websocket-extensions: " + extension
    return head + proof + chosen + extended + b"\r\n\r\n"


def refusal_response(refused: UpgradeRefused) -> bytes:
    """Returns a plain-text response with the refusal's status, after which the connection is closed."""
    body = refused.text.encode()
    phrase = HTTPStatus(refused.status).phrase.encode()
    status = b"HTTP/1.1 %d %b\r\n" % (refused.status, phrase) + _EXTRA_HEADERS.get(refused.status, b"")
    return status + _REFUSAL_HEADERS % len(body) + body


def _read_headers(block: bytes) -> dict[bytes, bytes]:
    headers: dict[bytes, bytes] = {}
    for line in block.split(b"\r\n"):
        name, colon, value = line.partition(b":")
        if colon:
            name, value = name.lower(), value.strip()
            headers[name] = headers[name] + b", " + value if name in headers else value
    return headers


def _judge(method: bytes, headers: Mapping[bytes, bytes]) -> None:
    if method != b"GET":
        raise UpgradeRefused(405, "open a WebSocket with GET")
    if b"websocket" not in _tokens(headers, b"upgrade") or b"upgrade" not in _tokens(headers, b"connection"):
        raise UpgradeRefused(426, "send Connection: Upgrade and Upgrade: websocket")
    if b"," in headers.get(b"host", b","):  # repeated headers were joined by a comma
        raise UpgradeRefused(400, "send exactly one Host header")
    if headers.get(b"sec-websocket-version") != b"13":
        raise UpgradeRefused(426, "send Sec-WebSocket-Version: 13")
    if not _is_key(headers.get(b"sec-websocket-key", b"")):
        raise UpgradeRefused(400, "send one Sec-WebSocket-Key with 16 bytes in base64")


def _tokens(headers: Mapping[bytes, bytes], name: bytes) -> list[bytes]:
    """Returns the members of a list header, in lower case if they are case-insensitive."""
    value = headers.get(name, b"")
    return [token.strip() for token in (value if name == b"sec-websocket-protocol" else value.lower()).split(b",")]


def _is_key(key: bytes) -> bool:
    try:
        return len(binascii.a2b_base64(key, strict_mode=True)) == _KEY_BYTES
    except binascii.Error:
        return False
