"""The events that close a run, and the decision whether a run continues after its worker was lost. Pure.

Worker, handler and reaper compute them from the same journal with the same keys, so each event is written once, by whichever
comes first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, NamedTuple, TypeAlias

from consumers.runs.journal import Journal
from consumers.runs.storable import storable_text
from streams.channel import Channel
from streams.envelope import Guard, OpenText
from streams.json_bytes import Json, JsonObject
from streams.records.runs import RunView, home_guard_name, request_guard_name
from streams.run_states import OUTCOMES, sources

Outcome = Literal["success", "cancelled", "failed", "expired"]
Pairs = tuple[tuple[str, str], ...]
ATTEMPTS_MAX: Final = 2
"""Maximum number of workers that a run may lose. A run that has killed two is likely to kill a third."""


@dataclass(frozen=True, slots=True)
class RunChange:
    """The change that an event makes to its run's hash, in the script that appends it.

    Attributes:
        states: the states in which the run may be; if empty, any.
        sets: fields to write.
        increments: fields to raise by one.
        checks: further conditions.
        guards: guards on other hashes.
    """

    states: tuple[str, ...] = ()
    sets: Pairs = ()
    increments: tuple[str, ...] = ()
    checks: tuple[tuple[str, str, str], ...] = ()
    guards: tuple[Guard, ...] = ()


NO_CHANGE = RunChange()


class Planned(NamedTuple):
    """An event to append, with its key within the run."""

    type: str
    payload: JsonObject
    key: str
    change: RunChange
    open_text: OpenText | None = None


@dataclass(frozen=True, slots=True)
class RunEnding:
    """The end of a run.

    Attributes:
        tool_reason: the reason given in the errors of calls that are still open.
        failure: the catalogue's `Failure`, if the run failed.
        text, reasoning: the text so far of the message that is still open.
    """

    outcome: Outcome
    duration_ms: int
    tool_reason: Literal["cancelled", "worker_lost", "timeout", "failed"] = "cancelled"
    failure: JsonObject | None = None
    text: str = ""
    reasoning: str = ""
    result: Json = None
    reason: str = ""


def failure(code: str, message: str, *, is_retryable: bool) -> JsonObject:
    """Build the catalogue's `Failure`."""
    return {"code": storable_text(code, 64), "message": storable_text(message, 2000), "retryable": is_retryable}


def closing(channel: Channel, journal: Journal, run: RunView, ending: RunEnding) -> list[Planned]:
    """The events missing at a run's end: errors of open calls, resolutions, the message's end, and last `agent.complete`."""
    planned = [_call_error(journal.run_id, call.tool_call_id, ending) for call in journal.open_calls]
    planned += [
        _resolved(channel, journal.run_id, request.request_id, request.tool_call_id, ending)
        for request in journal.open_requests
    ]
    if (message := journal.open_message) is not None:
        planned.append(_end(journal, message.message_id, run, ending))
    return [*planned, _complete(channel, journal, run, ending)]


def _call_error(run_id: str, call_id: str, ending: RunEnding) -> Planned:
    payload: JsonObject = {
        "tool_call_id": call_id,
        "run_id": run_id,
        "reason": ending.tool_reason,
        "message": _TOOL_TEXTS[ending.tool_reason],
        "retryable": ending.tool_reason in {"worker_lost", "timeout"},
    }
    return Planned("tool.call.error", payload, f"result/{call_id}", RunChange())


def _resolved(channel: Channel, run_id: str, request_id: str, call_id: str | None, ending: RunEnding) -> Planned:
    resolution = "expired" if ending.outcome == "expired" else "cancelled"
    payload: JsonObject = {"request_id": request_id, "run_id": run_id, "resolution": resolution, "edited": False}
    if call_id is not None:
        payload["tool_call_id"] = call_id
    guard = Guard(request_guard_name(channel, request_id), sets=(("state", resolution),))
    return Planned("tool.call.resolved", payload, f"resolved/{request_id}", RunChange(guards=(guard,)))


def _end(journal: Journal, message_id: str, run: RunView, ending: RunEnding) -> Planned:
    finish = {"success": "stop", "cancelled": "cancelled"}.get(ending.outcome, "error")
    payload: JsonObject = {
        "message_id": message_id,
        "run_id": run.run_id,
        "attempt": run.attempt,
        "finish_reason": finish,
        "text": ending.text,
    }
    if ending.reasoning:
        payload["reasoning"] = ending.reasoning
    if ending.failure is not None:
        payload["error"] = ending.failure
    number = len(journal.messages) - 1
    return Planned(
        "assistant.message.end", payload, f"end/{number}", RunChange(), OpenText(message_id, run.run_id, run.attempt)
    )


def _complete(channel: Channel, journal: Journal, run: RunView, ending: RunEnding) -> Planned:
    payload: JsonObject = {
        "run_id": run.run_id,
        "agent": run.agent,
        "outcome": ending.outcome,
        "message_ids": journal.message_ids,
        "duration_ms": ending.duration_ms,
        "attempts": run.attempt,
    }
    if ending.result is not None:
        payload["result"] = ending.result
    if journal.usage:
        payload["usage"] = journal.usage
    if ending.failure is not None:
        payload["error"] = ending.failure
    state = OUTCOMES[ending.outcome]
    home = Guard(home_guard_name(channel), decrements=("open",))
    change = RunChange(states=sources(state), sets=(("state", state), ("holder", ""), ("settings", "")), guards=(home,))
    return Planned("agent.complete", payload, "complete", change)


_TOOL_TEXTS = {
    "cancelled": "the run was stopped before the call ended",
    "worker_lost": "the worker was lost while the call was running; it is not known whether the call took effect",
    "timeout": "the run reached its deadline before the call ended",
    "failed": "the run failed before the call ended",
}


@dataclass(frozen=True, slots=True)
class Again:
    """The verdict that a new attempt continues after the last recorded step."""


@dataclass(frozen=True, slots=True)
class Lost:
    """The verdict that the run cannot continue; a user may start another one."""

    message: str


Verdict: TypeAlias = Again | Lost


def judge(journal: Journal, losses: int) -> Verdict:
    """Decide whether the run may continue. `losses` counts the current worker if it was lost, but not if it handed the run over."""
    for call in journal.open_calls:
        if not (call.is_idempotent or call.executor in {"client", "human"} or _is_asked(journal, call.tool_call_id)):
            return Lost(f"the worker was lost while the tool {call.name} was running, which must not be repeated")
    if losses >= ATTEMPTS_MAX:
        return Lost(f"{losses} workers were lost with this run")
    return Again()


def requeue(run: RunView, now_ms: int, *, is_loss: bool) -> RunChange:
    """The change that `agent.status queued`, with which a new attempt begins, makes to the run's hash."""
    sets = (("state", "queued"), ("attempt", str(run.attempt + 1)), ("holder", ""), ("since_ms", str(now_ms)))
    increments = ("losses",) if is_loss else ()
    return RunChange(("running",), sets, increments, checks=(("attempt", "eq", str(run.attempt)),))


def _is_asked(journal: Journal, call_id: str) -> bool:
    """True while a question about the call is open, in which case the call has not begun."""
    requests = [request for request in journal.requests.values() if request.tool_call_id == call_id]
    return bool(requests) and any(request.resolution is None for request in requests)
