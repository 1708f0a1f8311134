"""POST /v1/revocations: who may, what is read, whom it hits."""

from __future__ import annotations

import pytest

from hub.auth.permissions import compile_grants
from hub.auth.revocations import read_revocation
from hub.auth.tokens import Principal
from hub.errors import HubError

NOW = 1_800_000_000.0


def asker(grants: dict[str, list[str]] | None = None) -> Principal:
    return Principal("root", "acme", compile_grants(grants or {"*": ["*"]}, "root"), NOW + 60)


def refusal(body: bytes, grants: dict[str, list[str]] | None = None) -> int:
    with pytest.raises(HubError) as caught:
        read_revocation(body, asker(grants), NOW)
    return caught.value.row.code


def test_jti_and_sub_become_entries_of_the_askers_tenant() -> None:
    """Nobody revokes in another tenant: the tenant is never read from the body."""
    by_jti = read_revocation(b'{"jti":"j1"}', asker(), NOW)
    by_sub = read_revocation(b'{"sub":"alice"}', asker(), NOW, max_life_s=3600)

    assert (by_jti.tenant, by_jti.jti, by_jti.user) == ("acme", "j1", None)
    assert (by_sub.tenant, by_sub.jti, by_sub.user, by_sub.before, by_sub.until) == (
        "acme",
        None,
        "alice",
        NOW,
        NOW + 3660,
    )


@pytest.mark.parametrize(
    "grants",
    [
        {"conversation:*": ["*"]},
        {"*": ["manage"]},
        {"*": ["read", "write", "invoke", "upload", "manage"]},
        {"user:*": ["*"]},
    ],
)
def test_anything_less_than_all_on_all_is_4003(grants: dict[str, list[str]]) -> None:
    """Only `*` on `*` may lock people out."""
    assert refusal(b'{"jti":"j1"}', grants) == 4003


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{}", b"[]", b"null", b'"jti"', b'{"jti":""}', b'{"jti":7}', b'{"jti":"a\\nb"}', b'{"sub":"a b"}', b'{"sub":""}',
        b'{"jti":"a","sub":"b"}', b'{"jti":"a","tenant":"other"}', b'{"exp":1}', b"\xff", b"[" * 4000,
        b'{"jti":"' + b"x" * 5000 + b'"}',
    ],
)  # fmt: skip # a case a row
def test_other_bodies_are_4005(body: bytes) -> None:
    """Strict: one known field, well-formed."""
    assert refusal(body) == 4005
