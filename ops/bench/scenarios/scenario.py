"""The interface of a scenario: its actions, its measurements, and its figures."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeAlias

from ops.bench.generator import Quantiles, Seen
from ops.bench.setup import Setup, Spent
from ops.bench.sizes import Sizes


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure of a scenario.

    Attributes:
        name: its name in the JSON output.
        text: its description for people, with its unit.
        is_more_better: true for a rate, false for a time or a cost.
    """

    name: str
    text: str
    is_more_better: bool = False


@dataclass(slots=True)
class Measured:
    """One run of a scenario: its figures, latencies, use of resources, and faults."""

    figures: dict[str, float]
    spent: Spent
    latencies: dict[str, Quantiles] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)


Run: TypeAlias = Callable[[Setup, Sizes], Awaitable[Measured]]


@dataclass(frozen=True, slots=True)
class Scenario:
    """A scenario.

    Attributes:
        name: as the command line names it.
        text: what happens in it.
        figures: the first is the one by which servers are compared.
        nodes: nodes it needs.
        workers: processes of each node that share its port.
        is_pinned: the nodes have a core of their own, which Redis and the generator do not use.
        users: clients that exist at one time, so that each can have a token of its own.
        needs_resume: only for servers whose clients can come back to their place.
        is_ours: measured of this hub alone.
        has_limits: the default rate limits are on.
        has_archive: the nodes read an archive in their folder.
    """

    name: str
    text: str
    figures: tuple[Figure, ...]
    run: Run
    users: Callable[[Sizes], int]
    nodes: int = 1
    workers: int = 1
    is_pinned: bool = True
    needs_resume: bool = False
    is_ours: bool = False
    has_limits: bool = False
    has_archive: bool = False


def faults_of(seen: Seen, *, may_be_lost: bool = False, all_are_served: bool = True) -> list[str]:
    """Describe the faults in a group's deliveries, as sentences."""
    counts = {
        "of {expected} expected deliveries did not arrive": seen.missing,
        "events were missing between two that arrived": seen.holes,
        "subscriptions were not brought up to date from the log": seen.gaps,
        "handshakes or commands failed": 0 if may_be_lost else seen.failed,
        "clients were disconnected": 0 if may_be_lost else seen.lost,
        "clients were delivered nothing": seen.count - seen.served if all_are_served else 0,
    }
    return [f"{count:,} {text.format(expected=f'{seen.expected:,}')}" for text, count in counts.items() if count]
