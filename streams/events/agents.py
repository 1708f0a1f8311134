"""The payloads of agent.* (docs/events.md#agent): runs, their states, outputs and ends. Pure."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Literal

from pydantic import Field, model_validator

from streams.channel import Kind
from streams.envelope import Lane
from streams.events.chat import Writing
from streams.events.declaration import NO_CHANNEL, Action, Direction, EventType, Payload, broken
from streams.events.json_limits import check_patch
from streams.events.values import (
    Count,
    Failure,
    FileId,
    InParts,
    Json16K,
    Json64K,
    Json256K,
    Maybe,
    MessageId,
    Meta,
    ModelSettings,
    Name,
    OnBusy,
    RequestId,
    RunId,
    Text128,
    Text200,
    Text500,
    Text1000,
    Text4000,
    TextOrJson64K,
    ToolCallId,
    Usage,
)
from streams.run_states import RunState

OUTPUT_PATCH_MAX_BYTES = 65_536


class ContextItem(Payload):
    """Context for the agent: it is passed as data, never as instructions."""

    description: Text200
    value: Text4000


class ClientTool(Payload):
    """A tool that the client executes, with the JSON Schema of its arguments."""

    name: Text128
    description: Text1000
    parameters: Json16K


class AgentInvoke(Payload):
    """Starts a run. On a conversation `agent` names the agent to run; on an agent's channel that agent runs."""

    agent: Maybe[Name] = None
    input: TextOrJson64K
    parts: Maybe[InParts] = None
    run_id: Maybe[RunId] = None
    context: Maybe[Annotated[list[ContextItem], Field(max_length=16)]] = None
    client_tools: Maybe[Annotated[list[ClientTool], Field(max_length=32)]] = None
    settings: Maybe[ModelSettings] = None
    deadline_ms: Maybe[Annotated[int, Field(ge=1000, le=86_400_000)]] = None
    on_busy: Maybe[OnBusy] = None
    metadata: Maybe[Meta] = None


class Step(Payload):
    """The current step of a run."""

    name: Text128
    index: Maybe[Count] = None
    total: Maybe[Count] = None


class AgentStatus(Payload):
    """The state that a run has entered."""

    run_id: RunId
    agent: Name
    state: RunState
    previous: Maybe[RunState] = None
    attempt: Count
    segment: Count
    step: Maybe[Step] = None
    reason: Maybe[Text500] = None
    pending_requests: Maybe[list[RequestId]] = None


class AgentOutput(Payload):
    """One output of a run; `index` counts up without gaps."""

    run_id: RunId
    index: Count
    kind: Literal["text", "json", "artifact", "log", "state_snapshot", "state_delta", "custom"]
    name: Maybe[Text128] = None
    value: Maybe[Json64K] = None
    ref: Maybe[FileId] = None

    @model_validator(mode="after")
    def _one_value(self) -> AgentOutput:
        if len({"value", "ref"} & self.model_fields_set) != 1:
            raise broken("must have either value or ref")
        if self.kind == "state_delta" and self.ref is None:
            check_patch(self.value, OUTPUT_PATCH_MAX_BYTES)
        return self


class AgentComplete(Payload):
    """The end of a run; no event of the run follows."""

    run_id: RunId
    agent: Name
    outcome: Literal["success", "cancelled", "failed", "expired"]
    result: Maybe[Json256K] = None
    result_ref: Maybe[FileId] = None
    message_ids: list[MessageId]
    usage: Maybe[list[Usage]] = None
    duration_ms: Count
    attempts: Count
    error: Maybe[Failure] = None

    @model_validator(mode="after")
    def _one_result(self) -> AgentComplete:
        if {"result", "result_ref"} <= self.model_fields_set:
            raise broken("must have result or result_ref, not both")
        return self


class AgentCancel(Payload):
    """Stops a run: after its current step (`graceful`) or at once (`force`)."""

    run_id: RunId
    mode: Literal["graceful", "force"] = "graceful"
    reason: Maybe[Text200] = None


class AgentSteer(Writing):
    """A message to a run in progress, delivered as soon as the run can accept it (`asap`) or once it is idle."""

    run_id: RunId
    when: Literal["asap", "idle"] = "asap"


class AgentSubagent(Payload):
    """The start or end of a run that this run started."""

    run_id: RunId
    subagent_run_id: RunId
    phase: Literal["started", "finished", "failed", "suspended"]
    name: Name
    parent_tool_call_id: Maybe[ToolCallId] = None
    result: Maybe[Json16K] = None


class AgentListQuestion(Payload):
    """Asks for the list of agents; the payload is empty."""


class AgentInfo(Payload):
    """An agent that the caller may invoke."""

    name: Name
    description: Text500
    available: bool
    interactive: bool


class AgentListAnswer(Payload):
    """The agents that the caller may invoke."""

    agents: list[AgentInfo]


_row = partial(EventType, lane=Lane.EVENTS, kinds=frozenset({Kind.CONVERSATION, Kind.AGENT}))
_from_hub = partial(_row, direction=Direction.OUT)
_command = partial(_row, direction=Direction.BOTH, reply="ack", action=Action.INVOKE, is_wanted=True)

EVENTS: tuple[EventType, ...] = (
    _command(
        name="agent.invoke",
        model=AgentInvoke,
        results=("run_id", "channel"),
        rate="agent",
        errors=(4007, 4018, 4021, 4024),
        ag_ui="RunAgentInput",
        summary="Starts a run.",
    ),
    _from_hub(
        name="agent.status",
        model=AgentStatus,
        ag_ui="RUN_STARTED, STEP_STARTED, STEP_FINISHED",
        summary="A run entered a state.",
    ),
    _from_hub(
        name="agent.output",
        model=AgentOutput,
        summary="An output of a run.",
        ag_ui="STATE_SNAPSHOT, STATE_DELTA, ACTIVITY_SNAPSHOT, ACTIVITY_DELTA, CUSTOM",
    ),
    _from_hub(name="agent.complete", model=AgentComplete, ag_ui="RUN_FINISHED, RUN_ERROR", summary="A run ended."),
    _command(
        name="agent.cancel",
        model=AgentCancel,
        results=("run_id", "state"),
        rate="command",
        errors=(4018, 4021),
        ag_ui="abort",
        summary="Stops a run.",
    ),
    _command(
        name="agent.steer",
        model=AgentSteer,
        results=("disposition",),
        rate="chat",
        errors=(4018, 4021),
        summary="A message to a run in progress.",
    ),
    _from_hub(
        name="agent.subagent",
        model=AgentSubagent,
        ag_ui="SUBAGENT_STARTED, SUBAGENT_FINISHED",
        summary="A run that a run started.",
    ),
    EventType(
        name="agent.list",
        model=AgentListQuestion,
        direction=Direction.IN,
        lane=Lane.CONNECTION,
        kinds=NO_CHANNEL,
        reply="agent.list",
        reply_model=AgentListAnswer,
        rate="history",
        ag_ui="capabilities",
        summary="Lists the agents that the caller may invoke.",
    ),
)
