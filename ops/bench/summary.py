"""Medians, spreads and ratios of repeated runs. Pure except for the random sampling of the intervals."""

from __future__ import annotations

import random
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

_DRAWS: Final = 1_000
_SEED: Final = 1


@dataclass(slots=True)
class Row:
    """One run of one scenario by one server; `error` is the reason why it has no figures."""

    scenario: str
    peer: str
    number: int
    figures: dict[str, float] = field(default_factory=dict)
    spent: dict[str, Any] = field(default_factory=dict)
    latencies: dict[str, Any] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    error: str = ""
    load_average: float = 0.0
    took_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Spread:
    """The median, minimum and maximum of several runs."""

    median: float
    low: float
    high: float
    count: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """The spread of at least one value."""
        return cls(statistics.median(values), min(values), max(values), len(values))


@dataclass(frozen=True, slots=True)
class Ratio:
    """The median ratio of runs made in alternation, and the middle 95 % of its bootstrap samples; for a single pair, its ratio."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, pairs: Iterable[tuple[float, float]]) -> Ratio | None:
        """The ratio from pairs (this hub, other server); None if no pair has a ratio."""
        ratios = [ours / theirs for ours, theirs in pairs if theirs]
        if not ratios:
            return None
        chance = random.Random(_SEED)
        draws = sorted(statistics.median(chance.choices(ratios, k=len(ratios))) for _ in range(_DRAWS))
        return cls(statistics.median(ratios), draws[int(_DRAWS * 0.025)], draws[int(_DRAWS * 0.975)])


def spread_of(rows: Iterable[Row], scenario: str, peer: str, figure: str) -> Spread | None:
    """The spread of one figure over all runs that have it."""
    values = [row.figures[figure] for row in _of(rows, scenario, peer) if figure in row.figures]
    return Spread.of(values) if values else None


def ratio_of(rows: Sequence[Row], scenario: str, peer: str, other: str, figure: str) -> Ratio | None:
    """The ratio of `peer` to `other` for one figure, over the rounds in which both have it."""
    ours, theirs = (_by_round(_of(rows, scenario, name), figure) for name in (peer, other))
    return Ratio.of((ours[number], theirs[number]) for number in sorted(ours.keys() & theirs.keys()))


def _by_round(rows: Iterable[Row], figure: str) -> Mapping[int, float]:
    return {row.number: row.figures[figure] for row in rows if figure in row.figures}


def _of(rows: Iterable[Row], scenario: str, peer: str) -> Iterable[Row]:
    return (row for row in rows if row.scenario == scenario and row.peer == peer)


def written(value: float) -> str:
    """A number rounded to three significant digits."""
    if value and abs(value) < 100:  # noqa: PLR2004
        return f"{value:.3g}" if abs(value) >= 0.01 else f"{value:.1e}"  # noqa: PLR2004
    return f"{value:,.0f}"
