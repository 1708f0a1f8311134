"""Agent runs: which are under way, what the finished ones brought. Pure.

Runs are counted from their first `agent.status`, which is `queued`; an `agent.invoke` alone is a wish. What a transition
is allowed to be was settled when it was appended; the fold shows what the log says.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Final

from projections.fields import broken, number, text
from projections.projection import Dumped, DurableProjection, Home, kind_of
from projections.recorded import Recorded
from streams.channel import Kind
from streams.json_bytes import Json, JsonObject
from streams.run_states import FINAL_STATES, TRANSITIONS
from streams.times import rfc3339

RESULTS_MAX: Final = 20
"""Outputs, and finished runs, that an agent channel shows (EVENTS 11)."""
_FINISHED_MAX: Final = 100
"""Finished runs remembered by ID, so that a status which comes late does not bring one back."""


@dataclass(slots=True)
class Run:
    """A run that is not final. `message_id` is the answer it writes or wrote last."""

    run_id: str
    agent: str
    state: str
    attempt: int
    segment: int
    message_id: str | None
    started_at: str

    def render(self) -> JsonObject:
        """The run as EVENTS 11 shows it."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(slots=True)
class AgentRuns:
    """Runs of one channel. Only agent channels show results, so only they hold them."""

    has_results: bool
    active: dict[str, Run] = field(default_factory=dict)
    finished: list[str] = field(default_factory=list)
    outputs: list[JsonObject] = field(default_factory=list)
    completed: list[JsonObject] = field(default_factory=list)


def _status(state: AgentRuns, event: Recorded) -> None:
    run_id, agent, now = text(event, "run_id"), text(event, "agent"), text(event, "state")
    attempt, segment = number(event, "attempt"), number(event, "segment")
    if now not in TRANSITIONS:
        raise broken(event, "state must be a state of a run")
    held = state.active.get(run_id)
    if now in FINAL_STATES or run_id in state.finished:
        state.active.pop(run_id, None)
    elif held is None:
        started_at = rfc3339(event.at_ms)
        state.active[run_id] = Run(run_id, agent, now, attempt, segment, None, started_at)
    else:
        held.agent, held.state, held.attempt, held.segment = agent, now, attempt, segment


def _start(state: AgentRuns, event: Recorded) -> None:
    run_id, message_id = text(event, "run_id"), text(event, "message_id")
    if run_id in state.active:
        state.active[run_id].message_id = message_id


def _output(state: AgentRuns, event: Recorded) -> None:
    if state.has_results:
        _keep(state.outputs, event.item(), RESULTS_MAX)


def _complete(state: AgentRuns, event: Recorded) -> None:
    run_id = text(event, "run_id")
    state.active.pop(run_id, None)
    _keep(state.finished, run_id, _FINISHED_MAX)
    if state.has_results:
        _keep(state.completed, event.item(), RESULTS_MAX)


def _keep(newest: list[Any], item: object, count: int) -> None:
    """Add to a list that holds only the newest."""
    newest.append(item)
    del newest[:-count]


def _render(state: AgentRuns) -> JsonObject:
    shown: JsonObject = {"active_runs": [run.render() for run in state.active.values()]}
    if state.has_results:
        shown |= {"outputs": [*state.outputs], "completed": [*state.completed]}
    return shown


def _dump(state: AgentRuns) -> Json:
    runs: list[Json] = [asdict(run) for run in state.active.values()]
    finished: list[Json] = [*state.finished]
    return {"active": runs, "finished": finished, "outputs": [*state.outputs], "completed": [*state.completed]}


def _initial(home: Home) -> AgentRuns:
    return AgentRuns(kind_of(home) is Kind.AGENT)


def _load(home: Home, value: Dumped) -> AgentRuns:
    active = {run["run_id"]: Run(**run) for run in value["active"]}
    return AgentRuns(kind_of(home) is Kind.AGENT, active, value["finished"], value["outputs"], value["completed"])


AGENT_RUNS: Final = DurableProjection(
    name="agent_runs",
    version=1,
    initial=_initial,
    handlers={
        "agent.status": _status, "agent.output": _output, "agent.complete": _complete,
        "assistant.message.start": _start,
    },
    render=_render,
    dump=_dump,
    load=_load,
)  # fmt: skip
"""`active_runs` of conversations and agents; `outputs` and `completed` of agents."""
