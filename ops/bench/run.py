"""Runs the scenarios in rounds over all servers, each run with new processes, and reports every run to an observer."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from ops.bench.generator import GeneratorFailed
from ops.bench.peers.peer import Peer, PeerMissing
from ops.bench.processes import allow_many_files, commit, machine
from ops.bench.scenarios.scenario import Scenario
from ops.bench.setup import loaded, started
from ops.bench.sizes import Sizes
from ops.bench.summary import Row
from ops.children import ChildFailed
from streams.errors import LogUnavailable


@dataclass(frozen=True, slots=True)
class BenchPlan:
    """The scenarios, servers and sizes to run."""

    scenarios: Sequence[Scenario]
    peers: Sequence[Peer]
    sizes: Sizes
    rounds: int
    tools: Path
    is_persistent: bool = True


@dataclass(slots=True)
class Comparison:
    """All results, in the form in which they are written to a file."""

    plan: BenchPlan
    at: str
    machine: str
    commit: str
    rows: list[Row] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)

    def to_json(self) -> str:
        """The results as a JSON document."""
        scenarios, peers = self.plan.scenarios, self.plan.peers
        document = {
            "at": self.at,
            "machine": self.machine,
            "commit": self.commit,
            "persistence": "append-only file, fsync every second" if self.plan.is_persistent else "none",
            "rounds": self.plan.rounds,
            "sizes": dataclasses.asdict(self.plan.sizes),
            "scenarios": {
                one.name: {"text": one.text, "figures": [dataclasses.asdict(f) for f in one.figures]}
                for one in scenarios
            },
            "peers": {one.name: {"title": one.title, "keeps": one.keeps, "lacks": one.lacks} for one in peers},
            "skipped": self.skipped,
            "rows": [dataclasses.asdict(row) for row in self.rows],
        }
        return json.dumps(document, indent=1)


class RunObserver(Protocol):
    """Receives the progress and the results of the runs."""

    def progress(self, text: str) -> None:
        """Report the current step, which replaces the previous one."""

    def row(self, row: Row, result: Comparison) -> None:
        """Report a completed run."""


async def run(plan: BenchPlan, listener: RunObserver) -> Comparison:
    """Install the servers, then run the rounds: each scenario on all servers, in reverse order every second round."""
    allow_many_files()
    result = Comparison(plan, time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), machine(), commit())
    peers = [peer for peer in plan.peers if await _is_installed(peer, plan.tools, result, listener)]
    for number in range(plan.rounds):
        for scenario in plan.scenarios:
            for peer in peers if number % 2 == 0 else peers[::-1]:
                if _fits(scenario, peer):
                    row = await _once(plan, scenario, peer, number, listener.progress)
                    result.rows.append(row)
                    listener.row(row, result)
    return result


async def _is_installed(peer: Peer, tools: Path, result: Comparison, listener: RunObserver) -> bool:
    listener.progress(f"installing {peer.title}")
    try:
        await asyncio.to_thread(peer.install, tools)
    except PeerMissing as missing:
        result.skipped[peer.name] = str(missing)
        return False
    return True


def _fits(scenario: Scenario, peer: Peer) -> bool:
    return (
        (peer.resumes or not scenario.needs_resume)
        and scenario.nodes <= peer.nodes_max
        and (peer.name == "hub" or not scenario.is_ours)
    )


async def _once(plan: BenchPlan, scenario: Scenario, peer: Peer, number: int, tell: Callable[[str], None]) -> Row:
    row, began_s = Row(scenario.name, peer.name, number), time.monotonic()

    def progress(text: str) -> None:
        tell(f"round {number + 1} of {plan.rounds}, {scenario.name}, {peer.title}: {text}")

    try:
        progress("starting")
        async with (
            started(
                peer,
                plan.tools,
                nodes=scenario.nodes,
                workers=scenario.workers,
                is_pinned=scenario.is_pinned,
                is_persistent=plan.is_persistent,
                has_limits=scenario.has_limits,
                has_archive=scenario.has_archive,
            ) as servers,
            loaded(servers, scenario.users(plan.sizes), progress) as ready,
        ):
            found = await scenario.run(ready, plan.sizes)
            row = dataclasses.replace(
                row,
                figures={name: float(value) for name, value in found.figures.items()},
                spent=dataclasses.asdict(found.spent),
                latencies={name: dataclasses.asdict(one) for name, one in found.latencies.items()},
                faults=found.faults,
                problems=ready.problems,
            )
    except (GeneratorFailed, ChildFailed, LogUnavailable, PeerMissing, OSError) as failed:
        row = dataclasses.replace(row, error=str(failed))
    return dataclasses.replace(row, load_average=os.getloadavg()[0], took_s=time.monotonic() - began_s)
