"""The parts of a message, usage and failure: values that several families share (docs/protocol.md#values). Pure."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from streams.events.declaration import Payload
from streams.events.values import (
    Count,
    FileId,
    Json32K,
    Json64K,
    Maybe,
    Name,
    Temperature,
    Text64,
    Text127,
    Text128,
    Text300,
    Text500,
    Text2000,
    Text2048,
    Text4000,
    Text16000,
    ToolCallId,
)


class FilePart(Payload):
    """A file that was uploaded before."""

    type: Literal["file"]
    file_id: FileId
    caption: Maybe[Text500] = None


class MentionPart(Payload):
    """A person or an agent who is meant."""

    type: Literal["mention"]
    kind: Literal["user", "agent"]
    id: Name


class DataPart(Payload):
    """A value beside the text."""

    type: Literal["data"]
    mime: Text127
    value: Json32K


InPart = Annotated[FilePart | MentionPart | DataPart, Field(discriminator="type")]
InParts = Annotated[list[InPart], Field(max_length=32)]


class SourceOut(Payload):
    """A source of an answer."""

    type: Literal["source"]
    url: Maybe[Text2048] = None
    file_id: Maybe[FileId] = None
    title: Text300
    quote: Maybe[Text2000] = None


class FileOut(Payload):
    """A file that an agent made."""

    type: Literal["file"]
    file_id: FileId
    mime: Text127
    name: Text300


class DataOut(Payload):
    """A named value of an answer."""

    type: Literal["data"]
    name: Text64
    value: Json64K


class RefusalOut(Payload):
    """The model's words instead of an answer."""

    type: Literal["refusal"]
    text: Text4000


class ToolCallOut(Payload):
    """A tool call that belongs to the message; tool.call.start has the rest."""

    type: Literal["tool_call"]
    tool_call_id: ToolCallId


OutPart = Annotated[SourceOut | FileOut | DataOut | RefusalOut | ToolCallOut, Field(discriminator="type")]


class Usage(Payload):
    """The tokens that a model's response consumed."""

    provider: Maybe[Text128] = None
    model: Maybe[Text128] = None
    input_tokens: Maybe[Count] = None
    output_tokens: Maybe[Count] = None
    cached_input_tokens: Maybe[Count] = None
    reasoning_tokens: Maybe[Count] = None
    total_tokens: Maybe[Count] = None


class Failure(Payload):
    """The cause of a failure, and whether trying again may help."""

    code: Text64
    message: Text2000
    retryable: bool


class ModelSettings(Payload):
    """The settings that one run may have of its own."""

    model: Maybe[Text128] = None
    temperature: Maybe[Temperature] = None
    instructions: Maybe[Text16000] = None
