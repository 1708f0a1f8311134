"""Folds of agent runs: unfinished runs with their open questions, and the results of finished ones. Pure.

A run exists from its first `agent.status`, which is `queued`; an `agent.invoke` alone is only a request. The fold does not
check transitions: that was done when the event was appended.

A question is open until `tool.call.resolved`; an answer alone does not close it, because it may still be refused. The end of a
run also closes its questions, so none stays open after its worker is lost.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Final, TypeAlias

from pydantic import Field

from projections.projection import Dumped, Home, Lists, Projection, items_of, kind_of
from projections.recorded import Recorded, broken, number, text
from streams.channel import Kind
from streams.events.declaration import Payload
from streams.events.values import Count, Maybe, MessageId, RunId, Time
from streams.json_bytes import Json, JsonObject
from streams.run_states import FINAL_STATES, TRANSITIONS, RunState
from streams.times import rfc3339

RESULTS_MAX: Final = 20
"""Maximum number of outputs, and of finished runs, in the state of an agent channel (docs/protocol.md#state)."""
_FINISHED_MAX: Final = 100
"""Number of finished runs whose IDs are kept, so that a late status event does not make one appear unfinished."""


class ActiveRun(Payload):
    """An unfinished run."""

    run_id: RunId = Field(description="ID of the run.")
    agent: str = Field(description="Name of the agent that runs.")
    state: RunState = Field(description="The current state of the run.")
    attempt: Count = Field(description="The attempt, from 1: increased when a worker was lost.")
    segment: Count = Field(description="The segment, from 1: increased when the run continues after a wait.")
    message_id: Maybe[MessageId] = Field(
        None, description="ID of the newest message that the run wrote; absent if it has written none."
    )
    started_at: Time = Field(description="Time at which the run was accepted.")


class RunFields(Payload):
    """The fields of `ChannelState` for runs; only an agent's channel has `outputs` and `completed`."""

    active_runs: Maybe[list[ActiveRun]] = Field(
        None,
        description="The runs that have not ended, in the order of their start; only in a conversation or an agent's "
        "channel.",
    )
    outputs: Maybe[list[dict[str, object]]] = Field(
        None,
        description="The newest outputs, at most 20, oldest first: payloads of `agent.output`; only in an agent's "
        "channel.",
    )
    completed: Maybe[list[dict[str, object]]] = Field(
        None,
        description="The runs that ended last, at most 20, oldest first: payloads of `agent.complete`; only in an "
        "agent's channel.",
    )


class RequestFields(Payload):
    """The field of `ChannelState` for open questions."""

    pending_requests: Maybe[list[dict[str, object]]] = Field(
        None,
        description="The requests without an answer: payloads of `tool.call.request`; only in a conversation or an "
        "agent's channel.",
    )


@dataclass(slots=True)
class Run:
    """An unfinished run. `message_id` is the ID of its latest answer."""

    run_id: str
    agent: str
    state: str
    attempt: int
    segment: int
    message_id: str | None
    started_at: str

    def render(self) -> JsonObject:
        """The run as shown in the state."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(slots=True)
class AgentRuns:
    """The runs of one channel. Only agent channels show results, so only they store them."""

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


def _complete_run(state: AgentRuns, event: Recorded) -> None:
    run_id = text(event, "run_id")
    state.active.pop(run_id, None)
    _keep(state.finished, run_id, _FINISHED_MAX)
    if state.has_results:
        _keep(state.completed, event.item(), RESULTS_MAX)


def _keep(newest: list[Any], item: object, count: int) -> None:
    """Append to a list that keeps only its newest `count` items."""
    newest.append(item)
    del newest[:-count]


def _render_runs(state: AgentRuns) -> JsonObject:
    return {"active_runs": [run.render() for run in state.active.values()]}


def _lists(state: AgentRuns) -> Lists:
    return {"outputs": items_of(state.outputs), "completed": items_of(state.completed)} if state.has_results else {}


def _dump_runs(state: AgentRuns) -> Json:
    runs: list[Json] = [asdict(run) for run in state.active.values()]
    finished: list[Json] = [*state.finished]
    return {"active": runs, "finished": finished, "outputs": [*state.outputs], "completed": [*state.completed]}


def _initial_runs(home: Home) -> AgentRuns:
    return AgentRuns(kind_of(home) is Kind.AGENT)


def _load_runs(home: Home, value: Dumped) -> AgentRuns:
    active = {run["run_id"]: Run(**run) for run in value["active"]}
    return AgentRuns(kind_of(home) is Kind.AGENT, active, value["finished"], value["outputs"], value["completed"])


AGENT_RUNS: Final = Projection(
    name="agent_runs",
    version=1,
    model=RunFields,
    initial=_initial_runs,
    handlers={
        "agent.status": _status,
        "agent.output": _output,
        "agent.complete": _complete_run,
        "assistant.message.start": _start,
    },
    render=_render_runs,
    dump=_dump_runs,
    load=_load_runs,
    lists=_lists,
)
"""The fold that provides `active_runs` of conversations and agents, and `outputs` and `completed` of agents."""


Requests: TypeAlias = dict[str, JsonObject]
"""Payloads of open requests by `request_id`, in order of arrival."""


def _request(state: Requests, event: Recorded) -> None:
    request_id, _ = text(event, "request_id"), text(event, "run_id")
    state[request_id] = event.payload


def _resolved(state: Requests, event: Recorded) -> None:
    state.pop(text(event, "request_id"), None)


def _complete_requests(state: Requests, event: Recorded) -> None:
    run_id = text(event, "run_id")
    for request_id in [name for name, asked in state.items() if asked.get("run_id") == run_id]:
        del state[request_id]


def _no_requests(_home: Home) -> Requests:
    return {}


def _render_requests(state: Requests) -> JsonObject:
    return {"pending_requests": [*state.values()]}


def _dump_requests(state: Requests) -> Json:
    return [*state.values()]


def _load_requests(_home: Home, value: Dumped) -> Requests:
    return {asked["request_id"]: asked for asked in value}


PENDING_REQUESTS: Final = Projection(
    name="pending_requests",
    version=1,
    model=RequestFields,
    initial=_no_requests,
    handlers={"tool.call.request": _request, "tool.call.resolved": _resolved, "agent.complete": _complete_requests},
    render=_render_requests,
    dump=_dump_requests,
    load=_load_requests,
)
"""The fold that provides `pending_requests` of conversations and agents."""
