"""The opening handshake, RFC 6455 section 4.2, without a server."""

from __future__ import annotations

import pytest

from hub.sockets import Upgrade, UpgradeRefused
from hub.websocket.upgrade import accept_response, read_upgrade, refusal_response

GOOD = {
    "host": "hub",
    "connection": "keep-alive, Upgrade",
    "upgrade": "WebSocket",
    "sec-websocket-version": "13",
    "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
}


def request(changed: dict[str, str | None] | None = None, line: str = "GET /ws?a=1&b=%20 HTTP/1.1") -> bytes:
    fields = {**GOOD, **(changed or {})}
    lines = [line, *(f"{name}: {value}" for name, value in fields.items() if value is not None), "", ""]
    return "\r\n".join(lines).encode("latin-1")


def read(block: bytes) -> Upgrade:
    return read_upgrade(block, None, ("hub.v1.json", "hub.v2.json"))


def test_what_is_read() -> None:
    """Target cut at the question mark, names in lower case, repeated fields joined."""
    block = request({"Cookie": "a=1"}).replace(b"\r\n\r\n", b"\r\ncookie: b=2\r\n\r\n")

    upgrade = read(block)

    assert (upgrade.path, upgrade.query, upgrade.client, upgrade.subprotocol) == ("/ws", "a=1&b=%20", None, None)
    assert upgrade.headers[b"cookie"] == b"a=1, b=2"


def test_the_proof_of_section_1_3() -> None:
    """The example of the specification."""
    assert b"sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n" in accept_response(read(request()))


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [("hub.v2.json, hub.v1.json", "hub.v1.json"), ("hub.v2.json", "hub.v2.json"), ("HUB.V1.JSON", None), ("x", None)],
)
def test_our_order_decides_the_subprotocol(offered: str, chosen: str | None) -> None:
    """Names are compared exactly; none is chosen that was not offered."""
    upgrade = read(request({"sec-websocket-protocol": offered}))

    assert upgrade.subprotocol == chosen
    assert (b"sec-websocket-protocol" in accept_response(upgrade)) is (chosen is not None)


@pytest.mark.parametrize(
    ("changed", "status"),
    [
        ({"upgrade": None}, 426),
        ({"upgrade": "h2c"}, 426),
        ({"connection": "close"}, 426),
        ({"sec-websocket-version": "8"}, 426),
        ({"sec-websocket-key": None}, 400),
        ({"sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ"}, 400),
        ({"sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==, dGhlIHNhbXBsZSBub25jZQ=="}, 400),
    ],
)
def test_refusals(changed: dict[str, str | None], status: int) -> None:
    """Each rule has its status."""
    with pytest.raises(UpgradeRefused) as refused:
        read(request(changed))

    assert refused.value.status == status


def test_a_method_that_is_not_get() -> None:
    """405 says which one it should have been."""
    with pytest.raises(UpgradeRefused) as refused:
        read(request(line="POST /ws HTTP/1.1"))

    response = refusal_response(refused.value)
    assert response.startswith(b"HTTP/1.1 405 Method Not Allowed\r\nallow: GET\r\n")


def test_a_refusal_is_a_whole_response() -> None:
    """Its length is in bytes, its connection ends."""
    head, _, body = refusal_response(UpgradeRefused(503, "später")).partition(b"\r\n\r\n")

    assert body.decode() == "später"
    assert b"content-length: 7" in head
    assert b"connection: close" in head


@pytest.mark.parametrize("host", [None, "hub\r\nhost: other"])
def test_an_upgrade_names_one_host(host: str | None) -> None:
    """None or two are a bad request; the same with one is taken."""
    assert read(request({"host": "hub"})).path == "/ws"
    with pytest.raises(UpgradeRefused) as refused:
        read(request({"host": host}))

    assert refused.value.status == 400
