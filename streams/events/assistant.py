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

    message_id: MessageId = Field(
        description="ID of the answer: the run's ID, a dot, and the number of the message in the run, from 0."
    )
    run_id: RunId = Field(description="ID of the run that writes the answer.")
    attempt: Ordinal = Field(
        description="The attempt that writes, from 1; a worker that takes over from a lost one begins the next."
    )


class AssistantMessageStart(_OfMessage):
    """An answer begins. This event is acknowledged before the answer's first delta is sent."""

    agent: Name = Field(description="Name of the agent that answers.")
    parent_id: Maybe[MessageId] = Field(
        None, description="ID of the message that is answered; absent if the run was not started by a message."
    )
    model: Maybe[Text128] = Field(None, description="Name of the model; absent if the agent did not report it.")


class AssistantMessageDelta(_OfMessage):
    """A piece of the answer: apply it only if `offset` equals the length received so far; the new length is `end`."""

    track: Literal["text", "reasoning"] = Field(
        "text",
        description="The track of the piece: the answer (`text`) or the model's reasoning (`reasoning`), "
        "which only clients with that capability receive.",
    )
    offset: Count = Field(
        description="Code points of this track before the piece; apply the piece only if the text so far has "
        "exactly that length."
    )
    end: Count = Field(description="Code points of this track after the piece.")
    delta: Annotated[Text8192, Field(min_length=1)] = Field(description="The piece of text.")

    @model_validator(mode="after")
    def _ends_where_it_says(self) -> AssistantMessageDelta:
        if self.end != self.offset + len(self.delta):
            raise broken("must have an end that is offset plus the code points of delta")
        return self


class AssistantMessageReset(_OfMessage):
    """The answer restarts after its first `keep` code points, in the new attempt given here."""

    keep: Count = Field(
        0, description="Code points at the beginning of the text that stay; everything after them is dropped."
    )
    reason: Literal["worker_lost", "provider_retry", "moderation"] = Field(
        description="The cause: the worker was lost, the provider failed and the request is repeated, or the "
        "text was moderated."
    )


class AssistantMessageEnd(_OfMessage):
    """The complete, authoritative answer; a text too large for the stream is in a file."""

    finish_reason: Literal["stop", "length", "tool_calls", "content_filter", "cancelled", "error"] = Field(
        description="The cause of the end: it is complete (`stop`), it reached the model's limit (`length`), tools are "
        "called next (`tool_calls`), it was filtered (`content_filter`), the run was cancelled, or it failed "
        "(`error`)."
    )
    text: Maybe[Utf8Text512K] = Field(
        None, description="The whole text, which replaces all deltas; absent if it is in the file `text_ref`."
    )
    text_ref: Maybe[FileId] = Field(
        None, description="ID of the file that holds a text of more than 512 KiB; absent otherwise."
    )
    reasoning: Maybe[Utf8Text128K] = Field(
        None, description="The model's reasoning, as far as it is kept; absent if there was none."
    )
    parts: Maybe[Annotated[list[OutPart], Field(max_length=64)]] = Field(
        None, description="Sources, files, data and tool calls that belong to the answer; absent if there are none."
    )
    usage: Maybe[Usage] = Field(
        None, description="Tokens that the answer used; absent if the agent did not report them."
    )
    error: Maybe[Failure] = Field(None, description="The cause, if `finish_reason` is `error`; absent otherwise.")

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
