"""Tokens known again by their digest: let in for a hash, and never longer than the token itself is good."""

from __future__ import annotations

import pytest

from hub.auth.revocations import DenyList, revoke_token
from hub.auth.signing import sign
from hub.auth.tokens import TokenPolicy
from hub.auth.verifier import VERIFIED_MAX, TokenVerifier, open_verifier
from hub.errors import HubError
from support.token_forge import NOW, SECRET


def token_of(user: str, ttl_s: float = 60) -> str:
    return sign(SECRET, user, "acme", {"*": ["read"]}, ttl_s, NOW, jti=user)


def verifier(policy: TokenPolicy | None = None) -> TokenVerifier:
    return open_verifier(policy or TokenPolicy(), secret=SECRET)


def test_a_token_is_verified_once() -> None:
    """The second time it is the same principal."""
    one, token = verifier(), token_of("alice")

    assert one.verify_nowait(token, NOW) is one.verify_nowait(token, NOW + 1)


def test_it_ends_with_the_token() -> None:
    """After its end it is verified anew, which refuses it."""
    one, token = verifier(), token_of("alice", ttl_s=60)
    one.verify_nowait(token, NOW)

    with pytest.raises(HubError) as refused:
        one.verify_nowait(token, NOW + 91)  # 30 s of leeway

    assert refused.value.row.code == 4002


def test_a_revoked_one_is_refused_though_it_is_known() -> None:
    """The deny-list is asked each time."""
    denied = DenyList()
    one, token = verifier(TokenPolicy(is_revoked=denied.is_revoked)), token_of("alice")
    one.verify_nowait(token, NOW)
    denied.add(revoke_token("acme", "alice", NOW + 60))

    with pytest.raises(HubError) as refused:
        one.verify_nowait(token, NOW)

    assert refused.value.row.code == 4019


def test_one_letter_more_is_another_token() -> None:
    """A forged signature does not pass for the token it was made of."""
    one, token = verifier(), token_of("alice")
    one.verify_nowait(token, NOW)

    with pytest.raises(HubError) as refused:
        one.verify_nowait(token[:-2] + ("A" if token[-2] != "A" else "B") + token[-1], NOW)

    assert refused.value.row.code == 4001


def test_no_more_are_remembered_than_may_be() -> None:
    """The one remembered first is forgotten, and verified anew."""
    one, token = verifier(), token_of("alice")
    first = one.verify_nowait(token, NOW)
    for number in range(VERIFIED_MAX):
        one.verify_nowait(token_of(f"u{number}"), NOW)

    assert one.verify_nowait(token, NOW) is not first
    assert one.verify_nowait(token, NOW) == first
