"""The allow-list of web pages: exact origins, and nothing that merely looks like one."""

from __future__ import annotations

import pytest

from hub.auth.origins import ANY_ORIGIN, OriginPolicy, parse_origins

POLICY = OriginPolicy(parse_origins("https://app.example.com, http://localhost:3000"))


@pytest.mark.parametrize(
    "origin",
    [
        None,
        b"https://app.example.com",
        b"https://APP.example.com",
        b"https://app.example.com:443",
        b"http://localhost:3000",
    ],
)
def test_pages_on_the_list_and_programs_may(origin: bytes | None) -> None:
    """A program sends no Origin; a host's letters have no case; the default port is the same origin."""
    assert POLICY.allows(origin, b"hub.example")


@pytest.mark.parametrize(
    "origin",
    [
        b"", b"null", b"https://evil.example", b"http://app.example.com", b"https://app.example.com.evil.example", b"\xff",
        b"https://evil.example/https://app.example.com", b"https://app.example.com@evil.example", b"https://xapp.example.com",
        b"https://app.example.com:444", b"http://localhost", b"http://localhost:30000", b"https://app.example.com, https://evil.example",
    ],
)  # fmt: skip # a case a row
def test_every_other_page_may_not(origin: bytes) -> None:
    """Other schemes, ports, hosts that begin or end alike, several origins, none that can be named."""
    assert not POLICY.allows(origin, b"hub.example")


def test_without_a_list_only_the_hubs_own_pages_may() -> None:
    """A page cannot choose the host it asks; `*` is every page."""
    assert OriginPolicy().allows(b"https://hub.example", b"hub.example")
    assert not OriginPolicy().allows(b"https://anybody.example", b"hub.example")
    assert OriginPolicy(frozenset({ANY_ORIGIN})).allows(b"https://anybody.example", b"hub.example")


@pytest.mark.parametrize(
    "text", ["*", "https://*.example.com", "https://a.example/path", "example.com", "ftp://a.example", "https://"]
)
def test_what_is_no_origin_is_refused_at_start(text: str) -> None:
    """A wildcard would allow what nobody meant."""
    with pytest.raises(ValueError, match="an origin is written"):
        parse_origins(text)
