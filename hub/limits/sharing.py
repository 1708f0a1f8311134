"""Reports of nodes to each other about rates, as bytes, and their merging. Pure.

Each node limits by itself at once and reports about twice a second the costs it let through; the others charge them to their
own buckets. So a user's limit is the same whichever node a device is on, half a second late, without a round trip per event.
Any excess of that half second is not lost: the buckets fall below empty and refuse until it is repaid.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
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


def merge(limiter: RateLimiter, node: str, news: Iterable[tuple[RateReport, float]], now: float) -> int:
    """Charge other nodes' reports, each with its age in seconds; returns the number of charges.

    Own reports are passed over. Charges commute, so the order of reports does not matter.
    """
    count = 0
    for report, age_s in news:
        if report.node == node:
            continue
        for name, taken in report.taken.items():
            for key, cost in taken.items():
                limiter.charge(key, name, now - age_s, cost)
                count += 1
    return count


def _by_class(rows: list[tuple[str, LimitKey, float]]) -> dict[str, Taken]:
    taken: dict[str, Taken] = {}
    for name, key, cost in rows:
        taken.setdefault(name, {})[key] = cost
    return taken
