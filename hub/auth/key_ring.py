"""Which published key verifies a token, and when to fetch the set again. Pure.

Keys are forgotten when their set is too old, so a key the issuer removed stops working; an unknown key id causes one fetch
per cooldown, so that forged ids cannot make the hub hammer its issuer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from hub.auth.keys import StaticKey

LIFESPAN_S: Final = 300.0
"""How long a fetched set is trusted: the longest a removed key goes on working."""

COOLDOWN_S: Final = 5.0
"""Least time between two fetches, counted from any attempt. It is how long a key rotated just now may be refused."""

BACKOFF_MAX_S: Final = 30.0
"""Failed fetches double the cooldown up to here."""


@dataclass(frozen=True, slots=True)
class MustFetch:
    """The set is too old or the key id unknown, and a fetch is allowed now."""


@dataclass(frozen=True, slots=True)
class Unknown:
    """No such key, and it is too early to ask again."""

    retry_after_s: float


Found = StaticKey | MustFetch | Unknown


class KeyRing:
    """The keys of one JWKS by key id. `now` is in seconds of one clock throughout."""

    def __init__(self, lifespan_s: float = LIFESPAN_S, cooldown_s: float = COOLDOWN_S) -> None:
        self._lifespan_s = lifespan_s
        self._cooldown_s = cooldown_s
        self._keys: Mapping[str, StaticKey] = {}
        self._good_until = 0.0
        self._next_fetch_at = 0.0
        self._failures = 0

    def find(self, kid: str | None, now: float) -> Found:
        """The key to use. Without a key id only a set of one key has an answer."""
        if now < self._good_until:
            key = self._pick(kid)
            if key is not None:
                return key
        if now >= self._next_fetch_at:
            return MustFetch()
        return Unknown(self._next_fetch_at - now)

    def accept(self, keys: Mapping[str, StaticKey], now: float) -> None:
        """A set was fetched: it replaces the one before."""
        self._keys = keys
        self._failures = 0
        self._good_until = now + self._lifespan_s
        self._next_fetch_at = now + self._cooldown_s

    def note_failure(self, now: float) -> None:
        """A fetch failed: what is held serves until its lifespan ends; the next attempt waits longer each time."""
        self._failures += 1
        self._next_fetch_at = now + min(BACKOFF_MAX_S, self._cooldown_s * 2.0 ** min(self._failures - 1, 10))

    def _pick(self, kid: str | None) -> StaticKey | None:
        if kid is not None:
            return self._keys.get(kid)
        return next(iter(self._keys.values())) if len(self._keys) == 1 else None
