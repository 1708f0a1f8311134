"""The deny-list: tokens that are refused although their signature is valid. Pure.

A revocation names either the `jti` of one token, or a subject whose tokens up to a moment of issue are all revoked.
It is kept for as long as such a token may live; where that is unknown, for ten years.
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
"""Seconds an entry is kept when the lifetime of its tokens is unknown. Set a maximum token age to shorten it."""


@dataclass(frozen=True, slots=True)
class Revocation:
    """One entry of the deny-list.

    Attributes:
        tenant: the token's tenant; a revocation never affects another one.
        jti: the id of the revoked token, or None.
        user: the subject whose tokens are revoked, or None. Exactly one of `jti` and `user` is set.
        before: Unix seconds; with `user`, tokens issued at or before it are revoked.
        until: Unix seconds after which the entry may be dropped.
    """

    tenant: str
    jti: str | None
    user: str | None
    before: float
    until: float

    @property
    def field(self) -> str:
        """The entry's field in the stored hash. Tenant names contain no colon, so it is unambiguous."""
        return f"{self.tenant}:jti:{self.jti}" if self.user is None else f"{self.tenant}:sub:{self.user}"

    def hits(self, principal: Principal) -> bool:
        """True if this entry revokes the principal's token. A token without `iat` cannot prove that it is newer."""
        if principal.tenant != self.tenant:
            return False
        if self.user is None:
            return principal.jti == self.jti
        return principal.user == self.user and (principal.issued_at is None or principal.issued_at <= self.before)

    def encode(self) -> bytes:
        """The entry as JSON."""
        return to_json([self.tenant, self.jti, self.user, self.before, self.until])


def decode_revocation(data: bytes) -> Revocation:
    """Parses an entry.

    Raises:
        ValueError: the data is not an entry.
    """
    row = json.loads(data)
    if not isinstance(row, list) or len(row) != 5:  # noqa: PLR2004  # the fields of a Revocation
        raise ValueError("not a revocation")
    tenant, jti, user, before, until = row
    return Revocation(tenant, jti, user, float(before), float(until))


def revoke_token(tenant: str, jti: str, now: float, *, expires_at: float | None = None) -> Revocation:
    """Builds the entry that revokes one token, kept until `expires_at` (plus the leeway) where that is known."""
    until = now + UNKNOWN_LIFE_S if expires_at is None else expires_at + 60
    return Revocation(tenant, jti, None, now, until)


def revoke_subject(tenant: str, user: str, now: float, *, max_life_s: float | None = None) -> Revocation:
    """Builds the entry that revokes every token of a user issued up to `now`, kept as long as such a token may live.

    Most issuers write `iat` in whole seconds, so a token issued in the same second as the revocation is revoked
    too.
    """
    return Revocation(tenant, None, user, now, now + (UNKNOWN_LIFE_S if max_life_s is None else max_life_s + 60))


class DenyList:
    """All revocations that a node knows. A check costs two look-ups."""

    def __init__(self) -> None:
        self._entries: dict[str, Revocation] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Revocation]:
        return iter(tuple(self._entries.values()))

    def add(self, revocation: Revocation) -> bool:
        """Adds an entry; returns True if it changes anything. Of two entries for one subject the later `before` wins."""
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
        """True if an entry revokes the principal's token."""
        entries = self._entries
        if not entries:
            return False
        by_user = entries.get(f"{principal.tenant}:sub:{principal.user}")
        if by_user is not None and by_user.hits(principal):
            return True
        return principal.jti is not None and f"{principal.tenant}:jti:{principal.jti}" in entries

    def forget(self, now: float) -> int:
        """Drops entries whose tokens have all expired; returns their number."""
        kept = {field: entry for field, entry in self._entries.items() if entry.until > now}
        dropped, self._entries = len(self._entries) - len(kept), kept
        return dropped


_NAME: Final = re.compile(NAME_PATTERN)
_BODY_BYTES_MAX: Final = 4_096


def read_revocation(body: bytes, asker: Principal, now: float, *, max_life_s: float | None = None) -> Revocation:
    """Parses the body of `POST /v1/revocations` into a revocation in the sender's own tenant.

    Args:
        body: the request body.
        asker: the authenticated sender.
        now: Unix seconds.
        max_life_s: the configured maximum token lifetime in seconds, if any; limits how long the entry is kept.

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
        problem = (
            f"must be 1 to {JTI_CHARS_MAX} printable characters"
            if field == "jti"
            else "must be 1 to 128 of A-Z a-z 0-9 _ . @ | + ~ -"
        )
        raise HubError(4005, f"no token can have this {field}; see details", details=(ErrorDetail(field, problem),))
    return field, value
