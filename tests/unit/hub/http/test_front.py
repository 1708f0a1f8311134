"""Upgrades that go straight to the WebSocket protocol: only whole heads in the usual form, which every parser reads alike."""

from __future__ import annotations

import pytest

from hub.http.bounded import HEAD_BYTES_MAX
from hub.http.front import is_plain_upgrade
from hub.websocket.upgrade import read_upgrade

HEADS = (
    b"Host: hub.example\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\nSec-WebSocket-Version: 13\r\n"
)
WHOLE = b"GET /ws?a=b HTTP/1.1\r\n" + HEADS + b"\r\n"


def test_a_usual_upgrade_is_one() -> None:
    """As browsers and libraries send it; the protocol behind reads it."""
    assert is_plain_upgrade(WHOLE)
    assert read_upgrade(WHOLE, None, ()).path == "/ws"


@pytest.mark.parametrize(
    "connection", [b"keep-alive, Upgrade", b"upgrade,keep-alive", b"  UPGRADE ", b"keep-alive,upgrade"]
)
def test_other_spellings_of_the_connection_header(connection: bytes) -> None:
    """Firefox names keep-alive as well."""
    assert is_plain_upgrade(WHOLE.replace(b"Connection: Upgrade", b"cOnnection:" + connection))


@pytest.mark.parametrize(
    ("was", "now"),
    [
        (b"GET", b"POST"), (b"HTTP/1.1", b"HTTP/1.0"), (b"/ws?a=b", b"*"), (b"/ws?a=b", b"/w s"), (b"/ws?a=b", b"http://x/ws"),
        (b"\r\n\r\n", b"\r\n"), (b"\r\n\r\n", b"\r\n\r\nmore"), (b"\r\n", b"\n"), (b"Host:", b"Host :"), (b"Host:", b" Host:"),
        (b"Host: hub.example", b"Host: hub\x00example"), (b"Host: hub.example", b"Host: hub\r\n folded"),
        (b"Upgrade: websocket", b"Upgrade: h2c"), (b"Connection: Upgrade", b"Connection: close"),
        (b"Connection: Upgrade", b"Connection: Upgraded"), (b"Host: ", b"Content-Length: 4\r\nHost: "),
        (b"Host: ", b"Transfer-Encoding: chunked\r\nHost: "), (b"Host: ", b"content-length : 4\r\nHost: "),
    ],
)  # fmt: skip # a case a row
def test_everything_else_goes_to_the_http_protocol(was: bytes, now: bytes) -> None:
    """Parsers differ about what is malformed, and a body would hide a second request."""
    assert was in WHOLE
    assert not is_plain_upgrade(WHOLE.replace(was, now))


def test_a_head_over_the_limit_goes_to_the_http_protocol() -> None:
    """It counts bytes and cuts the connection."""
    assert not is_plain_upgrade(WHOLE.replace(b"Host", b"A: " + b"x" * HEAD_BYTES_MAX + b"\r\nHost"))


def test_every_first_part_of_an_upgrade_goes_to_the_http_protocol() -> None:
    """The rest is still on its way."""
    assert not any(is_plain_upgrade(WHOLE[:length]) for length in range(len(WHOLE)))
