"""The deny-list: what hits whom, how long it is kept, how entries travel."""

from __future__ import annotations

import time

import pytest

from hub.auth.permissions import compile_grants
from hub.auth.revocations import DenyList, Revocation, decode_revocation, revoke_subject, revoke_token
from hub.auth.tokens import Principal

NOW = 1_800_000_000.0


def principal(user: str = "alice", tenant: str = "acme", jti: str | None = "j1", iat: float | None = NOW) -> Principal:
    return Principal(user, tenant, compile_grants({}, user), NOW + 60, iat, jti)


def deny(*revocations: Revocation) -> DenyList:
    listed = DenyList()
    for revocation in revocations:
        listed.add(revocation)
    return listed


def test_jti_hits_that_token_of_that_tenant_only() -> None:
    """Another token, another tenant with the same jti, or a token without one is not touched."""
    listed = deny(revoke_token("acme", "j1", NOW))

    assert listed.is_revoked(principal())
    assert listed.is_revoked(principal(user="bob"))
    assert not listed.is_revoked(principal(jti="j2"))
    assert not listed.is_revoked(principal(jti=None))
    assert not listed.is_revoked(principal(tenant="other"))


def test_subject_hits_tokens_issued_up_to_that_moment() -> None:
    """Older and equally old ones, and those that cannot show their age; a newer one gets in."""
    listed = deny(revoke_subject("acme", "alice", NOW))

    assert listed.is_revoked(principal(iat=NOW - 1))
    assert listed.is_revoked(principal(iat=NOW))
    assert listed.is_revoked(principal(iat=None))
    assert not listed.is_revoked(principal(iat=NOW + 1))
    assert not listed.is_revoked(principal(user="bob"))
    assert not listed.is_revoked(principal(tenant="other"))


def test_names_cannot_be_made_to_collide() -> None:
    """A jti that reads like a subject's entry hits no subject, and the other way round."""
    listed = deny(revoke_token("acme", "sub:alice", NOW), revoke_token("acme", "x:sub:alice", NOW))

    assert not listed.is_revoked(principal(jti=None))
    assert deny(revoke_token("acme", "j:1", NOW)).is_revoked(principal(jti="j:1"))


def test_the_later_moment_counts_whatever_the_order() -> None:
    """News may arrive twice and out of order; only what changes something is news."""
    early, late = revoke_subject("acme", "alice", NOW - 10), revoke_subject("acme", "alice", NOW)
    listed = DenyList()

    assert [listed.add(entry) for entry in (late, early, late)] == [True, False, False]
    assert listed.is_revoked(principal(iat=NOW))


def test_entries_are_kept_as_long_as_a_token_may_live() -> None:
    """With a known expiry the entry goes a minute after it (leeway); without one it stays for years."""
    listed = deny(revoke_token("acme", "j1", NOW, expires_at=NOW + 100), revoke_token("acme", "j2", NOW))

    assert listed.forget(NOW + 159) == 0
    assert listed.forget(NOW + 160) == 1
    assert listed.is_revoked(principal(jti="j2"))
    assert listed.forget(NOW + 365 * 86_400) == 0


@pytest.mark.parametrize("entry", [revoke_token("acme", 'j"1\n', NOW), revoke_subject("acme", "alice", NOW)])
def test_entries_survive_the_way_through_redis(entry: Revocation) -> None:
    """Written and read, an entry is the same."""
    assert decode_revocation(entry.encode()) == entry


@pytest.mark.parametrize("data", [b"", b"{}", b"[1]", b"null", b'["a","b"]'])
def test_what_is_no_entry_is_a_value_error(data: bytes) -> None:
    """Another version's entry is not taken for one of ours."""
    with pytest.raises(ValueError, match=r"revocation|Expecting"):
        decode_revocation(data)


def test_asking_stays_cheap_with_many_entries() -> None:
    """Twenty thousand revocations make no handshake slower: two look-ups."""
    listed = deny(*(revoke_token("acme", str(number), NOW) for number in range(20_000)))
    asked = principal(jti="none")
    began = time.process_time()
    for _ in range(1000):
        listed.is_revoked(asked)

    assert (time.process_time() - began) / 1000 < 0.0005
