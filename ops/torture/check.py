"""Checks a recorded history: `python -m ops.torture.check FILE`. It needs no hub and no Redis; the file is its only input.

Exit code 0: no fault was found and everything the run was to exercise was checked. 1: faults, with the first case of each kind
and the records that prove it. 2: the file cannot be checked.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Final

from ops.torture.history import History
from ops.torture.rules.answers import judge_answers
from ops.torture.rules.files import judge_files
from ops.torture.rules.log import judge_log
from ops.torture.rules.presence import judge_presence
from ops.torture.rules.readers import judge_readers
from ops.torture.rules.runs import judge_runs
from ops.torture.rules.state import judge_state
from ops.torture.verdict import Verdict, shown

RULES: Final = (judge_log, judge_readers, judge_state, judge_runs, judge_presence, judge_files, judge_answers)


def judge(history: History) -> Verdict:
    """Check a history against all rules."""
    verdict = Verdict()
    for rule in RULES:
        rule(history, verdict)
    _unseen(history, verdict)
    return verdict


def _unseen(history: History, verdict: Verdict) -> None:
    """Report everything that the run was to exercise and did not: without it, the result would claim more than was checked."""
    for name in history.head.get("expects", []):
        if not verdict.looked[name]:
            verdict.add("nothing looked at", history.end_ms, f"the run has nothing of this kind: {name}", 0)
    if not history.of("end"):
        verdict.add("unfinished", history.end_ms, "the run ended before its end was recorded", 0)
    faults = {record["name"] for _, record in history.of("fault")}
    for name in history.head.get("faults", []):
        if name not in faults:
            verdict.add("fault never fired", history.end_ms, f"{name} was to happen and never did", 0)
    ends = {record["f"] for _, record in history.of("fault") if record["phase"] == "end"}
    for line, record in history.of("fault"):
        if record["phase"] == "begin" and record["f"] not in ends:
            verdict.add("fault never ended", record["t"], f"{record['name']} was begun and not ended", line)


def main(arguments: list[str]) -> int:
    """Run the command line: FILE, and `--json` for the verdict as JSON."""
    paths = [argument for argument in arguments if not argument.startswith("--")]
    if len(paths) != 1 or set(arguments) - {paths[0], "--json"}:
        print("usage: python -m ops.torture.check FILE [--json]", file=sys.stderr)
        return 2
    try:
        history = History.load(Path(paths[0]))
        if not history.of("head"):
            raise ValueError("it has no head: nothing was recorded")
        verdict = judge(history)
    except (OSError, ValueError, LookupError, TypeError) as error:
        print(f"{paths[0]} cannot be judged: {error!r}", file=sys.stderr)
        return 2
    if "--json" in arguments:
        print(json.dumps(verdict.to_json()))
    else:
        for wrong in verdict.firsts():
            print(shown(history.records, wrong))
        print(
            "WHOLE" if verdict.is_whole else f"BROKEN: {len(verdict.wrong)} violations of {len(verdict.firsts())} rules"
        )
        print(", ".join(f"{count:,} {name}" for name, count in sorted(verdict.looked.items())))
    return 0 if verdict.is_whole else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
