"""The declaration of an event type, as data; all code that handles every event type reads it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, Protocol

from pydantic import BaseModel, ConfigDict
from pydantic_core import PydanticCustomError

from streams.channel import Kind
from streams.envelope import Lane

ALL_KINDS: Final = frozenset(Kind) - {Kind.SYSTEM}
"""The kinds of channel that clients may write to."""
READABLE_KINDS: Final = frozenset(Kind)
NO_CHANNEL: Final[frozenset[Kind]] = frozenset()
RULE: Final = "rule"
"""Error type of the validation rules that are written here, as opposed to pydantic's own."""


class Direction(StrEnum):
    """The sender of an event: a client, the hub, or a client whose event the hub passes on to every subscriber."""

    IN = "in"
    OUT = "out"
    BOTH = "both"


class Action(StrEnum):
    """The actions that a token's grant can allow (docs/protocol.md#tokens)."""

    READ = "read"
    WRITE = "write"
    INVOKE = "invoke"
    UPLOAD = "upload"
    MANAGE = "manage"


class Payload(BaseModel):
    """Base of all payloads: strict types, no unknown fields, no infinities. Unset fields are omitted from the stored JSON."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, frozen=True, hide_input_in_errors=True)


class OwnSchema(Protocol):
    """The JSON Schema of a custom event type."""

    @property
    def document(self) -> Mapping[str, Any]:
        """The schema, as it is published."""
        ...

    def problems(self, payload: Mapping[str, object]) -> Iterable[tuple[str, str]]:
        """Each path at which the payload does not match, with its problem."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class EventType:
    """The declaration of one event type: a row of the catalogue.

    Attributes:
        model: the payload as its sender writes it.
        delivered: the payload as subscribers get it, where the hub adds fields such as `user`; None if it equals `model`.
        kinds: the kinds of channel it may be sent to; empty if it has no channel.
        action: the action that the sender's grant must allow; None if no permission is needed.
        rate: its rate class (docs/protocol.md#rates); None for an event that clients never send.
        reply: the event type of the answer; "ack" where it has no type of its own, None when there is no answer.
        reply_model: the reply's payload where it is not the model of the type that `reply` names.
        results: the fields that the reply adds to `Stored` for this command.
        errors: codes that it may be answered with, besides those that any command may get.
        is_id_required: false for the four commands that may be sent without an `id`.
        is_wanted: a consumer handles it, so a work entry is written with it.
        needs_subscription: what it shows ends with its sender's connection; only a sender who follows the channel may send it.
        is_served: false for a type that is declared but not yet offered: a client that sends it gets 4005, unknown type.
        limit_bytes: maximum size of the payload's JSON.
        ag_ui: its counterpart in AG-UI 1.0; None when there is none.
        row: the name under which it is handled and counted; its own, except for types that share one.
        personal: set for types with words of people, which are sealed in the channels of HUB_SEALED: the payload's fields that
            name the people whom it is about, besides its actor. None for a type without such words, which is never sealed.
        own_schema: the JSON Schema that its payload must match as well; None for the types of the catalogue.
    """

    name: str
    model: type[Payload]
    direction: Direction
    lane: Lane
    kinds: frozenset[Kind] = ALL_KINDS
    delivered: type[Payload] | None = None
    action: Action | None = None
    rate: str | None = None
    reply: str | None = None
    reply_model: type[Payload] | None = None
    results: tuple[str, ...] = ()
    errors: tuple[int, ...] = ()
    version: int = 1
    is_id_required: bool = True
    is_wanted: bool = False
    needs_subscription: bool = False
    is_served: bool = True
    limit_bytes: int = 1_048_576
    ag_ui: str | None = None
    row: str = ""
    personal: tuple[str, ...] | None = None
    own_schema: OwnSchema | None = field(default=None, compare=False)
    summary: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        """Fills in the row."""
        if not self.row:
            object.__setattr__(self, "row", self.name)

    @property
    def family(self) -> str:
        """The word before the first dot; it names the files that handle it."""
        return self.name.partition(".")[0]

    @property
    def is_inbound(self) -> bool:
        """True when a client may send it."""
        return self.direction is not Direction.OUT

    @property
    def is_stored(self) -> bool:
        """True if the event is stored in the events lane."""
        return self.lane is Lane.EVENTS

    def schema(self) -> dict[str, Any]:
        """The JSON Schema of the payload as its sender writes it."""
        return dict(self.own_schema.document) if self.own_schema is not None else self.model.model_json_schema()


def broken(text: str, **limits: int) -> PydanticCustomError:
    """The validation error of one of our own rules; `text` completes "<field> …" and may contain no values except the limits."""
    return PydanticCustomError(RULE, text, dict(limits))
