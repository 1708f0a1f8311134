"""From the claims of a token whose signature holds to a Principal, or a refusal. Pure.

It knows no key and no signature: `hub.auth.verifier` checks those first.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from hub.auth.permissions import Grants, MalformedGrants, compile_grants
from hub.errors import HubError, Problem
from streams.channel import NAME_PATTERN, TENANT_PATTERN

_NAME: Final = re.compile(NAME_PATTERN)
_TENANT: Final = re.compile(TENANT_PATTERN)
JTI_CHARS_MAX: Final = 256
_DISPLAY_NAME_MAX: Final = 200
_LAST_SECOND: Final = 253_402_300_799.0
"""9999-12-31T23:59:59Z: the last moment RFC 3339 can write, and `token_expires_at` is written so."""


@dataclass(frozen=True, slots=True)
class Principal:
    """Who a token speaks for and what it allows.

    Attributes:
        expires_at: unix seconds; the connection ends then. For a token taken within the leeway after its `exp` it is the
            end of the leeway, so that who is let in is not sent away at once.
        issued_at: unix seconds, or None when the token has no `iat`. Revocation by subject compares it.
    """

    user: str
    tenant: str
    grants: Grants
    expires_at: float
    issued_at: float | None = None
    jti: str | None = None
    name: str | None = None


@dataclass(frozen=True, slots=True)
class ClaimRules:
    """What is asked of the times of a token.

    Attributes:
        leeway_s: how far the issuer's clock may differ from ours.
        max_age_s: oldest `iat` taken, whatever `exp` says; None asks no `iat`.
    """

    leeway_s: float = 30.0
    max_age_s: float | None = None


def invalid_token(field: str, problem: str) -> HubError:
    """The refusal 4001 that names the claim at fault, never its value."""
    return HubError(4001, "the token is not valid: ask your issuer for another", details=(Problem(field, problem),))


def expired_token() -> HubError:
    """The refusal 4002."""
    return HubError(4002, "the token has expired: connect again with a new one")


def read_principal(claims: Mapping[str, object], now: float, rules: ClaimRules) -> Principal:
    """Check every claim against its grammar and the times against `now` (unix seconds).

    Raises:
        HubError: 4001 for a claim that is missing, malformed or not valid yet; 4002 once it is over.
    """
    user = _matching(claims, "sub", _NAME, "is 1 to 128 of A-Z a-z 0-9 _ . @ | + ~ -")
    tenant = _matching(claims, "tenant", _TENANT, "is 1 to 64 of A-Z a-z 0-9 _ -")
    expires_at = _time(claims, "exp")
    if expires_at is None:
        raise invalid_token("exp", "is required")
    issued_at = _time(claims, "iat")
    _check_times(expires_at, issued_at, _time(claims, "nbf"), now, rules)
    if rules.max_age_s is not None and issued_at is not None:
        expires_at = min(expires_at, issued_at + rules.max_age_s)
    if now >= expires_at:
        expires_at += rules.leeway_s
    return Principal(
        user, tenant, _grants(claims, user), expires_at, issued_at,
        _text(claims, "jti", JTI_CHARS_MAX), _text(claims, "name", _DISPLAY_NAME_MAX),
    )  # fmt: skip


def _check_times(
    expires_at: float, issued_at: float | None, not_before: float | None, now: float, rules: ClaimRules
) -> None:
    if now >= expires_at + rules.leeway_s:
        raise expired_token()
    if not_before is not None and now < not_before - rules.leeway_s:
        raise invalid_token("nbf", "lies in the future")
    if issued_at is not None and now < issued_at - rules.leeway_s:
        raise invalid_token("iat", "lies in the future")
    if rules.max_age_s is None:
        return
    if issued_at is None:
        raise invalid_token("iat", "is required here")
    if now >= issued_at + rules.max_age_s + rules.leeway_s:
        raise expired_token()


def _matching(claims: Mapping[str, object], field: str, pattern: re.Pattern[str], rule: str) -> str:
    value = claims.get(field)
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise invalid_token(field, rule)
    return value


def _time(claims: Mapping[str, object], field: str) -> float | None:
    """Seconds since 1970, finite and writable as RFC 3339: JSON parsers let `Infinity` through."""
    value = claims.get(field)
    if value is None and field not in claims:
        return None
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value) or not 0 <= value <= _LAST_SECOND:  # type: ignore[arg-type,operator]  # checked in is_number
        raise invalid_token(field, "is seconds since 1970")
    return float(value)  # type: ignore[arg-type]  # as above


def _text(claims: Mapping[str, object], field: str, max_length: int) -> str | None:
    value = claims.get(field)
    if value is None:
        return None
    if not isinstance(value, str) or not 1 <= len(value) <= max_length or not value.isprintable():
        raise invalid_token(field, f"is 1 to {max_length} printable characters")
    return value


def _grants(claims: Mapping[str, object], user: str) -> Grants:
    try:
        return compile_grants(claims.get("grants", {}), user)
    except MalformedGrants as problem:
        raise invalid_token("grants", str(problem)) from problem
