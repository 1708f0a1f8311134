"""Figures of calm and attacked windows, with bootstrap intervals of their ratios. Pure except for random sampling.

The ratio of two 99th percentiles means little without an interval. So calm and attacked windows are resampled separately with
replacement, and the ratio is computed for each sample. Windows are resampled, not replies, because replies close in time share
the same disturbances.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

DRAWS: Final = 500
_SEED: Final = 1


def p99(values: list[float]) -> float:
    """The 99th percentile, interpolated linearly; 0 for an empty list."""
    ranked = sorted(values) or [0.0]
    below, share = divmod((len(ranked) - 1) * 99, 100)
    above = min(below + 1, len(ranked) - 1)
    return ranked[below] + (ranked[above] - ranked[below]) * share / 100


@dataclass(slots=True)
class Window:
    """One window: the reply times in milliseconds of the requests sent in it, and the node's load (1.0 is one core)."""

    is_attacked: bool
    from_s: float
    took_ms: list[float] = field(default_factory=list)
    busy: float = 0.0


class Windows:
    """All windows of a run.

    A reply belongs to the window in which its request was sent; requests sent between windows are not counted.
    """

    def __init__(self) -> None:
        self._all: list[Window] = []
        self._current: Window | None = None

    def open(self, is_attacked: bool, at_s: float) -> None:
        """Start a window."""
        self._current = Window(is_attacked, at_s)
        self._all.append(self._current)

    def close(self, busy: float) -> None:
        """End the window."""
        if self._current is not None:
            self._current.busy = busy
            self._current.took_ms.sort()  # sorted once, so that each bootstrap sample merges sorted lists
        self._current = None

    def add(self, sent_at_s: float, took_ms: float) -> None:
        """Record a reply."""
        if self._current is not None and sent_at_s >= self._current.from_s:
            self._current.took_ms.append(took_ms)

    def last_line(self) -> str:
        """The most recently closed window, as a line of text."""
        w = self._all[-1]
        p50 = statistics.median(w.took_ms or [0.0])
        kind = "attacked" if w.is_attacked else "calm    "
        return f"{kind} {len(w.took_ms):6} replies, p50 {p50:6.2f} ms, p99 {p99(w.took_ms):7.2f} ms, node {w.busy:4.0%} busy"

    def summary(self) -> list[str]:
        """The figures of the run: one line per kind, then the two ratios with the middle 95 % of their samples."""
        calm, attacked = self._kind(is_attacked=False), self._kind(is_attacked=True)
        lines = [_about("calm    ", calm), _about("attacked", attacked)]
        for name, figure in (("median of the windows' p99", median_p99), ("p99 of all replies", pooled_p99)):
            low, high = interval(calm, attacked, figure)
            ratio = figure(attacked) / figure(calm)
            lines.append(
                f"{name}: attacked / calm = {ratio:.3f} (95 % of draws {low:.3f} to {high:.3f}; wanted below 1.200)"
            )
        return lines

    def _kind(self, *, is_attacked: bool) -> list[Window]:
        return [window for window in self._all if window.is_attacked is is_attacked and window.took_ms]


def median_p99(windows: list[Window]) -> float:
    """The median of the windows' own p99; a single disturbed window does not change it much."""
    return statistics.median(p99(window.took_ms) for window in windows)


def pooled_p99(windows: list[Window]) -> float:
    """The p99 of all replies together; a single disturbed window can dominate it."""
    return p99([took_ms for window in windows for took_ms in window.took_ms])


def interval(
    calm: list[Window], attacked: list[Window], figure: Callable[[list[Window]], float]
) -> tuple[float, float]:
    """The middle 95 % of the ratio over resampled windows."""
    chance = random.Random(_SEED)
    ratios = sorted(
        figure(chance.choices(attacked, k=len(attacked))) / figure(chance.choices(calm, k=len(calm)))
        for _ in range(DRAWS)
    )
    return ratios[int(DRAWS * 0.025)], ratios[int(DRAWS * 0.975)]


def _about(kind: str, windows: list[Window]) -> str:
    replies = [took_ms for window in windows for took_ms in window.took_ms]
    busy = statistics.mean(window.busy for window in windows)
    return (
        f"{kind} {len(windows)} windows, {len(replies)} replies: p50 {statistics.median(replies):.2f} ms, median p99 "
        f"{median_p99(windows):.2f} ms, p99 {pooled_p99(windows):.2f} ms, node {busy:.1%} busy"
    )
