"""Generates `ops/reliability.md` from stored results: `hub torture --write-page`. All its figures come from them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

RESULTS: Final = Path(__file__).with_name("results")
PAGE: Final = Path(__file__).parents[1] / "reliability.md"
Json = dict[str, Any]
_NOT_TRIED: Final = (
    "Networks that are split between machines: everything runs on one, and proxies between the processes split it.",
    "S3: files go to the local folder.",
    "The archive and sealed payloads: no run has them. `tests/integration/test_archive_keeper.py` kills the keeper at every await.",
    "Flipped bits while people use the hub: `tests/fault/test_flipped_bits.py` flips them between two lives of a Redis.",
    "Clocks that are wrong by more than half a minute, and clocks of clients.",
    "A disk that lies about fdatasync, or loses what it had.",
    "More than some twenty people at a time: this is a search for what is wrong, not for how much goes through.",
)


def load(folder: Path = RESULTS) -> dict[str, list[Json]]:
    """The stored results by kind: `run`, `bug`, `power`, `found`."""
    found: dict[str, list[Json]] = {"run": [], "bug": [], "power": [], "found": []}
    for file in sorted(folder.glob("*.json")):
        value = json.loads(file.read_text(encoding="utf-8"))
        for one in value if isinstance(value, list) else [value]:
            found[file.stem.partition("-")[0]].append(one)
    return found


def page(results: dict[str, list[Json]]) -> str:
    """The page as Markdown."""
    parts = [
        "# Reliability",
        "",
        "What `hub torture` showed: people in two tenants use the hub through its sockets and HTTP while everything around it is",
        "broken; a checker that shares no code with it judges the recorded history. Written by `hub torture --write-page` from",
        "`ops/torture/results/`; change those, not this page.",
        "",
        *_runs(results["run"]),
        *_bugs(results["bug"]),
        *_power(results["power"]),
        *_found(results["found"]),
        "## What was not tried",
        "",
        *(f"- {line}" for line in _NOT_TRIED),
        "",
    ]
    return "\n".join(parts)


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    return [*lines, *(f"| {' | '.join(str(cell).replace('|', '/') for cell in row)} |" for row in rows), ""]


def _runs(runs: list[Json]) -> list[str]:
    looked: Counter[str] = Counter()
    told: Counter[str] = Counter()
    fired: Counter[str] = Counter()
    for run in runs:
        looked.update(run["verdict"].get("looked", {}))
        told.update(run["verdict"].get("told", {}))
        fired.update(run["fired"])
    rows = [
        (
            run["seed"],
            "Cluster" if run.get("is_cluster") else "Sentinels" if run["has_sentinels"] else "one server",
            f"{run['server']} ({run['version']})",
            f"{run['seconds']:g}",
            ", ".join(run["groups"]),
            f"{run['verdict'].get('looked', {}).get('commands', 0):,}",
            f"{run['verdict'].get('looked', {}).get('acknowledged', 0):,}",
            f"{run['verdict'].get('looked', {}).get('deliveries', 0):,}",
            sum(run["fired"].values()),
            f"{run['load']:g}" if "load" in run else "",
            "whole" if run["is_whole"] else run["error"] or ", ".join(w["kind"] for w in run["verdict"]["wrong"]),
        )
        for run in runs
    ]
    head = (
        "seed", "kept on", "server", "s of faults", "groups", "commands", "acknowledged", "deliveries", "faults", "load", "verdict",
    )  # fmt: skip # the head of a table
    summary = (
        f"{len(runs)} runs, {looked['commands']:,} commands, {looked['acknowledged']:,} acknowledged, "
        f"{looked['deliveries']:,} deliveries, {fired.total():,} faults of {len(fired)} kinds."
    )
    return [
        "## Runs",
        "",
        summary,
        "`load` is the machine's load average over a minute before or after the run, whichever is higher; it has 2 cores.",
        "",
        *_table(head, rows),
        "### Faults by kind",
        "",
        *_table(("fault", "fired"), sorted(fired.items())),
        "### Looked at",
        "",
        *_table(("compared", "times"), sorted((name, f"{count:,}") for name, count in looked.items())),
        "### Told, and allowed",
        "",
        *_table(("of", "times"), sorted((name, f"{count:,}") for name, count in told.items())),
        "### Times",
        "",
        "Milliseconds as clients saw them, faults included: the largest p50 and p99 of any run.",
        "",
        *_table(("time", "samples", "p50", "p99"), _times(runs)),
        f"Skipped: {', '.join(sorted({name for run in runs for name in run['skipped']})) or 'nothing'}.",
        "",
    ]


def _times(runs: list[Json]) -> list[tuple[object, ...]]:
    found: dict[str, list[Json]] = {}
    for run in runs:
        for name, times in run["verdict"].get("times_ms", {}).items():
            found.setdefault(name, []).append(times)
    return [
        (name, f"{sum(t['count'] for t in times):,}", max(t["p50"] for t in times), max(t["p99"] for t in times))
        for name, times in sorted(found.items())
    ]


def _bugs(bugs: list[Json]) -> list[str]:
    planted = [one for one in bugs if one["bug"]]
    clean = [one for one in bugs if not one["bug"]]
    caught = sum(one["is_right"] for one in planted)
    rows = [
        (
            one["bug"] + _mark(one),
            one["situation"],
            one["seed"],
            one["server"],
            one["said"][:160],
        )
        for one in planted
    ]
    missed = [(one["bug"], one["missed"]) for one in planted if one.get("missed")]
    quiet = [(one["situation"], one["seed"], one["server"], one["said"][:160]) for one in clean]
    return [
        "## Planted bugs",
        "",
        f"{caught} of {len(planted)} were named. Each is put into a copy of the tree (`ops/torture/bugs.toml`).",
        "Those with a \\* were in the issue that asked for the checker, before there was one; those with a † were written by",
        "somebody who had not read it.",
        "",
        *_table(("bug", "circumstances", "seed", "server", "what was said"), rows),
        *(["Not named at first:", "", *_table(("bug", "what was missing"), missed)] if missed else []),
        "The same seeds without a bug:",
        "",
        *_table(("circumstances", "seed", "server", "what was said"), quiet),
    ]


def _mark(bug: Json) -> str:
    return (" \\*" if bug["is_asked_for"] else "") + (" †" if bug.get("is_independent") else "")


def _power(power: list[Json]) -> list[str]:
    lines = ["## Loss of power", ""]
    for one in power:
        answered, syncs = f"{one['acknowledged']:,}", f"{one['syncs']:,}"
        sentence = (
            f"{answered} events acknowledged as `fsync` ({one['version'] or 'Redis'}, {syncs} syncs): cut at the last fdatasync "
            f"before each answer, {one['lost_count']:,} lost; {one['cut_in_fact']} times a Redis was started on the cut file."
        )
        lines += [sentence, ""]
    return [*lines, *([] if power else ["Not run.", ""])]


def _found(found: list[Json]) -> list[str]:
    rows = [(one["seed"], one["kind"], one["what"], one["mended"]) for one in found]
    return ["## What it found in the hub", "", *_table(("seed", "kind", "what", "mended"), rows)]


def write_page() -> Path:
    """Write the page; returns its path."""
    PAGE.write_text(page(load()), encoding="utf-8")
    return PAGE
