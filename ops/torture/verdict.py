"""The checker's result: the faults found, and the number of comparisons made. Pure."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

SHOWN_CHARACTERS: Final = 400
"""Maximum length of a record when it is printed."""


@dataclass(frozen=True, slots=True)
class Wrong:
    """A fault that the checker found.

    Attributes:
        kind: one or two words, the same for every case of the kind.
        t: the time at which it showed, in milliseconds.
        sentence: a description of the case.
        lines: positions in the list of records that prove it.
    """

    kind: str
    t: float
    sentence: str
    lines: tuple[int, ...]


@dataclass(slots=True)
class Verdict:
    """All faults found, and the number of comparisons of each kind."""

    wrong: list[Wrong] = field(default_factory=list)
    looked: Counter[str] = field(default_factory=Counter)
    told: Counter[str] = field(default_factory=Counter)
    samples_ms: dict[str, list[float]] = field(default_factory=dict)

    def add(self, kind: str, t: float, sentence: str, *lines: int) -> None:
        """Add a fault."""
        self.wrong.append(Wrong(kind, t, sentence, tuple(sorted(set(lines)))))

    def look(self, name: str, count: int = 1) -> None:
        """Count comparisons of a kind."""
        self.looked[name] += count

    def tell(self, name: str, count: int = 1) -> None:
        """Count a permitted event that is worth reporting."""
        self.told[name] += count

    def sample(self, name: str, ms: float) -> None:
        """Record a measured time."""
        self.samples_ms.setdefault(name, []).append(ms)

    @property
    def is_whole(self) -> bool:
        """True if no fault was found. Whether enough was checked is decided in `check`, which knows what was expected."""
        return not self.wrong

    def firsts(self) -> list[Wrong]:
        """The first case of each kind, by time."""
        found: dict[str, Wrong] = {}
        for wrong in sorted(self.wrong, key=lambda wrong: wrong.t):
            found.setdefault(wrong.kind, wrong)
        return list(found.values())

    def to_json(self) -> dict[str, Any]:
        """The verdict as plain data."""
        kinds = Counter(wrong.kind for wrong in self.wrong)
        return {
            "is_whole": self.is_whole,
            "wrong": [
                {"kind": wrong.kind, "t": wrong.t, "sentence": wrong.sentence, "count": kinds[wrong.kind]}
                for wrong in self.firsts()
            ],
            "looked": dict(self.looked),
            "told": dict(self.told),
            "times_ms": {name: percentiles(found) for name, found in self.samples_ms.items()},
        }


def percentiles(samples: Sequence[float]) -> dict[str, float]:
    """The number of samples, their median, 99th percentile and maximum."""
    ordered = sorted(samples)
    last = len(ordered) - 1
    return {
        "count": len(ordered),
        "p50": round(ordered[last // 2], 1),
        "p99": round(ordered[last * 99 // 100], 1),
        "max": round(ordered[last], 1),
    }


def shown(records: Sequence[dict[str, Any]], wrong: Wrong) -> str:
    """The case with the records that prove it, one per line, each with the time since the start of the run."""
    begun = float(records[0]["t"]) if records else 0.0
    lines = [f"{wrong.kind}: {wrong.sentence}"]
    for line in wrong.lines:
        record = {name: value for name, value in records[line].items() if name != "t"}
        text = json.dumps(record, ensure_ascii=False)
        text = text if len(text) <= SHOWN_CHARACTERS else text[:SHOWN_CHARACTERS] + "…"
        lines.append(f"  {(records[line]['t'] - begun) / 1000:9.3f} s  line {line + 1}  {text}")
    return "\n".join(lines)
