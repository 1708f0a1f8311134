"""An upgrade names the host it is for (RFC 6455 section 4.2.1): URLs handed to its client begin with it."""

from __future__ import annotations

import pytest

from hub.transports.port import UpgradeRefused
from hub.transports.websocket_upgrade import read_upgrade

REQUEST = (
    b"GET /ws HTTP/1.1\r\n%bupgrade: websocket\r\nconnection: Upgrade\r\nsec-websocket-version: 13\r\n"
    b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


def test_an_upgrade_without_host_is_a_bad_request() -> None:
    """The same request with it is taken."""
    assert read_upgrade(REQUEST % b"host: hub\r\n", None, ()).path == "/ws"
    with pytest.raises(UpgradeRefused) as refused:
        read_upgrade(REQUEST % b"", None, ())

    assert refused.value.status == 400
