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

    description: Text200 = Field(description="Description of the value, for the agent.")
    value: Text4000 = Field(description="The value, as text.")


class ClientTool(Payload):
    """A tool that the client executes, with the JSON Schema of its arguments."""

    name: Text128 = Field(description="Name of the tool, by which the agent calls it.")
    description: Text1000 = Field(description="Description of the tool, for the model.")
    parameters: Json16K = Field(description="JSON Schema of the tool's arguments.")


class AgentInvoke(Payload):
    """Starts a run. On a conversation `agent` names the agent to run; on an agent's channel that agent runs."""

    agent: Maybe[Name] = Field(
        None,
        description="Name of the agent; required in a conversation. In an agent's channel it may be absent, and no other "
        "agent may be named.",
    )
    input: TextOrJson64K = Field(description="The input for the agent: a text, or any other JSON but null.")
    parts: Maybe[InParts] = Field(
        None, description="Files, mentions and data that belong to the input; absent if there are none."
    )
    run_id: Maybe[RunId] = Field(
        None,
        description="ID of the run, chosen by the sender; one that is in use is refused with 4021. Absent: the hub "
        "derives one.",
    )
    context: Maybe[Annotated[list[ContextItem], Field(max_length=16)]] = Field(
        None, description="Information from the application that the agent may use; absent if there is none."
    )
    client_tools: Maybe[Annotated[list[ClientTool], Field(max_length=32)]] = Field(
        None, description="Tools that the sender's client executes; absent if there are none."
    )
    settings: Maybe[ModelSettings] = Field(None, description="Settings for this run only; absent: the conversation's.")
    deadline_ms: Maybe[Annotated[int, Field(ge=1000, le=86_400_000)]] = Field(
        None,
        description="Milliseconds that a segment of the run may take before the run expires; absent: 600,000 (10 "
        "minutes).",
    )
    on_busy: Maybe[OnBusy] = Field(
        None,
        description="The action if a run is in progress: wait for its end (`enqueue`) or be refused with "
        "4021 (`reject`); the other two are refused with 4024. Absent: the conversation's "
        "setting; in an agent's channel `enqueue`.",
    )
    metadata: Maybe[Meta] = Field(
        None, description="Texts of the application by name, stored with the command and not interpreted."
    )


class Step(Payload):
    """The current step of a run."""

    name: Text128 = Field(description="Name of the step, for people.")
    index: Maybe[Count] = Field(
        None, description="Number of the step, from 0; absent if the agent does not count its steps."
    )
    total: Maybe[Count] = Field(None, description="Number of steps; absent if the agent does not know it.")


class AgentStatus(Payload):
    """The state that a run has entered."""

    run_id: RunId = Field(description="ID of the run.")
    agent: Name = Field(description="Name of the agent that runs.")
    state: RunState = Field(description="The state that the run has entered.")
    previous: Maybe[RunState] = Field(None, description="The state before; absent with the first status.")
    attempt: Count = Field(description="The attempt, from 1: increased when a worker was lost.")
    segment: Count = Field(description="The segment, from 1: increased when the run continues after a wait.")
    step: Maybe[Step] = Field(None, description="The agent's current step; absent if it is not reported.")
    reason: Maybe[Text500] = Field(
        None, description="The cause of the change, for people; absent if it follows from the state."
    )
    pending_requests: Maybe[list[RequestId]] = Field(
        None, description="IDs of the requests that the run waits for; only with `waiting`."
    )


class AgentOutput(Payload):
    """One output of a run; `index` counts up without gaps."""

    run_id: RunId = Field(description="ID of the run.")
    index: Count = Field(description="Number of the output in its run: 0, 1, 2 … without holes.")
    kind: Literal["text", "json", "artifact", "log", "state_snapshot", "state_delta", "custom"] = Field(
        description="The kind of value: a text, JSON, a file or other product (`artifact`), a line of a log, "
        "a state of the agent's (whole, or as a JSON Patch of at most 64 KiB), or a kind of its "
        "own (`custom`)."
    )
    name: Maybe[Text128] = Field(None, description="Name of the output, such as a file name; absent if it has none.")
    value: Maybe[Json64K] = Field(None, description="The value; absent if it is in the file `ref`.")
    ref: Maybe[FileId] = Field(None, description="ID of the file that holds the value; absent otherwise.")

    @model_validator(mode="after")
    def _one_value(self) -> AgentOutput:
        if len({"value", "ref"} & self.model_fields_set) != 1:
            raise broken("must have either value or ref")
        if self.kind == "state_delta" and self.ref is None:
            check_patch(self.value, OUTPUT_PATCH_MAX_BYTES)
        return self


class AgentComplete(Payload):
    """The end of a run; no event of the run follows."""

    run_id: RunId = Field(description="ID of the run.")
    agent: Name = Field(description="Name of the agent that ran.")
    outcome: Literal["success", "cancelled", "failed", "expired"] = Field(description="The outcome of the run.")
    result: Maybe[Json256K] = Field(
        None, description="The result; absent if the agent returned none, or if it is in the file `result_ref`."
    )
    result_ref: Maybe[FileId] = Field(None, description="ID of the file that holds the result; absent otherwise.")
    message_ids: list[MessageId] = Field(
        description="IDs of the messages that the run wrote, in their order; empty if it wrote none."
    )
    usage: Maybe[list[Usage]] = Field(
        None, description="Tokens that the run used, by model response; absent if the agent did not report them."
    )
    duration_ms: Count = Field(description="Milliseconds from the first start of the run to its end, waits included.")
    attempts: Count = Field(description="Number of attempts that the run needed.")
    error: Maybe[Failure] = Field(None, description="The cause, if the run failed or expired; absent otherwise.")

    @model_validator(mode="after")
    def _one_result(self) -> AgentComplete:
        if {"result", "result_ref"} <= self.model_fields_set:
            raise broken("must have result or result_ref, not both")
        return self


class AgentCancel(Payload):
    """Stops a run: after its current step (`graceful`) or at once (`force`)."""

    run_id: RunId = Field(description="ID of the run to stop.")
    mode: Literal["graceful", "force"] = Field(
        "graceful", description="Lets the agent finish its current step (`graceful`) or ends it at once (`force`)."
    )
    reason: Maybe[Text200] = Field(
        None, description="The user's reason, stored with the command; absent if none was given."
    )


class AgentSteer(Writing):
    """A message to a run in progress, delivered as soon as the run can accept it (`asap`) or once it is idle."""

    run_id: RunId = Field(description="ID of the run to steer.")
    when: Literal["asap", "idle"] = Field(
        "asap",
        description="Delivers the text at the next opportunity (`asap`) or once the run is idle (`idle`).",
    )


class AgentSubagent(Payload):
    """The start or end of a run that this run started."""

    run_id: RunId = Field(description="ID of the run that started the other.")
    subagent_run_id: RunId = Field(description="ID of the run that was started.")
    phase: Literal["started", "finished", "failed", "suspended"] = Field(
        description="The state that the started run has entered."
    )
    name: Name = Field(description="Name of the agent that was started.")
    parent_tool_call_id: Maybe[ToolCallId] = Field(
        None, description="ID of the tool call by which it was started; absent if it was started otherwise."
    )
    result: Maybe[Json16K] = Field(
        None, description="The result of the run that was started, in short; absent unless it has finished."
    )


class AgentListQuestion(Payload):
    """Asks for the list of agents; the payload is empty."""


class AgentInfo(Payload):
    """An agent that the caller may invoke."""

    name: Name = Field(description="Name of the agent, by which it is invoked.")
    description: Text500 = Field(description="Description of the agent, for people.")
    available: bool = Field(description="True if a worker serves it now.")
    interactive: bool = Field(description="True if it may ask people questions while it runs.")


class AgentListAnswer(Payload):
    """The agents that the caller may invoke."""

    agents: list[AgentInfo] = Field(description="The agents, by name; empty if there are none.")


_row = partial(EventType, lane=Lane.EVENTS, kinds=frozenset({Kind.CONVERSATION, Kind.AGENT}))
_from_hub = partial(_row, direction=Direction.OUT)
_command = partial(_row, direction=Direction.BOTH, reply="ack", action=Action.INVOKE, is_wanted=True)

EVENTS: tuple[EventType, ...] = (
    _command(
        name="agent.invoke",
        model=AgentInvoke,
        personal=(),
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
        personal=(),
        results=("run_id", "state"),
        rate="command",
        errors=(4018, 4021),
        ag_ui="abort",
        summary="Stops a run.",
    ),
    _command(
        name="agent.steer",
        model=AgentSteer,
        personal=(),
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
