"""An upgrade names the host it is for (RFC 6455 section 4.2.1): URLs handed to its client begin with it."""

from __future__ import annotations

import pytest

from hub.ports import UpgradeRefused
from hub.websocket.upgrade import read_upgrade

REQUEST = (
    b"GET /ws HTTP/1.1\r\n%bupgrade: websocket\r\nconnection: Upgrade\r\nsec-websocket-version: 13\r\n"
    b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


@pytest.mark.parametrize("hosts", [b"", b"host: hub\r\nhost: other\r\n"])
def test_an_upgrade_names_one_host(hosts: bytes) -> None:
    """None or two are a bad request; the same with one is taken."""
    assert read_upgrade(REQUEST % b"host: hub\r\n", None, ()).path == "/ws"
    with pytest.raises(UpgradeRefused) as refused:
        read_upgrade(REQUEST % hosts, None, ())

    assert refused.value.status == 400
