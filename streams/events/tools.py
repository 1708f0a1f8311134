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

    tool_call_id: ToolCallId
    run_id: RunId


class ToolCallStart(_OfCall):
    """A tool is called. `idempotent` means that repeating the call has no further effect."""

    message_id: MessageId
    name: Text128
    title: Maybe[Text200] = None
    executor: Literal["server", "client", "provider", "human"]
    args: Maybe[Json64K] = None
    redacted: bool = False
    idempotent: bool = False
    timeout_ms: Maybe[Count] = None


class ToolCallArgs(_OfCall):
    """A piece of the arguments' JSON text; apply it only if `offset` equals the length received so far."""

    offset: Count
    end: Count
    delta: Annotated[Text8192, Field(min_length=1)]

    @model_validator(mode="after")
    def _ends_where_it_says(self) -> ToolCallArgs:
        if self.end != self.offset + len(self.delta):
            raise broken("must have an end that is offset plus the code points of delta")
        return self


class ToolCallProgress(_OfCall):
    """The progress of a call; `progress` never decreases."""

    progress: Amount
    total: Maybe[Amount] = None
    message: Maybe[Text500] = None
    preview: Maybe[Json16K] = None


class ToolCallComplete(_OfCall):
    """The end of a call: its result, or the information that it was denied."""

    outcome: Literal["ok", "denied"]
    output: Maybe[Json64K] = None
    output_ref: Maybe[FileId] = None
    duration_ms: Count

    @model_validator(mode="after")
    def _one_output(self) -> ToolCallComplete:
        if {"output", "output_ref"} <= self.model_fields_set:
            raise broken("must have output or output_ref, not both")
        return self


class ToolCallError(_OfCall):
    """A call that failed."""

    reason: Literal["timeout", "failed", "invalid_args", "cancelled", "worker_lost", "no_responder"]
    message: Text2000
    retryable: bool


class ToolCallRequest(Payload):
    """A question to people, or a call of a client's tool. The run waits until every request of the batch is answered."""

    request_id: RequestId
    batch_id: Text80
    run_id: RunId
    tool_call_id: Maybe[ToolCallId] = None
    kind: Literal["approval", "input", "client_tool", "confirmation"]
    name: Maybe[Text128] = None
    args: Maybe[Json64K] = None
    prompt: Text4000
    response_schema: Maybe[Json16K] = None
    allow_edit: bool = False
    assignees: Maybe[Annotated[list[Name], Field(max_length=20)]] = None
    expires_at: Maybe[Time] = None


class ToolCallResponse(Payload):
    """The answer to a request. An approval without a decision is denied; `edited_args` replaces all arguments.

    `result` may be null, because a client's tool may return nothing.
    """

    request_id: RequestId
    decision: Maybe[Literal["approve", "deny"]] = None
    edited_args: Maybe[GivenJson64K] = None
    result: Maybe[Json256K] = None
    error: Maybe[Text2000] = None
    reason: Maybe[Text1000] = None


class ToolCallResolved(Payload):
    """The request is closed for all its assignees."""

    request_id: RequestId
    run_id: RunId
    tool_call_id: Maybe[ToolCallId] = None
    resolution: Literal["approved", "denied", "answered", "expired", "cancelled"]
    by: Maybe[Name] = None
    edited: bool


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
