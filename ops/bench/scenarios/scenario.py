"""The interface of a scenario: what it does, what it measures, and how a figure is read."""

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
        name: as in the JSON.
        text: as people read it, with its unit.
        is_more_better: a rate, and not a time or a cost.
    """

    name: str
    text: str
    is_more_better: bool = False


@dataclass(slots=True)
class Measured:
    """One run of a scenario: its figures, its latencies, what it spent, and whatever was not as it should be."""

    figures: dict[str, float]
    spent: Spent
    latencies: dict[str, Quantiles] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)


Run: TypeAlias = Callable[[Setup, Sizes], Awaitable[Measured]]


@dataclass(frozen=True, slots=True)
class Scenario:
    """One scenario.

    Attributes:
        name: as the command line names it.
        text: what happens in it.
        figures: the first is the one by which servers are compared.
        nodes: nodes it needs.
        users: clients that exist at one time, so that each can have a token of its own.
        needs_resume: only for servers whose clients can come back to their place.
        is_ours: measured of this hub alone.
    """

    name: str
    text: str
    figures: tuple[Figure, ...]
    run: Run
    users: Callable[[Sizes], int]
    nodes: int = 1
    needs_resume: bool = False
    is_ours: bool = False


def faults_of(seen: Seen, *, may_be_lost: bool = False, all_are_served: bool = True) -> list[str]:
    """The faults of a group's deliveries, in words."""
    counts = {
        "of {expected} expected deliveries did not arrive": seen.missing,
        "events were missing between two that arrived": seen.holes,
        "subscriptions were not brought up to date from the log": seen.gaps,
        "handshakes or commands failed": 0 if may_be_lost else seen.failed,
        "clients were disconnected": 0 if may_be_lost else seen.lost,
        "clients were delivered nothing": seen.count - seen.served if all_are_served else 0,
    }
    return [f"{count:,} {text.format(expected=f'{seen.expected:,}')}" for text, count in counts.items() if count]
