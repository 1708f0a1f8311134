"""The value types of the catalogue (docs/protocol.md#values), as constraints that pydantic-core checks itself. Pure.

Every string refuses NUL and lone surrogates; other control and format characters are stored as sent, because text is data and
the page that displays it decides how. Lengths count code points, sizes count bytes of JSON. Python code runs only where a rule
cannot be a core constraint: JSON values, times, base64.
"""

from __future__ import annotations

import binascii
from typing import Annotated, Final, Literal, TypeVar

from pydantic import AfterValidator, Field, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.config import JsonDict
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from streams.events.declaration import Payload, broken
from streams.events.json_limits import JsonValue
from streams.times import milliseconds_of_text

T = TypeVar("T")
INT_MAX: Final = 2**63 - 1
FLOAT_MAX: Final = 1.7976931348623157e308
_NO_NUL: Final = r"^[^\x00]*$"
_NAME: Final = r"[A-Za-z0-9_.@|+~-]{1,128}"


class _NotNull:
    """Lets a field be absent but never null, by removing the nullable layer from the core schema."""

    def __get_pydantic_core_schema__(self, source: type[object], handler: GetCoreSchemaHandler) -> CoreSchema:
        schema = handler(source)
        return schema["schema"] if schema["type"] == "nullable" else schema

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return handler(schema)


Maybe = Annotated[T | None, _NotNull()]
"""An optional field, marked `?` in the documents: absent (None here) or a value; null is refused."""

Text16 = Annotated[str, Field(max_length=16, pattern=_NO_NUL)]
Text32 = Annotated[str, Field(max_length=32, pattern=_NO_NUL)]
Text35 = Annotated[str, Field(max_length=35, pattern=_NO_NUL)]
Text64 = Annotated[str, Field(max_length=64, pattern=_NO_NUL)]
Text80 = Annotated[str, Field(max_length=80, pattern=_NO_NUL)]
Text127 = Annotated[str, Field(max_length=127, pattern=_NO_NUL)]
Text128 = Annotated[str, Field(max_length=128, pattern=_NO_NUL)]
Text140 = Annotated[str, Field(max_length=140, pattern=_NO_NUL)]
Text200 = Annotated[str, Field(max_length=200, pattern=_NO_NUL)]
FileName = Annotated[
    str,
    Field(
        min_length=1,
        max_length=255,
        pattern=r"^[^/\\\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]+$",
        examples=["notes.txt"],
    ),
]
"""A file's name: no slashes, no control characters, no characters that reverse the reading direction (they can hide an
extension), and neither U+2028 nor U+2029, which some readers treat as line ends.
"""
Text300 = Annotated[str, Field(max_length=300, pattern=_NO_NUL)]
Text500 = Annotated[str, Field(max_length=500, pattern=_NO_NUL)]
Text512 = Annotated[str, Field(max_length=512, pattern=_NO_NUL)]
Text1000 = Annotated[str, Field(max_length=1000, pattern=_NO_NUL)]
Text2000 = Annotated[str, Field(max_length=2000, pattern=_NO_NUL)]
Text2048 = Annotated[str, Field(max_length=2048, pattern=_NO_NUL)]
Text4000 = Annotated[str, Field(max_length=4000, pattern=_NO_NUL)]
Text8192 = Annotated[str, Field(max_length=8192, pattern=_NO_NUL)]
Text16000 = Annotated[str, Field(max_length=16_000, pattern=_NO_NUL)]
Text32768 = Annotated[str, Field(max_length=32_768, pattern=_NO_NUL)]

Json2K = Annotated[object, JsonValue(2_048)]
Json8K = Annotated[object, JsonValue(8_192)]
Json16K = Annotated[object, JsonValue(16_384)]
Json32K = Annotated[object, JsonValue(32_768)]
Json64K = Annotated[object, JsonValue(65_536)]
Json256K = Annotated[object, JsonValue(262_144)]
GivenJson64K = Annotated[object, JsonValue(65_536, is_null_allowed=False)]
"""JSON that must not be null, because null would mean the same as an absent field: edited arguments, for example."""
TextOrJson64K = Annotated[object, JsonValue(65_536, is_null_allowed=False, text_max=32_768)]
"""`Text[32768] | Json[64K]`: a string has the limit of text, any other value has the limit of JSON."""

EventId = Annotated[str, Field(max_length=32, pattern=r"^[0-9]{1,15}-[0-9]{1,10}$", examples=["1795367479511-0"])]
IdOrZero = Annotated[str, Field(max_length=32, pattern=r"^(?:[0-9]{1,15}-[0-9]{1,10}|0)$", examples=["0"])]
"""An `EventId`, or "0" for the position before every event."""
Start = Annotated[str, Field(max_length=32, pattern=r"^(?:[0-9]{1,15}-[0-9]{1,10}|0|\$)$", examples=["0", "$"])]
"""An `IdOrZero`, or "$" for future events only."""
ChannelName = Annotated[
    str,
    Field(
        max_length=141, pattern=rf"^(?:conversation|team|document|agent|user):{_NAME}$", examples=["conversation:42"]
    ),
]
Name = Annotated[str, Field(min_length=1, max_length=128, pattern=rf"^{_NAME}$")]
RunId = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_.-]+$")]
MessageId = Annotated[str, Field(min_length=1, max_length=80, pattern=r"^[A-Za-z0-9_.-]+$")]
RequestId = MessageId
FileId = Annotated[
    str, Field(min_length=32, max_length=32, pattern=r"^[0-9a-f]{32}$", examples=["0123456789abcdef0123456789abcdef"])
]
ToolCallId = Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[\x20-\x7e]+$")]
Leaf = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$", examples=["9f" * 32])]
Sha256 = Annotated[
    str,
    Field(
        min_length=44,
        max_length=44,
        pattern=r"^[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=$",
        examples=["47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="],
    ),
]

Link = Annotated[
    str,
    Field(
        max_length=2048,
        pattern=r"^(?:https?://[^\x00-\x20]+|/(?:[^/\\\x00-\x20][^\x00-\x20]*)?)$",
        examples=["/documents/42"],
    ),
]
"""A link: http, https, or a path on this host; never `//other.host` and never `javascript:`."""

Int = Annotated[int, Field(ge=-INT_MAX - 1, le=INT_MAX)]
Count = Annotated[int, Field(ge=0, le=INT_MAX)]
Ordinal = Annotated[int, Field(ge=1, le=INT_MAX)]
Temperature = Annotated[float, Field(ge=0, le=2)]
Meta = Annotated[dict[Text64, Text512], Field(max_length=16)]
OnBusy = Literal["enqueue", "reject", "interrupt", "steer"]


def _real_time(value: str) -> str:
    """Refuse text that has a time's form but is not a time, such as 30 February."""
    try:
        milliseconds_of_text(value)
    except ValueError:
        raise broken("must be a valid time") from None
    return value


Time = Annotated[
    str,
    Field(
        max_length=35,
        pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,9})?(?:Z|\+00:00)$",
        json_schema_extra={"format": "date-time"},
        examples=["2027-01-01T00:00:00.000Z"],
    ),
    AfterValidator(_real_time),
]
"""A time in UTC (RFC 3339). The hub writes milliseconds and `Z`; a client may send any fraction of a second."""


class Base64:
    """Text that is base64 with padding and decodes to at most `max_bytes` bytes."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes

    def __call__(self, value: str) -> str:
        """Check form and size. The text is kept as it is; a reader that needs the bytes decodes them."""
        try:
            decoded = binascii.a2b_base64(value, strict_mode=True)
        except (binascii.Error, ValueError):
            raise broken("must be base64 with padding") from None
        if len(decoded) > self.max_bytes:
            raise broken("must hold at most {max_bytes} bytes", max_bytes=self.max_bytes)
        return value


class Utf8Limit:
    """Text of at most `max_bytes` bytes as UTF-8, where size matters and not length."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes

    def __call__(self, value: str) -> str:
        """Check the size; the pattern has already refused NUL and lone surrogates."""
        if len(value) > self.max_bytes or len(value.encode()) > self.max_bytes:
            raise broken("must be at most {max_bytes} bytes as UTF-8", max_bytes=self.max_bytes)
        return value


_BASE64: Final[JsonDict] = {"contentEncoding": "base64"}
_LIMIT_128K: Final[JsonDict] = {"x-max-bytes": 131_072}
_LIMIT_256K: Final[JsonDict] = {"x-max-bytes": 262_144}
_LIMIT_512K: Final[JsonDict] = {"x-max-bytes": 524_288}

Bytes256K = Annotated[str, Field(json_schema_extra=_BASE64 | _LIMIT_256K), AfterValidator(Base64(262_144))]
Bytes512K = Annotated[str, Field(json_schema_extra=_BASE64 | _LIMIT_512K), AfterValidator(Base64(524_288))]
Utf8Text128K = Annotated[str, Field(pattern=_NO_NUL, json_schema_extra=_LIMIT_128K), AfterValidator(Utf8Limit(131_072))]
Utf8Text512K = Annotated[str, Field(pattern=_NO_NUL, json_schema_extra=_LIMIT_512K), AfterValidator(Utf8Limit(524_288))]


class FilePart(Payload):
    """A file that was uploaded before."""

    type: Literal["file"] = Field(description="Selects this form of part.")
    file_id: FileId = Field(
        description="ID of a file that is ready in the same channel; any other is refused with 4018."
    )
    caption: Maybe[Text500] = Field(None, description="Text to show with the file; absent if the sender gave none.")


class MentionPart(Payload):
    """A mention of a person or an agent."""

    type: Literal["mention"] = Field(description="Selects this form of part.")
    kind: Literal["user", "agent"] = Field(
        description="The kind of actor that is mentioned: a person (`user`) or an agent (`agent`)."
    )
    id: Name = Field(description="The person's user name or the agent's name.")


class DataPart(Payload):
    """A data value that accompanies the text."""

    type: Literal["data"] = Field(description="Selects this form of part.")
    mime: Text127 = Field(
        description="Media type of the value, chosen by the sender, such as `application/vnd.acme.order+json`."
    )
    value: Json32K = Field(description="The data; the hub stores it as it is and does not interpret it.")


InPart = Annotated[FilePart | MentionPart | DataPart, Field(discriminator="type")]
InParts = Annotated[list[InPart], Field(max_length=32)]


class SourceOut(Payload):
    """A source that an answer cites."""

    type: Literal["source"] = Field(description="Selects this form of part.")
    url: Maybe[Text2048] = Field(
        None, description="Address of the source; absent if the source is a file or has no address."
    )
    file_id: Maybe[FileId] = Field(
        None, description="ID of the file that is the source; absent if the source is not a file of the hub."
    )
    title: Text300 = Field(description="Title to show for the source.")
    quote: Maybe[Text2000] = Field(
        None, description="The passage that the answer relies on; absent if the agent gave none."
    )


class FileOut(Payload):
    """A file that an agent created."""

    type: Literal["file"] = Field(description="Selects this form of part.")
    file_id: FileId = Field(description="ID of the file; `file.url` answers with its address.")
    mime: Text127 = Field(description="Media type of the file.")
    name: Text300 = Field(description="File name to show.")


class DataOut(Payload):
    """A named data value that accompanies an answer."""

    type: Literal["data"] = Field(description="Selects this form of part.")
    name: Text64 = Field(
        description="Name of the value, chosen by the agent; clients use it to choose how to show the value."
    )
    value: Json64K = Field(description="The data; the hub stores it as it is and does not interpret it.")


class RefusalOut(Payload):
    """The model's explanation of why it does not answer."""

    type: Literal["refusal"] = Field(description="Selects this form of part.")
    text: Text4000 = Field(description="The explanation, as the model gave it.")


class ToolCallOut(Payload):
    """A tool call that belongs to the message; its `tool.call.start` event has the details."""

    type: Literal["tool_call"] = Field(description="Selects this form of part.")
    tool_call_id: ToolCallId = Field(description="ID of the call, as in its `tool.call.start`.")


OutPart = Annotated[SourceOut | FileOut | DataOut | RefusalOut | ToolCallOut, Field(discriminator="type")]


class Usage(Payload):
    """Token counts of one model response."""

    provider: Maybe[Text128] = Field(
        None, description="Name of the model's provider; absent if the agent did not report it."
    )
    model: Maybe[Text128] = Field(
        None, description="Name of the model that answered; absent if the agent did not report it."
    )
    input_tokens: Maybe[Count] = Field(None, description="Tokens of the prompt; absent if not reported.")
    output_tokens: Maybe[Count] = Field(
        None, description="Tokens that the model generated, reasoning included; absent if not reported."
    )
    cached_input_tokens: Maybe[Count] = Field(
        None, description="Tokens of the prompt that were read from the provider's cache; absent if not reported."
    )
    reasoning_tokens: Maybe[Count] = Field(
        None, description="Generated tokens that were spent on reasoning; absent if not reported."
    )
    total_tokens: Maybe[Count] = Field(
        None, description="All tokens of the response, as the provider counts them; absent if not reported."
    )


class Failure(Payload):
    """The cause of a failure; `retryable` says that another attempt may succeed."""

    code: Text64 = Field(description="Short identifier of the cause, for programs, such as `agent_error`.")
    message: Text2000 = Field(description="The cause as a sentence, for people.")
    retryable: bool = Field(description="True if another attempt may succeed.")


class ModelSettings(Payload):
    """The settings that can be overridden for one run."""

    model: Maybe[Text128] = Field(None, description="Name of the model to use; absent: the conversation's setting.")
    temperature: Maybe[Temperature] = Field(
        None, description="Sampling temperature; absent: the conversation's setting."
    )
    instructions: Maybe[Text16000] = Field(
        None, description="Instructions for the agent; absent: the conversation's setting."
    )
