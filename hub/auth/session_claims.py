"""Sessions taken over on one node, told to the others so that they let go of the old socket. Pure.

A claim holds person and time, never a token. A node that hears of it compares tenant and user with its own socket's: naming
somebody else's session closes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from streams.json_bytes import to_json

WAITING_MAX: Final = 10_000
"""Claims kept while Redis is unreachable; beyond it the oldest are forgotten, and their old sockets end by heartbeat."""


@dataclass(frozen=True, slots=True)
class SessionClaim:
    """One socket that resumed a session.

    Attributes:
        at: seconds of Redis's clock, which is the one clock all nodes see; off by half a round trip at most.
    """

    node: str
    session_id: str
    tenant: str
    user: str
    at: float


class SessionClaims:
    """The claims of one node that the others were not told yet, and its estimate of Redis's clock."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._ahead_s = 0.0
        self._waiting: list[SessionClaim] = []

    def set_clock(self, asked_at: float, answered_at: float, redis_now: float) -> None:
        """Redis gave its time between two moments here."""
        self._ahead_s = redis_now - (asked_at + answered_at) / 2

    def now(self) -> float:
        """Redis's time, estimated."""
        return self._monotonic() + self._ahead_s

    def add(self, session_id: str, tenant: str, user: str, at: float) -> None:
        """A session was resumed here: tell the others with the next round."""
        self._waiting.append(SessionClaim("", session_id, tenant, user, at))
        del self._waiting[:-WAITING_MAX]

    def drain(self) -> list[SessionClaim]:
        """The claims to be told now."""
        drained, self._waiting = self._waiting, []
        return drained

    def restore(self, claims: list[SessionClaim]) -> None:
        """They could not be told: try again."""
        self._waiting = [*claims, *self._waiting][-WAITING_MAX:]


def encode_claims(node: str, claims: list[SessionClaim]) -> bytes:
    """A round's claims as JSON: `["n-1", [["session", "acme", "alice", 1795367479.5]]]`."""
    rows = [[claim.session_id, claim.tenant, claim.user, claim.at] for claim in claims]
    return to_json([node, rows])


def decode_claims(data: bytes) -> list[SessionClaim]:
    """Read them; none from an entry that another version of the hub wrote."""
    try:
        node, rows = json.loads(data)
        return [SessionClaim(str(node), str(s), str(tenant), str(user), float(at)) for s, tenant, user, at in rows]
    except (ValueError, TypeError):
        return []
