"""The declaration of an event type: once, as data, read by everything that enumerates events. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from pydantic import BaseModel, ConfigDict
from pydantic_core import PydanticCustomError

from streams.channel import Kind
from streams.envelope import Lane

ALL_KINDS: Final = frozenset(Kind)
NO_CHANNEL: Final[frozenset[Kind]] = frozenset()
RULE: Final = "rule"
"""The type of the errors that our own rules raise, beside pydantic's."""


class Direction(StrEnum):
    """The sender: a client, the hub, or a client first and then the hub to every subscriber."""

    IN = "in"
    OUT = "out"
    BOTH = "both"


class Action(StrEnum):
    """The actions a grant may allow (docs/protocol.md#tokens)."""

    READ = "read"
    WRITE = "write"
    INVOKE = "invoke"
    UPLOAD = "upload"
    MANAGE = "manage"


class Payload(BaseModel):
    """A payload: strict, no unknown fields, no infinities. Unset fields are left out of what is stored."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, frozen=True, hide_input_in_errors=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class EventType:
    """The declaration of one event type (a row of the catalogue).

    Attributes:
        model: the payload as its sender writes it.
        delivered: the payload as subscribers get it, where the hub adds to it (`user`); None when it is `model`.
        kinds: the kinds of channel it may be sent to; empty for those that have no channel.
        action: what the sender's grant must allow; None when nothing is asked.
        rate: its rate class (docs/protocol.md#rates); None for what clients never send.
        reply: the type that answers it; "ack" when it has no type of its own, None when there is no answer.
        reply_model: the reply's payload where it is not the model of the type that `reply` names.
        results: the fields that the reply adds to `Stored` for this command.
        errors: codes it may be answered with besides those that any command may get.
        is_id_required: false for the four that may go without an `id`.
        is_wanted: a consumer handles it, so a work entry is written with it.
        is_served: false for what is declared but not offered yet: from a client it is an unknown type (4005).
        limit_bytes: upper bound of the payload's JSON.
        ag_ui: its counterpart in AG-UI 1.0; None when there is none.
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
    is_served: bool = True
    limit_bytes: int = 1_048_576
    ag_ui: str | None = None
    summary: str = field(default="", compare=False)

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
        """True for a fact of the events lane."""
        return self.lane is Lane.EVENTS

    def schema(self) -> dict[str, Any]:
        """The JSON Schema of what its sender writes."""
        return self.model.model_json_schema()


def broken(text: str, **limits: int) -> PydanticCustomError:
    """The error that one of our own rules raises; `text` completes "<field> …" and mentions at most the limits."""
    return PydanticCustomError(RULE, text, dict(limits))
