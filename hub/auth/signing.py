"""Signs HS256 tokens: for `hub token`, the development page and tests. Production issuers sign their own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import jwt

from hub.auth.keys import from_secret
from hub.auth.permissions import compile_grants

__all__ = ["parse_grant", "parse_grants", "sign"]


def sign(  # the order of the claims, as the command line names them
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
) -> str:
    """A token for `user` of `tenant`, good for `ttl_s` seconds from `now` (unix seconds).

    Raises:
        ValueError: the secret is too short, or a grant is malformed.
    """
    key = from_secret(secret)
    claim = {pattern: list(actions) for pattern, actions in grants.items()}
    compile_grants(claim, user)
    claims: dict[str, object] = {
        "sub": user, "tenant": tenant, "aud": audience, "iat": int(now), "exp": int(now + ttl_s), "grants": claim,
    }  # fmt: skip
    claims |= {k: v for k, v in (("iss", issuer), ("jti", jti), ("name", name)) if v is not None}
    return jwt.encode(claims, key.material, algorithm="HS256")  # type: ignore[arg-type]  # bytes for HS256


def parse_grant(text: str) -> tuple[str, list[str]]:
    """Read `conversation:*=read,write` as a pattern and its actions.

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
    """Read several grants; of one pattern named twice the actions add up.

    Raises:
        ValueError: as `parse_grant`.
    """
    grants: dict[str, list[str]] = {}
    for pattern, actions in map(parse_grant, texts):
        grants.setdefault(pattern, []).extend(actions)
    return grants
