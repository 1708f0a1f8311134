"""Bearer tokens: the claims a token must carry, their check, and the check of its signature.

The header of a token decides neither the algorithm nor the place a key is fetched from. No login session is kept.
"""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

import jwt
from jwt.algorithms import HMACAlgorithm

from hub.auth.keys import VerifyingKey
from hub.auth.permissions import Grants, MalformedGrants, Scope, compile_grants
from hub.errors import ErrorDetail, HubError
from streams.channel import NAME_PATTERN, TENANT_PATTERN

if TYPE_CHECKING:
    from jwt.types import SigOptions

TOKEN_CHARS_MAX: Final = 8192
"""Maximum length of a token in characters; a longer one is refused before it is decoded (docs/events.md#connection)."""

_COMPACT: Final = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
"""RFC 7515 section 7.1: three parts of base64url without padding."""

_TYPES: Final = frozenset({"jwt", "at+jwt", "application/jwt", "application/at+jwt"})
"""Accepted `typ` values. RFC 8725 section 3.11: a logout, event or proof token of the same issuer is not an access token."""

_MALFORMED: Final = (jwt.PyJWTError, ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError)
"""Errors that a hostile token can make the parser raise; JSON nested a thousand levels deep raises RecursionError, for example."""
_NAME: Final = re.compile(NAME_PATTERN)
_TENANT: Final = re.compile(TENANT_PATTERN)
JTI_CHARS_MAX: Final = 256
_DISPLAY_NAME_MAX: Final = 200
_NO_TENANTS: Final[frozenset[str]] = frozenset()  # Python makes a new empty one at each call, of 216 bytes
TENANTS_MAX: Final = 100
"""Maximum tenants in the claim `tenants`."""
LAST_SECOND: Final = 253_402_300_799.0
"""9999-12-31T23:59:59Z: the latest time that RFC 3339, the format of `token_expires_at`, can express."""


@dataclass(frozen=True, slots=True)
class Principal:
    """The authenticated user of a token, with its grants.

    Attributes:
        expires_at: Unix seconds at which the connection ends. For a token accepted within the leeway after its `exp` it is
            the end of the leeway, so that nobody is accepted and disconnected at once.
        issued_at: Unix seconds, or None when the token has no `iat`. Revocation by subject compares it.
    """

    user: str
    tenant: str
    grants: Grants
    expires_at: float
    issued_at: float | None = None
    jti: str | None = None
    name: str | None = None
    key: VerifyingKey | None = field(default=None, compare=False, repr=False)
    """The published key that verified the token; None for the static key."""
    scope: Scope | None = None
    tenants: frozenset[str] = frozenset()
    """The other tenants that a token with a scope may read."""
    home: str = ""
    """The token's own tenant while it reads another one; empty in its own."""

    @property
    def payer(self) -> tuple[str, str]:
        """The tenant and user whose rates a request is charged to."""
        return self.home or self.tenant, self.user

    def visiting(self, tenant: str) -> Principal:
        """Returns the principal as a reader of another tenant.

        Raises:
            HubError: 4003: the token does not name that tenant.
        """
        if tenant == self.tenant:
            return self
        if self.scope is None or tenant not in self.tenants:
            raise HubError(4003, "your token does not grant `read` on that tenant")
        return replace(self, tenant=tenant, home=self.tenant, grants=Grants({}, (), "", reads_all=True))


def _never(_principal: Principal) -> bool:
    return False


@dataclass(frozen=True, slots=True)
class TokenPolicy:
    """The requirements for every token, whichever key signed it.

    Attributes:
        audience: required `aud`, a single string.
        issuer: required `iss`; None accepts any.
        leeway_s: tolerated difference in seconds between the issuer's clock and ours.
        max_age_s: maximum seconds since `iat`, whatever `exp` says; None requires no `iat`.
        is_revoked: checks a principal against the deny-list.
    """

    audience: str = "hub"
    issuer: str | None = None
    leeway_s: float = 30.0
    max_age_s: float | None = None
    is_revoked: Callable[[Principal], bool] = _never

    def check(self, token: str, key: VerifyingKey, now: float) -> Principal:
        """Verifies a token signed by `key`.

        Raises:
            HubError: 4001 invalid, 4002 expired, 4019 revoked.
        """
        principal = read_principal(decode_claims(token, key, self.audience, self.issuer), now, self)
        self.refuse_revoked(principal)
        return principal

    def recheck(self, principal: Principal, now: float) -> None:
        """Checks the principal of a live connection again.

        Raises:
            HubError: 4002 expired, 4019 revoked.
        """
        self.refuse_revoked(principal)
        if now >= principal.expires_at:
            raise expired_token()

    def refuse_revoked(self, principal: Principal) -> None:
        """Raises HubError 4019 if the principal's token was revoked."""
        if self.is_revoked(principal):
            raise HubError(4019, "the token was revoked; sign in again")


def invalid_token(field: str, problem: str) -> HubError:
    """Builds the error 4001 that names the claim at fault, never its value."""
    return HubError(4001, "the token is not valid; ask your issuer for another", details=(ErrorDetail(field, problem),))


def expired_token() -> HubError:
    """Builds the error 4002."""
    return HubError(4002, "the token has expired; connect again with a new one")


def read_principal(claims: Mapping[str, object], now: float, policy: TokenPolicy) -> Principal:
    """Checks the format of every claim, and the times against `now` (Unix seconds).

    Raises:
        HubError: 4001 for a claim that is missing, malformed or not valid yet; 4002 once the token has expired.
    """
    user = _matching(claims, "sub", _NAME, "must be 1 to 128 of A-Z a-z 0-9 _ . @ | + ~ -")
    tenant = sys.intern(
        _matching(claims, "tenant", _TENANT, "must be 1 to 64 of A-Z a-z 0-9 _ -")
    )  # many users have it
    expires_at = _time(claims, "exp")
    if expires_at is None:
        raise invalid_token("exp", "is required")
    issued_at = _time(claims, "iat")
    _check_times(expires_at, issued_at, _time(claims, "nbf"), now, policy)
    if policy.max_age_s is not None and issued_at is not None:
        expires_at = min(expires_at, issued_at + policy.max_age_s)
    if now >= expires_at:
        expires_at += policy.leeway_s
    scope = _scope(claims)
    return Principal(
        user,
        tenant,
        _grants(claims, user, scope),
        expires_at,
        issued_at,
        _text(claims, "jti", JTI_CHARS_MAX),
        _text(claims, "name", _DISPLAY_NAME_MAX),
        scope=scope,
        tenants=_tenants(claims) if scope is not None else _NO_TENANTS,
    )


def _check_times(
    expires_at: float, issued_at: float | None, not_before: float | None, now: float, policy: TokenPolicy
) -> None:
    if now >= expires_at + policy.leeway_s:
        raise expired_token()
    if not_before is not None and now < not_before - policy.leeway_s:
        raise invalid_token("nbf", "is in the future")
    if issued_at is not None and now < issued_at - policy.leeway_s:
        raise invalid_token("iat", "is in the future")
    if policy.max_age_s is None:
        return
    if issued_at is None:
        raise invalid_token("iat", "is required here")
    if now >= issued_at + policy.max_age_s + policy.leeway_s:
        raise expired_token()


def _matching(claims: Mapping[str, object], field: str, pattern: re.Pattern[str], rule: str) -> str:
    value = claims.get(field)
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise invalid_token(field, rule)
    return value


def _time(claims: Mapping[str, object], field: str) -> float | None:
    """Reads a time in seconds since 1970. It must be finite and within RFC 3339: JSON parsers accept `Infinity`."""
    value = claims.get(field)
    if value is None and field not in claims:
        return None
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value) or not 0 <= value <= LAST_SECOND:  # type: ignore[arg-type,operator]  # checked in is_number
        raise invalid_token(field, "must be seconds since 1970")
    return float(value)  # type: ignore[arg-type]  # as above


def _text(claims: Mapping[str, object], field: str, max_length: int) -> str | None:
    value = claims.get(field)
    if value is None:
        return None
    if not isinstance(value, str) or not 1 <= len(value) <= max_length or not value.isprintable():
        raise invalid_token(field, f"must be 1 to {max_length} printable characters")
    return value


def _scope(claims: Mapping[str, object]) -> Scope | None:
    """Reads the hub's scope among the words of the claim; others may stand there too (RFC 8693 section 4.2)."""
    value = claims.get("scope")
    words = value.split() if isinstance(value, str) else ()
    return next((scope for scope in (Scope.OPERATOR, Scope.AUDITOR) if scope in words), None)


def _tenants(claims: Mapping[str, object]) -> frozenset[str]:
    listed = claims.get("tenants", [])
    if (
        not isinstance(listed, list)
        or len(listed) > TENANTS_MAX
        or not all(isinstance(name, str) and _TENANT.fullmatch(name) for name in listed)
    ):
        raise invalid_token("tenants", f"must be a list of at most {TENANTS_MAX} tenants")
    return frozenset(listed)


def _grants(claims: Mapping[str, object], user: str, scope: Scope | None) -> Grants:
    claim = claims.get("grants", {})
    if scope is Scope.AUDITOR and claim:
        raise invalid_token("grants", "must be absent with the scope auditor, which writes nothing")
    try:
        return compile_grants(claim, user, reads_all=scope is not None)
    except MalformedGrants as problem:
        raise invalid_token("grants", str(problem)) from problem


class _Hs256(HMACAlgorithm):
    """HS256 with a secret that `from_secret` has checked. PyJWT parses it as every other kind of key, for each token."""

    def prepare_key(self, key: str | bytes) -> bytes:
        """Returns the secret."""
        return key if isinstance(key, bytes) else key.encode()


_SIGNATURES: Final = jwt.PyJWS(algorithms=["RS256", "ES256", "EdDSA"])
_SIGNATURES.register_algorithm("HS256", _Hs256(HMACAlgorithm.SHA256))
_SIGNED: Final[SigOptions] = {"verify_signature": True, "enforce_minimum_key_length": True}
_REQUIRED: Final = ("exp", "sub", "aud")


def decode_claims(token: str, key: VerifyingKey, audience: str, issuer: str | None) -> dict[str, object]:
    """Decodes the claims of a token signed by `key`; `read_principal` checks the times.

    Raises:
        HubError: 4001.
    """
    try:
        whole = _SIGNATURES.decode_complete(token, key.material, list(key.algorithms), _SIGNED)
        claims = json.loads(whole["payload"])
    except _MALFORMED:
        # `from None`: the parser's error quotes the token, and tracebacks end in logs.
        raise invalid_token("token", "is not a JWT signed with the key configured here") from None
    if not isinstance(claims, dict):
        raise invalid_token("token", "is not a JWT signed with the key configured here")
    for required in _REQUIRED:
        if claims.get(required) is None:
            raise invalid_token(required, "is required")
    if claims["aud"] != audience:  # a list names other services too, which could use the token here
        raise invalid_token("aud", "is for another audience")
    if issuer is not None and claims.get("iss") is None:
        raise invalid_token("iss", "is required")
    if issuer is not None and claims["iss"] != issuer:
        raise invalid_token("iss", "is from another issuer")
    if str(whole["header"].get("typ", "JWT")).lower() not in _TYPES:
        raise invalid_token("typ", "names another kind of token")
    return claims


def check_shape(token: str) -> None:
    """Refuses text that cannot be a token, before any costly decoding.

    Raises:
        HubError: 4001.
    """
    if not isinstance(token, str) or len(token) > TOKEN_CHARS_MAX or not _COMPACT.fullmatch(token):
        raise invalid_token("token", f"must be a JWT of at most {TOKEN_CHARS_MAX} characters")
