"""Signs tokens for development, tests and the command line; production issuers sign their own. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import jwt

from hub.auth.keys import from_secret
from hub.auth.permissions import compile_grants


def sign(  # parameters in the order of the command line's options
    secret: str,
    user: str,
    tenant: str,
    grants: Mapping[str, Iterable[str]],
    ttl_s: float,
    now: float,
    *,
    audience: str = "hub",
    issuer: str | None = None,
    jti: str | None = None,
    name: str | None = None,
    scope: str | None = None,
    tenants: Iterable[str] = (),
) -> str:
    """Sign an HS256 token for `user` of `tenant`, valid for `ttl_s` seconds from `now` (unix seconds).

    Raises:
        ValueError: the secret is too short, or a grant is malformed.
    """
    key = from_secret(secret)
    claim = {pattern: list(actions) for pattern, actions in grants.items()}
    compile_grants(claim, user)
    claims: dict[str, object] = {
        "sub": user,
        "tenant": tenant,
        "aud": audience,
        "iat": int(now),
        "exp": int(now + ttl_s),
        "grants": claim,
    }
    claims |= {k: v for k, v in (("iss", issuer), ("jti", jti), ("name", name), ("scope", scope)) if v is not None}
    if tenants:
        claims["tenants"] = list(tenants)
    return jwt.encode(claims, key.material, algorithm="HS256")  # type: ignore[arg-type]  # bytes for HS256


def parse_grant(text: str) -> tuple[str, list[str]]:
    """Parses `conversation:*=read,write` into a pattern and its actions.

    Raises:
        ValueError: not of that form, or an unknown action.
    """
    pattern, equals, listed = text.partition("=")
    if not equals:
        raise ValueError("a grant is written PATTERN=ACTION,… such as 'conversation:*=read,write'")
    actions = [action.strip() for action in listed.split(",") if action.strip()]
    compile_grants({pattern: actions}, "")
    return pattern, actions


def parse_grants(texts: Iterable[str]) -> dict[str, list[str]]:
    """Parses several grants; the actions of a pattern given twice are combined.

    Raises:
        ValueError: as in `parse_grant`.
    """
    grants: dict[str, list[str]] = {}
    for pattern, actions in map(parse_grant, texts):
        grants.setdefault(pattern, []).extend(actions)
    return grants
