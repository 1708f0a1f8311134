"""The deny-list: which tokens no longer count although their signature holds. Pure.

A token is revoked by its `jti`, or with every token of its subject issued up to a moment. Entries are kept as long as a
token they could hit may live; where that is unknown, for ten years.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from hub.auth.claims import Principal

UNKNOWN_LIFE_S: Final = 10 * 365 * 86_400.0
"""How long an entry is kept when nothing says how long its tokens live. Set a maximum age of tokens to shorten it."""


@dataclass(frozen=True, slots=True)
class Revocation:
    """One entry.

    Attributes:
        tenant: whose token; a revocation never reaches another tenant.
        jti: the token's id, or None.
        user: whose tokens, or None. Exactly one of the two is set.
        before: unix seconds; with `user`, tokens issued at or before it are revoked.
        until: unix seconds; the entry may be forgotten then.
    """

    tenant: str
    jti: str | None
    user: str | None
    before: float
    until: float

    @property
    def field(self) -> str:
        """What it is about, as its field in the stored hash. No tenant holds a colon, so it is unambiguous."""
        return f"{self.tenant}:jti:{self.jti}" if self.user is None else f"{self.tenant}:sub:{self.user}"

    def hits(self, principal: Principal) -> bool:
        """Whether it revokes the principal's token. One without `iat` cannot show that it is newer."""
        if principal.tenant != self.tenant:
            return False
        if self.user is None:
            return principal.jti == self.jti
        return principal.user == self.user and (principal.issued_at is None or principal.issued_at <= self.before)

    def encode(self) -> bytes:
        """The entry as JSON."""
        return json.dumps([self.tenant, self.jti, self.user, self.before, self.until], separators=(",", ":")).encode()


def decode_revocation(data: bytes) -> Revocation:
    """Read an entry.

    Raises:
        ValueError: not one.
    """
    row = json.loads(data)
    if not isinstance(row, list) or len(row) != 5:  # noqa: PLR2004  # the fields of a Revocation
        raise ValueError("not a revocation")
    tenant, jti, user, before, until = row
    return Revocation(tenant, jti, user, float(before), float(until))


def revoke_token(tenant: str, jti: str, now: float, *, expires_at: float | None = None) -> Revocation:
    """Revoke one token, kept until `expires_at` (and the leeway) where that is known."""
    until = now + UNKNOWN_LIFE_S if expires_at is None else expires_at + 60
    return Revocation(tenant, jti, None, now, until)


def revoke_subject(tenant: str, user: str, now: float, *, max_life_s: float | None = None) -> Revocation:
    """Revoke every token of a user issued up to now, kept as long as such a token may live.

    `iat` has whole seconds as most issuers write it: a token issued in the very second of its revocation is revoked too.
    """
    return Revocation(tenant, None, user, now, now + (UNKNOWN_LIFE_S if max_life_s is None else max_life_s + 60))


class DenyList:
    """All revocations a node knows. Asking costs two look-ups."""

    def __init__(self) -> None:
        self._entries: dict[str, Revocation] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Revocation]:
        return iter(tuple(self._entries.values()))

    def add(self, revocation: Revocation) -> bool:
        """Take an entry in; whether it is news. Of two about one subject the later `before` counts."""
        known = self._entries.get(revocation.field)
        if known is not None and known.before >= revocation.before and known.until >= revocation.until:
            return False
        if known is not None:
            revocation = Revocation(
                revocation.tenant, revocation.jti, revocation.user,
                max(known.before, revocation.before), max(known.until, revocation.until),
            )  # fmt: skip
        self._entries[revocation.field] = revocation
        return True

    def is_revoked(self, principal: Principal) -> bool:
        """Whether an entry hits the principal's token."""
        entries = self._entries
        if not entries:
            return False
        by_user = entries.get(f"{principal.tenant}:sub:{principal.user}")
        if by_user is not None and by_user.hits(principal):
            return True
        return principal.jti is not None and f"{principal.tenant}:jti:{principal.jti}" in entries

    def forget(self, now: float) -> int:
        """Drop entries whose tokens have all expired; returns how many."""
        kept = {field: entry for field, entry in self._entries.items() if entry.until > now}
        dropped, self._entries = len(self._entries) - len(kept), kept
        return dropped

    def next_forget_at(self) -> float:
        """When the first entry may be dropped; infinity when there is none."""
        return min((entry.until for entry in self._entries.values()), default=math.inf)
