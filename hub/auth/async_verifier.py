"""The verifier a node uses: at once with keys at hand, and by a fetch in a thread when a JWKS must be asked.

One object for the whole node, so that a thousand reconnects after a key rotation cause one fetch.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Final, NoReturn

import jwt

from hub.auth.claims import Principal, invalid_token
from hub.auth.jwks import JwksUnavailable, fetch_keys, parse_jwks_url
from hub.auth.key_ring import KeyRing, MustFetch, Unknown
from hub.auth.keys import StaticKey, static_key
from hub.auth.verifier import Admission, check_shape
from hub.errors import HubError, Problem, RetryAdvice

KID_CHARS_MAX: Final = 256
Fetch = Callable[[], Mapping[str, StaticKey]]


class AsyncVerifier:
    """Verifies by a static key, or by the keys a JWKS publishes.

    Args:
        admission: audience, issuer, times and deny-list.
        key: the static key, or None with a `fetch`.
        fetch: blocking; returns the published keys or raises JwksUnavailable.
        ring: what remembers them.
    """

    def __init__(
        self, admission: Admission, *, key: StaticKey | None = None, fetch: Fetch | None = None,
        ring: KeyRing | None = None,
    ) -> None:  # fmt: skip
        if (key is None) == (fetch is None):
            raise ValueError("a verifier has either a static key or a way to fetch keys")
        self._admission = admission
        self._key = key
        self._fetch = fetch
        self._ring = ring or KeyRing()
        self._fetching: asyncio.Task[None] | None = None
        self.fetch_error: str | None = None
        """Why the last fetch failed, for readiness; None when it worked."""

    def verify_nowait(self, token: str, now: float) -> Principal | None:
        """Who the token speaks for, at `now` (unix seconds); None when keys must be fetched first (`verify` does).

        Raises:
            HubError: 4001 not valid (with `retry: backoff` for an unknown key id), 4002 expired, 4019 revoked.
        """
        check_shape(token)
        if self._key is not None:
            return self._admission.admit(token, self._key, now)
        found = self._ring.find(_kid(token), now)
        if isinstance(found, MustFetch):
            return None
        if isinstance(found, Unknown):
            _refuse_unknown_key(found)
        return self._admission.admit(token, found, now)

    async def verify(self, token: str, now: float) -> Principal:
        """As `verify_nowait`, fetching keys where needed. Cancelling the caller leaves the fetch to the others."""
        principal = self.verify_nowait(token, now)
        if principal is not None:
            return principal
        if self._fetching is None:
            self._fetching = asyncio.create_task(self._refresh(now))
        await asyncio.shield(self._fetching)
        principal = self.verify_nowait(token, now)
        if principal is None:  # the fetch was older than this call and the set has aged out between
            _refuse_unknown_key(Unknown(1.0))
        return principal

    def recheck(self, principal: Principal, now: float) -> None:
        """Whether a live connection may go on: for timers and after news of a revocation.

        Raises:
            HubError: 4002 expired, 4019 revoked.
        """
        self._admission.recheck(principal, now)

    async def close(self) -> None:
        """Wait for a fetch under way; it is bounded by its timeout."""
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
    admission: Admission, *, secret: str | None = None, public_key: str | None = None, jwks_url: str | None = None
) -> AsyncVerifier:
    """The verifier for the one source of keys that was configured.

    Raises:
        ValueError: none or several were given, a key is too weak, or the URL is not allowed.
    """
    if jwks_url is None:
        return AsyncVerifier(admission, key=static_key(secret, public_key))
    if secret is not None or public_key is not None:
        raise ValueError("set exactly one of HUB_JWT_SECRET, HUB_JWT_PUBLIC_KEY and HUB_JWKS_URL")
    return AsyncVerifier(admission, fetch=partial(fetch_keys, parse_jwks_url(jwks_url)))


def _kid(token: str) -> str | None:
    """The key id the header names: a look-up among keys already published, never a place to go."""
    try:
        kid = jwt.get_unverified_header(token).get("kid")
    except (jwt.PyJWTError, ValueError, RecursionError):
        raise invalid_token("token", "is not a JWT") from None
    if kid is not None and (not isinstance(kid, str) or not 1 <= len(kid) <= KID_CHARS_MAX):
        raise invalid_token("kid", f"is 1 to {KID_CHARS_MAX} characters")
    return kid


def _refuse_unknown_key(unknown: Unknown) -> NoReturn:
    raise HubError(
        4001, "the key that signed the token is not known here yet: try again later",
        details=(Problem("kid", "names no published key"),), retry=RetryAdvice.BACKOFF,
        retry_after_ms=math.ceil(unknown.retry_after_s * 1000),
    )  # fmt: skip
