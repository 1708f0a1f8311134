"""Messages between nodes, as bytes: rate costs, and resumed sessions. Pure.

*Rates.* Each node decides alone and at once; about twice a second it reports the costs it let through, and the others charge
them to their own buckets. So a user has the same limit on all nodes, half a second late, without a round trip per event. An
excess during that half second is not forgiven: the buckets become negative and refuse until they have refilled.

*Sessions.* When a session is resumed on one node, the others are told to close its old socket. A claim contains the user and
the time, never a token. A node compares its tenant and user with those of its own socket, so naming the session of another
user closes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from hub.limits.quotas import TenantUsage
from hub.limits.rates import LimitKey, RateLimiter, Taken
from streams.json_bytes import to_json

REPORT_KEYS_MAX: Final = 500
"""Maximum keys in one report, about 12 KB. Encoding or merging one takes about 0.6 ms; in between the node serves its sockets."""


@dataclass(frozen=True, slots=True)
class RateReport:
    """The costs that one node let through in one round.

    Attributes:
        node: the reporting node, so that it does not charge its own report.
        taken: class → key → cost.
        usage: tenant → the node's counts, for quotas; empty in most rounds.
    """

    node: str
    taken: Mapping[str, Taken] = field(default_factory=dict)
    usage: Mapping[str, TenantUsage] = field(default_factory=dict)

    def encode(self) -> bytes:
        """Returns the report as JSON: `{"n": node, "t": {"chat": [["acme", "alice", 3]]}, "u": {"acme": [2, 5]}}`."""
        rows = {name: [[*key, cost] for key, cost in taken.items()] for name, taken in self.taken.items()}
        usage = {tenant: [held.connections, held.channels] for tenant, held in self.usage.items()}
        return to_json({"n": self.node, "t": rows, "u": usage})


def decode_report(data: bytes) -> RateReport:
    """Parses a report.

    Raises:
        ValueError: not a report; another version of the hub may have written it.
    """
    try:
        fields = json.loads(data)
        taken = {name: {tuple(row[:-1]): float(row[-1]) for row in rows} for name, rows in fields["t"].items()}
        usage = {tenant: TenantUsage(*held) for tenant, held in fields["u"].items()}
        return RateReport(str(fields["n"]), taken, usage)
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise ValueError("not a report of rates") from error


def reports(node: str, drained: Mapping[str, Taken]) -> Iterator[RateReport]:
    """Splits the costs of a round into reports of at most `REPORT_KEYS_MAX` keys."""
    rows = [(name, key, cost) for name, taken in drained.items() for key, cost in taken.items()]
    for start in range(0, len(rows), REPORT_KEYS_MAX):
        yield RateReport(node, _by_class(rows[start : start + REPORT_KEYS_MAX]))


def charge_report(limiter: RateLimiter, report: RateReport, at: float) -> None:
    """Charges the costs that another node let through at time `at`. The order of reports does not matter."""
    for name, taken in report.taken.items():
        for key, cost in taken.items():
            limiter.charge(key, name, at, cost)


def _by_class(rows: list[tuple[str, LimitKey, float]]) -> dict[str, Taken]:
    taken: dict[str, Taken] = {}
    for name, key, cost in rows:
        taken.setdefault(name, {})[key] = cost
    return taken


WAITING_MAX: Final = 10_000
"""Maximum claims kept while Redis is unreachable; beyond it the oldest are dropped, and their old sockets end by heartbeat."""


@dataclass(frozen=True, slots=True)
class SessionClaim:
    """The notice that a socket has resumed a session.

    Attributes:
        at: seconds of Redis's clock, the one clock that all nodes see; accurate to half a round trip.
    """

    node: str
    session_id: str
    tenant: str
    user: str
    at: float


class SessionClaims:
    """The claims of one node that were not reported yet, and its estimate of Redis's clock."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._ahead_s = 0.0
        self._waiting: list[SessionClaim] = []

    def set_clock(self, asked_at: float, answered_at: float, redis_now: float) -> None:
        """Sets the clock from Redis's answer `redis_now`, received between `asked_at` and `answered_at` of the local clock."""
        self._ahead_s = redis_now - (asked_at + answered_at) / 2

    def now(self) -> float:
        """Returns Redis's estimated time in seconds."""
        return self._monotonic() + self._ahead_s

    def add(self, session_id: str, tenant: str, user: str, at: float) -> None:
        """Records that a session was resumed here, to be reported with the next round."""
        self._waiting.append(SessionClaim("", session_id, tenant, user, at))
        del self._waiting[:-WAITING_MAX]

    def drain(self) -> list[SessionClaim]:
        """Takes the claims to be reported now."""
        drained, self._waiting = self._waiting, []
        return drained

    def restore(self, claims: list[SessionClaim]) -> None:
        """Puts back claims that could not be reported."""
        self._waiting = [*claims, *self._waiting][-WAITING_MAX:]


def encode_claims(node: str, claims: list[SessionClaim]) -> bytes:
    """Returns a round's claims as JSON: `["n-1", [["session", "acme", "alice", 1795367479.5]]]`."""
    rows = [[claim.session_id, claim.tenant, claim.user, claim.at] for claim in claims]
    return to_json([node, rows])


def decode_claims(data: bytes) -> list[SessionClaim]:
    """Parses claims; returns none for an entry that another version of the hub wrote."""
    try:
        node, rows = json.loads(data)
        return [SessionClaim(str(node), str(s), str(tenant), str(user), float(at)) for s, tenant, user, at in rows]
    except (ValueError, TypeError):
        return []
