"""Authenticates callers by their tokens, verified with a static key or with published keys."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from hashlib import sha256
from typing import Any, Final, NoReturn, Protocol

import jwt

from hub.auth.keys import (
    JwksUnavailable,
    KeyRing,
    MustFetch,
    UnknownKey,
    VerifyingKey,
    fetch_keys,
    parse_jwks_url,
    static_key,
)
from hub.auth.tokens import Principal, TokenPolicy, check_shape, invalid_token
from hub.errors import ErrorDetail, HubError, RetryAdvice

KID_CHARS_MAX: Final = 256
VERIFIED_MAX: Final = 4_096
"""Maximum number of verified tokens that a node caches, about 1 KB each. Refused tokens are never cached."""
_DEFAULT: Final = TokenPolicy()
Fetch = Callable[[], Mapping[str, VerifyingKey]]


class Verifier(Protocol):
    """Authenticates a caller: by a token, or by an application's own login."""

    @property
    def fetch_error(self) -> str | None:
        """The error of the last fetch of keys, for the readiness check; None if it succeeded."""
        ...

    async def verify(self, token: str, now: float, request: Mapping[str, Any] | None = None) -> Principal:
        """Returns the principal of a caller.

        Args:
            token: the token that was sent; "" if there was none.
            now: Unix seconds.
            request: the ASGI scope of the request or the WebSocket; None for a token sent on an open socket.

        Raises:
            HubError: 4001 invalid, 4002 expired, 4019 revoked.
        """
        ...

    def recheck(self, principal: Principal, now: float) -> None:
        """Checks the principal of an open connection again.

        Raises:
            HubError: 4002: expired; 4019: revoked.
        """
        ...

    async def renew(self, now: float) -> None:
        """Fetches the keys again, if this verifier fetches any."""
        ...

    def is_withdrawn(self, principal: Principal) -> bool:
        """True if the key that verified the principal is no longer published."""
        ...

    async def close(self) -> None:
        """Waits for a fetch in progress."""
        ...


class TokenVerifier:
    """Verifies tokens with a static key or with the keys that a JWKS publishes.

    Args:
        policy: audience, issuer, times and deny-list.
        key: the static key; None with `fetch`.
        fetch: blocking; returns the published keys or raises JwksUnavailable.
        ring: caches the fetched keys.
    """

    def __init__(
        self,
        policy: TokenPolicy,
        *,
        key: VerifyingKey | None = None,
        fetch: Fetch | None = None,
        ring: KeyRing | None = None,
    ) -> None:
        if (key is None) == (fetch is None):
            raise ValueError("a verifier has either a static key or a way to fetch keys")
        self._policy = policy
        self._key = key
        self._fetch = fetch
        self._ring = ring or KeyRing()
        self._verified: dict[bytes, tuple[VerifyingKey, Principal]] = {}
        self._fetching: asyncio.Task[None] | None = None
        self.fetch_error: str | None = None
        """The error of the last fetch, for the readiness check; None if it succeeded."""

    def verify_nowait(self, token: str, now: float) -> Principal | None:
        """Verifies at `now` (Unix seconds); returns None when keys must be fetched first, as `verify` does.

        Raises:
            HubError: 4001 invalid (with `retry: backoff` for an unknown key id), 4002 expired, 4019 revoked.
        """
        check_shape(token)
        if self._key is not None:
            return self._check(token, self._key, now)
        found = self._ring.find(_kid(token), now)
        if isinstance(found, MustFetch):
            return None
        if isinstance(found, UnknownKey):
            _refuse_unknown_key(found)
        return self._check(token, found, now)

    def _check(self, token: str, key: VerifyingKey, now: float) -> Principal:
        """Verifies a token, or finds it among those this key has verified before: a reconnect then costs one hash."""
        digest = sha256(token.encode()).digest()
        known = self._verified.get(digest)
        if known is not None and known[0] is key and now < known[1].expires_at:
            self._policy.refuse_revoked(known[1])
            return known[1]
        principal = self._policy.check(token, key, now)
        if key is not self._key:
            principal = replace(principal, key=key)
        self._verified[digest] = (key, principal)
        if len(self._verified) > VERIFIED_MAX:
            del self._verified[next(iter(self._verified))]
        return principal

    async def verify(self, token: str, now: float, request: Mapping[str, Any] | None = None) -> Principal:  # noqa: ARG002
        """Like `verify_nowait`, but fetches keys where needed.

        Concurrent callers share a fetch; cancelling one does not stop it.
        """
        if not token:
            raise HubError(4001, "send a token in connection.init or as Authorization: Bearer")
        principal = self.verify_nowait(token, now)
        if principal is not None:
            return principal
        if self._fetching is None:
            self._fetching = asyncio.create_task(self._refresh(now))
        await asyncio.shield(self._fetching)
        principal = self.verify_nowait(token, now)
        if principal is None:  # the fetch began before this call, and the set has become too old since
            _refuse_unknown_key(UnknownKey(1.0))
        return principal

    def recheck(self, principal: Principal, now: float) -> None:
        """Checks the principal of a live connection again, when a timer fires or a revocation arrives.

        Raises:
            HubError: 4002 expired, 4019 revoked.
        """
        self._policy.recheck(principal, now)

    async def renew(self, now: float) -> None:
        """Fetches the keys again, so that a removed key is noticed even if nobody connects.

        Does nothing before the first fetch.
        """
        if self._fetch is None or not self._ring.is_set or not self._ring.may_fetch(now):
            return
        if self._fetching is None:
            self._fetching = asyncio.create_task(self._refresh(now))
        await asyncio.shield(self._fetching)
        if self._ring.is_good(now):  # while the cached keys may be used, a failed fetch does not make the node unready
            self.fetch_error = None

    def is_withdrawn(self, principal: Principal) -> bool:
        """True if the issuer no longer publishes the key of this token."""
        return principal.key is not None and not self._ring.publishes(principal.key)

    async def close(self) -> None:
        """Waits for a fetch in progress, which its timeout bounds."""
        if self._fetching is not None:
            await self._fetching

    async def _refresh(self, now: float) -> None:
        assert self._fetch is not None  # noqa: S101  # by __init__
        try:
            self._ring.accept(await asyncio.to_thread(self._fetch), now)
            self.fetch_error = None
        except JwksUnavailable as error:
            self._ring.note_failure(now)
            self.fetch_error = str(error)
        finally:
            self._fetching = None


def open_verifier(
    policy: TokenPolicy = _DEFAULT,
    *,
    secret: str | None = None,
    public_key: str | None = None,
    jwks_url: str | None = None,
) -> TokenVerifier:
    """Builds the verifier for the one configured source of keys.

    Raises:
        ValueError: none or several were given, a key is too weak, or the URL is not allowed.
    """
    if jwks_url is None:
        return TokenVerifier(policy, key=static_key(secret, public_key))
    if secret is not None or public_key is not None:
        raise ValueError("set exactly one of HUB_JWT_SECRET, HUB_JWT_PUBLIC_KEY and HUB_JWKS_URL")
    return TokenVerifier(policy, fetch=partial(fetch_keys, parse_jwks_url(jwks_url)))


def _kid(token: str) -> str | None:
    """Returns the key id in the header. It only selects among published keys; it never names a place to fetch from."""
    try:
        kid = jwt.get_unverified_header(token).get("kid")
    except (jwt.PyJWTError, ValueError, RecursionError):
        raise invalid_token("token", "is not a JWT") from None
    if kid is not None and (not isinstance(kid, str) or not 1 <= len(kid) <= KID_CHARS_MAX):
        raise invalid_token("kid", f"must be 1 to {KID_CHARS_MAX} characters")
    return kid


def _refuse_unknown_key(unknown: UnknownKey) -> NoReturn:
    raise HubError(
        4001,
        "the key that signed the token is not known to this node yet; try again later",
        details=(ErrorDetail("kid", "names no published key"),),
        retry=RetryAdvice.BACKOFF,
        retry_after_ms=math.ceil(unknown.retry_after_s * 1000),
    )
