"""What one run of the torture does, and what it found. Pure."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

Seen = tuple[int, str, bytes]
"""An event as a client saw it, or as the stream holds it: seq, id, the exact bytes."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How hard to try.

    Attributes:
        seconds: how long faults go on; then everybody may catch up.
        cut_every_s: mean time between two cuts of one client.
        kill_every_s: time between two SIGKILLs of a node (each in turn); 0 kills none.
        redis_kill_every_s: time between two SIGKILLs of Redis itself; 0 kills it never.
        settle_s: how long clients may take to reach the head at the end.
        seed: of every random choice.
    """

    seconds: float = 20.0
    clients: int = 50
    nodes: int = 2
    cut_every_s: float = 1.0
    kill_every_s: float = 5.0
    redis_kill_every_s: float = 0.0
    settle_s: float = 30.0
    seed: int = 0


@dataclass(slots=True)
class Fault:
    """One client whose list differs from its stream."""

    client: int
    channel: str
    at: int
    problem: str


@dataclass(slots=True)
class Report:
    """What happened. `faults` is empty when the promise held."""

    plan: Plan
    events_stored: int = 0
    events_checked: int = 0
    cuts: int = 0
    node_kills: int = 0
    redis_kills: int = 0
    resumes: int = 0
    seconds: float = 0.0
    faults: list[Fault] = field(default_factory=list)

    @property
    def is_whole(self) -> bool:
        """Whether every client's list equals its stream, and there was something to compare."""
        return not self.faults and self.events_checked > 0

    def to_json(self) -> dict[str, Any]:
        """The report as plain data."""
        return asdict(self) | {"is_whole": self.is_whole}


def compare(client: int, channel: str, seen: list[Seen], stored: list[Seen]) -> list[Fault]:
    """Where a client's list first differs from the stream: missing, twice, out of order, or other bytes."""
    for at, (mine, true) in enumerate(zip(seen, stored, strict=False)):
        if mine == true:
            continue
        if mine[0] == true[0]:
            return [Fault(client, channel, at, f"seq {true[0]} has other bytes or another id")]
        kind = "a gap" if mine[0] > true[0] else "a duplicate or reordering"
        return [Fault(client, channel, at, f"{kind}: seq {mine[0]} where {true[0]} belongs")]
    if len(seen) != len(stored):
        return [Fault(client, channel, min(len(seen), len(stored)), f"{len(seen)} events seen, {len(stored)} stored")]
    return []
