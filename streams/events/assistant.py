"""The payloads of assistant.* (docs/events.md#assistant): a streamed answer, from start through deltas to end. Pure.

The hub and its workers write these; clients only receive them. Offsets count the Unicode code points of one track in one
attempt.
"""

from __future__ import annotations

from functools import partial
from typing import Annotated, Literal

from pydantic import Field, model_validator

from streams.channel import Kind
from streams.envelope import Lane
from streams.events.declaration import Direction, EventType, Payload, broken
from streams.events.values import (
    Count,
    Failure,
    FileId,
    Maybe,
    MessageId,
    Name,
    Ordinal,
    OutPart,
    RunId,
    Text128,
    Text8192,
    Usage,
    Utf8Text128K,
    Utf8Text512K,
)


class _OfMessage(Payload):
    """The fields common to all: the message, its run and its attempt."""

    message_id: MessageId
    run_id: RunId
    attempt: Ordinal


class AssistantMessageStart(_OfMessage):
    """An answer begins. This event is acknowledged before the answer's first delta is sent."""

    agent: Name
    parent_id: Maybe[MessageId] = None
    model: Maybe[Text128] = None


class AssistantMessageDelta(_OfMessage):
    """A piece of the answer: apply it only if `offset` equals the length received so far; the new length is `end`."""

    track: Literal["text", "reasoning"] = "text"
    offset: Count
    end: Count
    delta: Annotated[Text8192, Field(min_length=1)]

    @model_validator(mode="after")
    def _ends_where_it_says(self) -> AssistantMessageDelta:
        if self.end != self.offset + len(self.delta):
            raise broken("must have an end that is offset plus the code points of delta")
        return self


class AssistantMessageReset(_OfMessage):
    """The answer restarts after its first `keep` code points, in the new attempt given here."""

    keep: Count = 0
    reason: Literal["worker_lost", "provider_retry", "moderation"]


class AssistantMessageEnd(_OfMessage):
    """The complete, authoritative answer; a text too large for the stream is in a file."""

    finish_reason: Literal["stop", "length", "tool_calls", "content_filter", "cancelled", "error"]
    text: Maybe[Utf8Text512K] = None
    text_ref: Maybe[FileId] = None
    reasoning: Maybe[Utf8Text128K] = None
    parts: Maybe[Annotated[list[OutPart], Field(max_length=64)]] = None
    usage: Maybe[Usage] = None
    error: Maybe[Failure] = None

    @model_validator(mode="after")
    def _one_text(self) -> AssistantMessageEnd:
        if (self.text is None) == (self.text_ref is None):
            raise broken("must have either text or text_ref")
        return self


_row = partial(EventType, direction=Direction.OUT, lane=Lane.EVENTS, kinds=frozenset({Kind.CONVERSATION, Kind.AGENT}))

EVENTS: tuple[EventType, ...] = (
    _row(
        name="assistant.message.start",
        model=AssistantMessageStart,
        ag_ui="TEXT_MESSAGE_START",
        summary="An answer begins.",
    ),
    _row(
        name="assistant.message.delta",
        model=AssistantMessageDelta,
        lane=Lane.LIVE,
        ag_ui="TEXT_MESSAGE_CONTENT, REASONING_MESSAGE_CONTENT",
        summary="A piece of an answer.",
    ),
    _row(
        name="assistant.message.reset",
        model=AssistantMessageReset,
        ag_ui="TEXT_MESSAGE_END, MESSAGES_SNAPSHOT",
        summary="An answer starts again.",
    ),
    _row(
        name="assistant.message.end",
        model=AssistantMessageEnd,
        ag_ui="TEXT_MESSAGE_END, REASONING_END",
        summary="The whole answer.",
    ),
)
