"""Verifies tokens: signature by a pinned algorithm, then the claims (PROTOCOL 5, NOTES 6).

The header of a token chooses nothing: not the algorithm, not where a key is fetched. It keeps no session.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import jwt

from hub.auth.claims import ClaimRules, Principal, expired_token, invalid_token, read_principal
from hub.auth.keys import StaticKey, static_key
from hub.errors import HubError

__all__ = ["Admission", "DenyList", "Principal", "Verifier", "check_shape", "decode_claims"]

TOKEN_CHARS_MAX: Final = 8192
"""EVENTS 3. Longer ones are refused before anything is decoded."""

_COMPACT: Final = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
"""RFC 7515 section 7.1: three parts of base64url without padding."""

_TYPES: Final = frozenset({"jwt", "at+jwt", "application/jwt", "application/at+jwt"})
"""RFC 8725 section 3.11: a logout, event or proof token of the same issuer is not an access token."""

_MALFORMED: Final = (jwt.PyJWTError, ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError)
"""What a hostile token can make the parser raise: JSON nested a thousand deep is a RecursionError, for one."""


class DenyList(Protocol):
    """What the verifier asks about revoked tokens."""

    def is_revoked(self, principal: Principal) -> bool:
        """Whether the token, or every token of its subject up to some time, was revoked."""
        ...


class NothingRevoked:
    """The deny-list of a node that was given none."""

    def is_revoked(self, principal: Principal) -> bool:  # noqa: ARG002  # the Protocol's signature
        """Never."""
        return False


def decode_claims(token: str, key: StaticKey, audience: str, issuer: str | None) -> dict[str, object]:
    """The claims of a token signed by `key`; times are not looked at here.

    Raises:
        HubError: 4001.
    """
    required = ["exp", "sub", "aud"] if issuer is None else ["exp", "sub", "aud", "iss"]
    # Times are checked by read_principal against the caller's clock.
    options: Any = {
        "require": required, "strict_aud": True, "enforce_minimum_key_length": True,
        "verify_exp": False, "verify_nbf": False, "verify_iat": False, "verify_sub": False, "verify_jti": False,
    }  # fmt: skip
    try:
        whole = jwt.decode_complete(
            token, key.material, algorithms=list(key.algorithms), audience=audience, issuer=issuer, options=options
        )
    except jwt.MissingRequiredClaimError as refused:
        raise invalid_token(refused.claim, "is required") from None
    except jwt.InvalidAudienceError:
        raise invalid_token("aud", "names another audience") from None
    except jwt.InvalidIssuerError:
        raise invalid_token("iss", "names another issuer") from None
    except _MALFORMED:
        # `from None`: the parser's error quotes the token, and tracebacks end in logs.
        raise invalid_token("token", "is not a JWT signed by the key configured here") from None
    if str(whole["header"].get("typ", "JWT")).lower() not in _TYPES:
        raise invalid_token("typ", "names another kind of token")
    claims: dict[str, object] = whole["payload"]
    return claims


def check_shape(token: str) -> None:
    """Refuse what cannot be a token before it costs anything.

    Raises:
        HubError: 4001.
    """
    if not isinstance(token, str) or len(token) > TOKEN_CHARS_MAX or not _COMPACT.fullmatch(token):
        raise invalid_token("token", f"is a JWT of at most {TOKEN_CHARS_MAX} characters")


@dataclass(frozen=True, slots=True)
class Admission:
    """What is asked of every token, whichever key signed it.

    Attributes:
        audience: what `aud` must be, as a single string.
        issuer: what `iss` must be; None asks for none.
        revoked: the deny-list.
    """

    audience: str = "hub"
    issuer: str | None = None
    rules: ClaimRules = field(default_factory=ClaimRules)
    revoked: DenyList = field(default_factory=NothingRevoked)

    def admit(self, token: str, key: StaticKey, now: float) -> Principal:
        """Who the token speaks for, if `key` signed it.

        Raises:
            HubError: 4001 not valid, 4002 expired, 4019 revoked.
        """
        principal = read_principal(decode_claims(token, key, self.audience, self.issuer), now, self.rules)
        self.refuse_revoked(principal)
        return principal

    def recheck(self, principal: Principal, now: float) -> None:
        """Whether a live connection may go on.

        Raises:
            HubError: 4002 expired, 4019 revoked.
        """
        self.refuse_revoked(principal)
        if now >= principal.expires_at:
            raise expired_token()

    def refuse_revoked(self, principal: Principal) -> None:
        """Raise 4019 when the principal's token was revoked."""
        if self.revoked.is_revoked(principal):
            raise HubError(4019, "the token was revoked: sign in again")


class Verifier:
    """Verifies tokens by one key that does not change while the process lives.

    Args:
        secret: for HS256, at least 32 bytes.
        public_key: PEM, for RS256, ES256 or EdDSA; the kind of key decides which, never the token.
        audience: what `aud` must be.
        issuer: what `iss` must be; None asks for none.
        leeway_s: how far clocks may differ.
        max_age_s: the oldest `iat` taken.
        revoked: the deny-list.

    Raises:
        ValueError: not exactly one key, or one that is too weak.
    """

    def __init__(
        self,
        *,
        secret: str | None = None,
        public_key: str | None = None,
        audience: str = "hub",
        issuer: str | None = None,
        leeway_s: float = 30.0,
        max_age_s: float | None = None,
        revoked: DenyList | None = None,
    ) -> None:
        self._key = static_key(secret, public_key)
        self._admission = Admission(
            audience, issuer, ClaimRules(leeway_s, max_age_s), NothingRevoked() if revoked is None else revoked
        )

    def verify(self, token: str, now: float) -> Principal:
        """Who the token speaks for, at `now` (unix seconds).

        Raises:
            HubError: 4001 not valid, 4002 expired, 4019 revoked.
        """
        check_shape(token)
        return self._admission.admit(token, self._key, now)

    def recheck(self, principal: Principal, now: float) -> None:
        """Whether a live connection may go on: for timers and after news of a revocation.

        Raises:
            HubError: 4002 expired, 4019 revoked.
        """
        self._admission.recheck(principal, now)
