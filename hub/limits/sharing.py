"""The news of nodes to each other, as bytes: rates taken, and sessions taken over. Pure.

*Rates.* Each node limits by itself at once and reports about twice a second the costs it let through; the others charge them to
their own buckets. So a user's limit is the same whichever node a device is on, half a second late, without a round trip per
event. Any excess of that half second is not lost: the buckets fall below empty and refuse until it is repaid.

*Sessions.* A session resumed on one node is told to the others, so that they let go of its old socket. A claim holds person and
time, never a token. A node that hears of it compares tenant and user with its own socket's: naming somebody else's session
closes nothing.
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
"""Keys in one report, about 12 KB. Writing or merging one takes about 0.6 ms; between two the node serves its sockets."""


@dataclass(frozen=True, slots=True)
class RateReport:
    """The costs one node let through in one round.

    Attributes:
        node: the reporting node, so that none charges its own report.
        taken: class → key → cost.
        usage: tenant → the node's counts, for quotas; empty in most rounds.
    """

    node: str
    taken: Mapping[str, Taken] = field(default_factory=dict)
    usage: Mapping[str, TenantUsage] = field(default_factory=dict)

    def encode(self) -> bytes:
        """The report as JSON: `{"n": node, "t": {"chat": [["acme", "alice", 3]]}, "u": {"acme": [2, 5]}}`."""
        rows = {name: [[*key, cost] for key, cost in taken.items()] for name, taken in self.taken.items()}
        usage = {tenant: [held.connections, held.channels] for tenant, held in self.usage.items()}
        return to_json({"n": self.node, "t": rows, "u": usage})


def decode_report(data: bytes) -> RateReport:
    """Read a report.

    Raises:
        ValueError: not one; another version of the hub may have written it.
    """
    try:
        fields = json.loads(data)
        taken = {name: {tuple(row[:-1]): float(row[-1]) for row in rows} for name, rows in fields["t"].items()}
        usage = {tenant: TenantUsage(*held) for tenant, held in fields["u"].items()}
        return RateReport(str(fields["n"]), taken, usage)
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise ValueError("not a report of rates") from error


def reports(node: str, drained: Mapping[str, Taken]) -> Iterator[RateReport]:
    """A round's reports, each of at most `REPORT_KEYS_MAX` keys."""
    rows = [(name, key, cost) for name, taken in drained.items() for key, cost in taken.items()]
    for start in range(0, len(rows), REPORT_KEYS_MAX):
        yield RateReport(node, _by_class(rows[start : start + REPORT_KEYS_MAX]))


def charge_report(limiter: RateLimiter, report: RateReport, at: float) -> None:
    """Charge the costs another node let through at this time. Charges commute, so the order of reports does not matter."""
    for name, taken in report.taken.items():
        for key, cost in taken.items():
            limiter.charge(key, name, at, cost)


def _by_class(rows: list[tuple[str, LimitKey, float]]) -> dict[str, Taken]:
    taken: dict[str, Taken] = {}
    for name, key, cost in rows:
        taken.setdefault(name, {})[key] = cost
    return taken


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
