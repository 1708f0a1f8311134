"""Planted bugs: each is put into a copy of the code, and the checker must find it. The shipped code contains no switch for them.

A bug is a search text and a replacement in one or more files. A search text that is not found exactly once is an error, because
a bug that no longer applies proves nothing.
"""

from __future__ import annotations

import shutil
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ops.torture.run import Plan, Report, Torture, cluster_of

ROOT: Final = Path(__file__).parents[2]
_PACKAGES: Final = ("streams", "projections", "hub", "consumers", "ops")
BUGS_FILE: Final = Path(__file__).with_name("bugs.toml")


@dataclass(frozen=True, slots=True)
class Situation:
    """The conditions under which a bug shows: groups of faults, duration, and other options of the run."""

    name: str
    seed: int
    seconds: float
    groups: tuple[str, ...]
    has_sentinels: bool = False
    waits_for_presence: bool = False
    rate_per_s: float = 12.0

    def plan(self, server: str) -> Plan:
        """The plan of a run under these conditions."""
        return Plan(
            self.seed,
            server,
            self.seconds,
            self.groups,
            has_sentinels=self.has_sentinels,
            rate_per_s=self.rate_per_s,
            people=2,
            expects=("commands", "deliveries"),
            waits_for_presence=self.waits_for_presence,
        )


SITUATIONS: Final = {
    "links": Situation("links", 11, 8, ("link", "client")),
    "deaths": Situation("deaths", 12, 14, ("process", "client", "link")),
    "clients": Situation("clients", 17, 10, ("client",)),
    "stops": Situation("stops", 16, 15, ("stops",)),
    "presence": Situation("presence", 13, 10, ("process", "client"), waits_for_presence=True),
    "losses": Situation("losses", 14, 8, ("loss",)),
    "failovers": Situation("failovers", 15, 10, ("failover",), has_sentinels=True),
    "trims": Situation("trims", 19, 14, ("trims",)),
    "clocks": Situation("clocks", 2224, 12, ("clock",)),
}


@dataclass(frozen=True, slots=True)
class Bug:
    """A planted bug.

    Attributes:
        edits: (file, old text, new text).
        names: the kinds of fault, any of which identifies the bug.
        is_asked_for: the issue that requested the checker lists it.
        is_independent: written by a person who had not read the checker.
        missed: the reason why it was not found at first, and what was changed; "" if it was found.
    """

    name: str
    edits: tuple[tuple[str, str, str], ...]
    names: frozenset[str]
    situation: Situation
    is_asked_for: bool
    is_independent: bool
    missed: str


def read_bugs(path: Path = BUGS_FILE) -> list[Bug]:
    """Read all planted bugs."""
    found = tomllib.loads(path.read_text(encoding="utf-8"))["bug"]
    return [
        Bug(
            one["name"],
            tuple((edit["file"], edit["old"], edit["new"]) for edit in one["edit"]),
            frozenset(one["names"]),
            SITUATIONS[one["situation"]],
            one.get("is_asked_for", False),
            one.get("is_independent", False),
            one.get("missed", ""),
        )
        for one in found
    ]


class DoesNotApply(ValueError):
    """The search text of a bug is not in its file, or occurs more than once."""


def apply(bug: Bug, tree: Path) -> None:
    """Apply a bug to a copy of the code.

    Raises:
        DoesNotApply: the code has changed; the bug must be rewritten.
    """
    for name, old, new in bug.edits:
        file = tree / name
        text = file.read_text(encoding="utf-8") if file.exists() else ""
        if text.count(old) != 1:
            raise DoesNotApply(f"{bug.name}: {name} has its text {text.count(old)} times")
        file.write_text(text.replace(old, new), encoding="utf-8")


def copy_tree(to: Path) -> None:
    """Copy the code that nodes and workers run."""
    for package in _PACKAGES:
        shutil.copytree(ROOT / package, to / package, ignore=shutil.ignore_patterns("__pycache__"))


@dataclass(frozen=True, slots=True)
class Caught:
    """The result for a bug, or, if `bug` is None, of a run without one for comparison."""

    bug: Bug | None
    situation: Situation
    report: Report

    @property
    def is_right(self) -> bool:
        """True if the bug was found, or, without a bug, nothing was."""
        if self.bug is None:
            return self.report.is_whole
        return bool(self.bug.names & set(self.report.kinds))

    def to_json(self) -> dict[str, Any]:
        """The result as plain data, as it is stored."""
        first = next(
            (one for one in self.report.verdict.get("wrong", []) if self.bug and one["kind"] in self.bug.names), None
        )
        return {
            "bug": self.bug.name if self.bug else None,
            "is_asked_for": bool(self.bug and self.bug.is_asked_for),
            "is_independent": bool(self.bug and self.bug.is_independent),
            "missed": self.bug.missed if self.bug else "",
            "situation": self.situation.name,
            "seed": self.situation.seed,
            "server": self.report.plan.server,
            "is_right": self.is_right,
            "kinds": self.report.kinds,
            "said": f"{first['kind']}: {first['sentence']}" if first else self.report.sentence(),
        }


async def try_bug(
    planted: Bug | None, situation: Situation, server: str, binary: Path, folder: Path, tell: Callable[[str], None]
) -> Caught:
    """Carry out a run with the bug, or, if there is none, a run with the same seed and unchanged code."""
    tree = None
    if planted is not None:
        tree = folder / "tree"
        copy_tree(tree)
        apply(planted, tree)
    plan = situation.plan(server)
    attempt = Torture(plan, cluster_of(plan, binary, folder / "run", tree), tell)
    return Caught(planted, situation, await attempt.run())
