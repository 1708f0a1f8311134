"""A token's claims, and the refusal that each fault gets."""

from __future__ import annotations

from typing import Any

import pytest

from hub.auth.tokens import TokenPolicy, read_principal
from hub.errors import HubError

NOW = 1_800_000_000.0


def claims(**changes: object) -> dict[str, Any]:
    whole: dict[str, Any] = {"sub": "alice", "tenant": "acme", "exp": NOW + 60, "iat": NOW - 60, "grants": {}}
    return {k: v for k, v in (whole | changes).items() if v is not ...}


def refusal(rules: TokenPolicy | None = None, **changes: object) -> HubError:
    with pytest.raises(HubError) as caught:
        read_principal(claims(**changes), NOW, rules or TokenPolicy())
    return caught.value


def test_principal_holds_what_the_claims_say() -> None:
    """Every claim that is read arrives where the rest of the hub looks for it."""
    principal = read_principal(claims(jti="j-1", name="Alice B."), NOW, TokenPolicy())

    assert (principal.user, principal.tenant, principal.jti, principal.name) == ("alice", "acme", "j-1", "Alice B.")
    assert (principal.expires_at, principal.issued_at) == (NOW + 60, NOW - 60)


def test_absent_grants_allow_nothing_but_the_own_inbox() -> None:
    """A token without grants is let in with the least there is."""
    principal = read_principal(claims(grants=...), NOW, TokenPolicy())

    assert principal.grants.allows("user:alice", "read")
    assert not principal.grants.allows("conversation:1", "read")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("sub", ...), ("sub", ""), ("sub", "a b"), ("sub", "a:b"), ("sub", "a" * 129), ("sub", 7), ("sub", "alice\n"),
        ("tenant", ...), ("tenant", ""), ("tenant", "ac.me"), ("tenant", "a" * 65), ("tenant", ["acme"]), ("tenant", "acme\n"),
        ("exp", ...), ("exp", "soon"), ("exp", None), ("exp", True), ("exp", float("inf")), ("exp", float("nan")),
        ("exp", -1), ("exp", 10**30), ("iat", "x"), ("iat", NOW + 31), ("nbf", NOW + 31), ("nbf", {}),
        ("jti", ""), ("jti", 5), ("jti", "a\nb"), ("jti", "x" * 257), ("name", "a\x00"), ("name", "x" * 201),
        ("grants", None), ("grants", []), ("grants", {"conversation:*": "read"}), ("grants", {"conversation:*": ["fly"]}),
        ("grants", {"a b": ["read"]}), ("grants", {"a*b": ["read"]}), ("grants", {"": ["read"]}), ("grants", {"x": [1]}),
    ],
)  # fmt: skip # a case a row
def test_claim_outside_its_grammar_is_4001_and_named(field: str, value: object) -> None:
    """A malformed claim is refused by name, and the refusal never quotes it."""
    refused = refusal(**{field: value})

    assert refused.row.code == 4001
    assert [problem.field for problem in refused.details] == [field]


def test_expired_is_4002_and_asks_for_a_refresh() -> None:
    """Past `exp` and leeway the client is told to fetch a new token, not to give up."""
    refused = refusal(exp=NOW - 30)

    assert (refused.row.code, refused.retry) == (4002, "refresh")


def test_leeway_forgives_clocks_that_differ_and_extends_the_connection() -> None:
    """A user let in within the leeway is not sent away by the next timer."""
    principal = read_principal(claims(exp=NOW - 29, nbf=NOW + 29, iat=NOW + 29), NOW, TokenPolicy())

    assert principal.expires_at == NOW + 1


def test_maximum_age_ends_a_token_before_its_own_expiry() -> None:
    """With a maximum age a long-lived token dies by its `iat`."""
    rules = TokenPolicy(max_age_s=3600)

    assert refusal(rules, iat=NOW - 3630).row.code == 4002
    assert read_principal(claims(iat=NOW - 3629), NOW, rules).user == "alice"


def test_maximum_age_needs_an_iat() -> None:
    """Without `iat` nobody can say how old a token is."""
    assert refusal(TokenPolicy(max_age_s=3600), iat=...).details[0].field == "iat"
