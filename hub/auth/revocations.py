"""The deny-list: tokens that no longer count although their signature holds. Pure.

A token is revoked by its `jti`, or with every token of its subject issued up to a moment. Entries are kept as long as a
token they could hit may live; where that is unknown, for ten years.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from hub.auth.permissions import EVERYTHING
from hub.auth.tokens import JTI_CHARS_MAX, Principal
from hub.errors import ErrorDetail, HubError
from streams.channel import NAME_PATTERN
from streams.json_bytes import to_json

UNKNOWN_LIFE_S: Final = 10 * 365 * 86_400.0
"""Life of an entry when nothing says how long its tokens live. Set a maximum age of tokens to shorten it."""


@dataclass(frozen=True, slots=True)
class Revocation:
    """One entry.

    Attributes:
        tenant: the token's tenant; a revocation never reaches another.
        jti: the token's id, or None.
        user: the tokens' subject, or None. Exactly one of the two is set.
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
        """The entry's field in the stored hash. No tenant holds a colon, so it is unambiguous."""
        return f"{self.tenant}:jti:{self.jti}" if self.user is None else f"{self.tenant}:sub:{self.user}"

    def hits(self, principal: Principal) -> bool:
        """True if it revokes the principal's token. A token without `iat` cannot show that it is newer."""
        if principal.tenant != self.tenant:
            return False
        if self.user is None:
            return principal.jti == self.jti
        return principal.user == self.user and (principal.issued_at is None or principal.issued_at <= self.before)

    def encode(self) -> bytes:
        """The entry as JSON."""
        return to_json([self.tenant, self.jti, self.user, self.before, self.until])


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
        """Add an entry; true if it is news. Of two about one subject the later `before` counts."""
        known = self._entries.get(revocation.field)
        if known is not None and known.before >= revocation.before and known.until >= revocation.until:
            return False
        if known is not None:
            revocation = Revocation(
                revocation.tenant,
                revocation.jti,
                revocation.user,
                max(known.before, revocation.before),
                max(known.until, revocation.until),
            )
        self._entries[revocation.field] = revocation
        return True

    def is_revoked(self, principal: Principal) -> bool:
        """True if an entry hits the principal's token."""
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


_NAME: Final = re.compile(NAME_PATTERN)
_BODY_BYTES_MAX: Final = 4_096


def read_revocation(body: bytes, asker: Principal, now: float, *, max_life_s: float | None = None) -> Revocation:
    """Read the body of `POST /v1/revocations`: a revocation in the asker's own tenant.

    Args:
        body: as it arrived.
        asker: its sender.
        now: unix seconds.
        max_life_s: the longest a token may live here, where that is configured: bounds how long the entry is kept.

    Raises:
        HubError: 4003 without `*` on `*`; 4005 unless the body is an object with `jti` or `sub`.
    """
    if not asker.grants.covers(EVERYTHING, EVERYTHING):
        raise HubError(4003, "revoking tokens needs a grant of * on *")
    field, value = _read(body)
    if field == "jti":
        until = None if max_life_s is None else now + max_life_s
        return revoke_token(asker.tenant, value, now, expires_at=until)
    return revoke_subject(asker.tenant, value, now, max_life_s=max_life_s)


def _read(body: bytes) -> tuple[str, str]:
    try:
        fields = json.loads(body) if len(body) <= _BODY_BYTES_MAX else None
    except (ValueError, RecursionError):
        fields = None
    if not isinstance(fields, dict) or len(fields) != 1 or not fields.keys() <= {"jti", "sub"}:
        raise HubError(
            4005, "send an object with either jti or sub", details=(ErrorDetail("body", "needs jti or sub"),)
        )
    ((field, value),) = fields.items()
    is_jti = isinstance(value, str) and 1 <= len(value) <= JTI_CHARS_MAX and value.isprintable()
    is_name = isinstance(value, str) and _NAME.fullmatch(value) is not None
    if not (is_jti if field == "jti" else is_name):
        raise HubError(4005, f"{field} must be as in the token", details=(ErrorDetail(field, "is malformed"),))
    return field, value
