"""The payloads of tool.call.* (docs/events.md#tool): calls, progress and results, questions to people and answers. Pure.

These models check only the form. Whether the request is still open, the sender may answer it and the arguments may be edited is
checked against the stored request, elsewhere.
"""

from __future__ import annotations

from functools import partial
from typing import Annotated, Literal

from pydantic import Field, model_validator

from streams.channel import Kind
from streams.envelope import Lane
from streams.events.declaration import Action, Direction, EventType, Payload, broken
from streams.events.values import (
    FLOAT_MAX,
    Count,
    FileId,
    GivenJson64K,
    Json16K,
    Json64K,
    Json256K,
    Maybe,
    MessageId,
    Name,
    RequestId,
    RunId,
    Text80,
    Text128,
    Text200,
    Text500,
    Text1000,
    Text2000,
    Text4000,
    Text8192,
    Time,
    ToolCallId,
)

Amount = Annotated[float, Field(ge=0, le=FLOAT_MAX)]


class _OfCall(Payload):
    """The fields common to all: the call and its run."""

    tool_call_id: ToolCallId = Field(description="ID of the call, from the model's provider or made by the hub.")
    run_id: RunId = Field(description="ID of the run that makes the call.")


class ToolCallStart(_OfCall):
    """A tool is called. `idempotent` means that repeating the call has no further effect."""

    message_id: MessageId = Field(description="ID of the answer in which the model asked for the call.")
    name: Text128 = Field(description="Name of the tool.")
    title: Maybe[Text200] = Field(None, description="Title to show instead of the name; absent if the tool has none.")
    executor: Literal["server", "client", "provider", "human"] = Field(
        description="The executor of the call: the worker (`server`), a client, the model's provider, or a person."
    )
    args: Maybe[Json64K] = Field(
        None, description="The arguments; absent if they are hidden or too large for an event."
    )
    redacted: bool = Field(False, description="True if the arguments are hidden or too large for an event.")
    idempotent: bool = Field(
        False,
        description="True if a repetition of the call has no further effect, so that a lost worker's call may be "
        "repeated.",
    )
    timeout_ms: Maybe[Count] = Field(
        None,
        description="Milliseconds after which the call fails with `timeout`; absent if it has no limit of its own.",
    )


class ToolCallArgs(_OfCall):
    """A piece of the arguments' JSON text; apply it only if `offset` equals the length received so far."""

    offset: Count = Field(
        description="Code points of the arguments' text before the piece; apply the piece only if the text "
        "so far has exactly that length."
    )
    end: Count = Field(description="Code points of the arguments' text after the piece.")
    delta: Annotated[Text8192, Field(min_length=1)] = Field(
        description="The piece of JSON text; only all pieces together can be parsed."
    )

    @model_validator(mode="after")
    def _ends_where_it_says(self) -> ToolCallArgs:
        if self.end != self.offset + len(self.delta):
            raise broken("must have an end that is offset plus the code points of delta")
        return self


class ToolCallProgress(_OfCall):
    """The progress of a call; `progress` never decreases."""

    progress: Amount = Field(description="The progress so far, in a unit of the tool's choice; it never decreases.")
    total: Maybe[Amount] = Field(
        None, description="The progress at the end, in the same unit; absent if it is unknown."
    )
    message: Maybe[Text500] = Field(
        None, description="The tool's current activity, for people; absent if it is not reported."
    )
    preview: Maybe[Json16K] = Field(
        None, description="A preliminary result to show meanwhile; absent if there is none."
    )


class ToolCallComplete(_OfCall):
    """The end of a call: its result, or the information that it was denied."""

    outcome: Literal["ok", "denied"] = Field(
        description="The outcome: the tool ran (`ok`), or a person denied the call and it did not run (`denied`)."
    )
    output: Maybe[Json64K] = Field(
        None,
        description="The result, or the reason of a denial; absent if there is none, or if it is in the file "
        "`output_ref`.",
    )
    output_ref: Maybe[FileId] = Field(
        None, description="ID of the file that holds a result too large for an event; absent otherwise."
    )
    duration_ms: Count = Field(description="Milliseconds that the call took, without the wait for people.")

    @model_validator(mode="after")
    def _one_output(self) -> ToolCallComplete:
        if {"output", "output_ref"} <= self.model_fields_set:
            raise broken("must have output or output_ref, not both")
        return self


class ToolCallError(_OfCall):
    """A call that failed."""

    reason: Literal["timeout", "failed", "invalid_args", "cancelled", "worker_lost", "no_responder"] = Field(
        description="The cause: it took too long, the tool failed, its arguments are invalid, the run was cancelled, the "
        "worker was lost, or nobody answered."
    )
    message: Text2000 = Field(description="The cause as a sentence, for people and for the model.")
    retryable: bool = Field(description="True if calling the tool again may succeed.")


class ToolCallRequest(Payload):
    """A question to people, or a call of a client's tool. The run waits until every request of the batch is answered."""

    request_id: RequestId = Field(description="ID of the request: the run's ID, `.q`, and a number from 0.")
    batch_id: Text80 = Field(
        description="ID of the requests that the run asks together; the run continues when all of them are answered."
    )
    run_id: RunId = Field(description="ID of the run that asks.")
    tool_call_id: Maybe[ToolCallId] = Field(
        None, description="ID of the call that the question is about; absent if it is about none."
    )
    kind: Literal["approval", "input", "client_tool", "confirmation"] = Field(
        description="The request: permission to make the call (`approval`), a value (`input`), the execution "
        "of a client's tool (`client_tool`), or a confirmation (`confirmation`)."
    )
    name: Maybe[Text128] = Field(
        None, description="Name of the tool that the question is about; absent if it is about none."
    )
    args: Maybe[Json64K] = Field(
        None, description="The arguments that the tool would get; absent if the question is about no tool."
    )
    prompt: Text4000 = Field(description="The question, for people.")
    response_schema: Maybe[Json16K] = Field(
        None, description="JSON Schema of the `result` that is expected; absent: any JSON."
    )
    allow_edit: bool = Field(False, description="True if the answer may replace the arguments by `edited_args`.")
    assignees: Maybe[Annotated[list[Name], Field(max_length=20)]] = Field(
        None, description="The users who may answer; absent: everybody who may invoke here."
    )
    expires_at: Maybe[Time] = Field(None, description="Time at which the request expires and the run with it.")


class ToolCallResponse(Payload):
    """The answer to a request. An approval without a decision is denied; `edited_args` replaces all arguments.

    `result` may be null, because a client's tool may return nothing.
    """

    request_id: RequestId = Field(description="ID of the request that is answered.")
    decision: Maybe[Literal["approve", "deny"]] = Field(
        None, description="The answer to an approval or a confirmation; absent for other kinds."
    )
    edited_args: Maybe[GivenJson64K] = Field(
        None, description="Arguments that replace all those of the request, if it has `allow_edit`; absent: they stay."
    )
    result: Maybe[Json256K] = Field(
        None,
        description="The value that was asked for, or the result of the client's tool; absent with a decision or an "
        "error.",
    )
    error: Maybe[Text2000] = Field(None, description="The cause, if the client's tool failed; absent otherwise.")
    reason: Maybe[Text1000] = Field(
        None, description="The user's comment on the decision, which the agent reads; absent if there is none."
    )


class ToolCallResolved(Payload):
    """The request is closed for all its assignees."""

    request_id: RequestId = Field(description="ID of the request.")
    run_id: RunId = Field(description="ID of the run that asked.")
    tool_call_id: Maybe[ToolCallId] = Field(
        None, description="ID of the call that the question was about; absent if it was about none."
    )
    resolution: Literal["approved", "denied", "answered", "expired", "cancelled"] = Field(
        description="The outcome: a decision, an answer, or the end of the request without one."
    )
    by: Maybe[Name] = Field(None, description="The user who answered; absent if nobody did.")
    edited: bool = Field(description="True if the arguments were replaced.")


_row = partial(EventType, lane=Lane.EVENTS, kinds=frozenset({Kind.CONVERSATION, Kind.AGENT}))
_from_hub = partial(_row, direction=Direction.OUT)

EVENTS: tuple[EventType, ...] = (
    _from_hub(
        name="tool.call.start",
        model=ToolCallStart,
        ag_ui="TOOL_CALL_START, TOOL_CALL_ARGS, TOOL_CALL_END",
        summary="A tool is called.",
    ),
    _from_hub(
        name="tool.call.args",
        model=ToolCallArgs,
        lane=Lane.LIVE,
        ag_ui="TOOL_CALL_ARGS",
        summary="A piece of a call's arguments.",
    ),
    _from_hub(
        name="tool.call.progress",
        model=ToolCallProgress,
        lane=Lane.LIVE,
        ag_ui="ACTIVITY_SNAPSHOT",
        summary="The progress of a call.",
    ),
    _from_hub(name="tool.call.complete", model=ToolCallComplete, ag_ui="TOOL_CALL_RESULT", summary="A call's result."),
    _from_hub(name="tool.call.error", model=ToolCallError, ag_ui="TOOL_CALL_RESULT", summary="A call that failed."),
    _from_hub(
        name="tool.call.request",
        model=ToolCallRequest,
        ag_ui="RUN_FINISHED{outcome: interrupt}",
        summary="A person or a client is asked.",
    ),
    _row(
        name="tool.call.response",
        model=ToolCallResponse,
        personal=(),
        direction=Direction.BOTH,
        reply="ack",
        action=Action.INVOKE,
        rate="command",
        errors=(4018, 4021, 4022),
        is_wanted=True,
        ag_ui="RunAgentInput.resume[]",
        summary="Answers a request; the first valid answer counts.",
    ),
    _from_hub(name="tool.call.resolved", model=ToolCallResolved, summary="A request is closed."),
)
