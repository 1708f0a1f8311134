"""What becomes of a run whose worker is gone, by what it was at (NOTES 3). Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeAlias

from consumers.runs.change import Change
from consumers.runs.journal import Journal
from streams.records.runs import RunView

ATTEMPTS_MAX: Final = 2
"""Workers a run may use up. A run that killed two is likely to kill the third."""


@dataclass(frozen=True, slots=True)
class Again:
    """A new attempt goes on after the last mark."""


@dataclass(frozen=True, slots=True)
class Lost:
    """It cannot go on; a person may ask again."""

    message: str


Verdict: TypeAlias = Again | Lost


def judge(journal: Journal, losses: int) -> Verdict:
    """Whether the run may go on. `losses` counts this worker too, where it was lost and did not hand over."""
    for call in journal.open_calls:
        if not (call.is_idempotent or call.executor in {"client", "human"} or _is_asked(journal, call.tool_call_id)):
            return Lost(f"the worker was lost while the tool {call.name} was running, which may not be repeated")
    if losses >= ATTEMPTS_MAX:
        return Lost(f"{losses} workers were lost with this run")
    return Again()


def requeue(run: RunView, now_ms: int, *, is_loss: bool) -> Change:
    """What `agent.status queued` of a new attempt does to the run's hash."""
    sets = (("state", "queued"), ("attempt", str(run.attempt + 1)), ("holder", ""), ("since_ms", str(now_ms)))
    increments = ("losses",) if is_loss else ()
    return Change(("running",), sets, increments, checks=(("attempt", "eq", str(run.attempt)),))


def _is_asked(journal: Journal, call_id: str) -> bool:
    """Whether the call was still waiting for people: then it has not begun."""
    requests = [request for request in journal.requests.values() if request.tool_call_id == call_id]
    return bool(requests) and any(request.resolution is None for request in requests)
