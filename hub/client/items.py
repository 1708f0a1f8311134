"""The values a client hands out: items of a subscription, replies to commands, and the cursor that names a place. Pure.

The fields are those of the wire (docs/protocol.md#messages); nothing here parses or writes a frame.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

Payload: TypeAlias = Mapping[str, Any]
"""A JSON object as it came; its shape by event type is the catalogue's."""

FROM_START: Final = "0"
LIVE_ONLY: Final = "$"


@dataclass(frozen=True, slots=True)
class Cursor:
    """The last event seen in one channel, or the beginning (`after="0"`).

    Attributes:
        after: the event's id.
        seq: its number in the channel, by which the hub can prove that nothing is missing although the event is gone.
        epoch: the life of the stream it was read in. A cursor of another life is answered by a gap, never compared.
    """

    after: str
    seq: int | None = None
    epoch: str | None = None

    def to_wire(self) -> dict[str, object]:
        """The cursor as a frame carries it; absent fields left out."""
        wire: dict[str, object] = {"after": self.after}
        if self.seq is not None:
            wire["seq"] = self.seq
        if self.epoch is not None:
            wire["epoch"] = self.epoch
        return wire


@dataclass(frozen=True, slots=True)
class Event:
    """A stored event.

    Attributes:
        id: the stream's ID; strictly rising within the channel.
        seq: 1, 2, 3 … without holes within the channel.
        v: version of the payload of this `type`.
        raw: exactly the bytes received for this event; equal for every reader of one `seq`, live or replayed.
        epoch: the life of the stream it was read in; None where the hub did not say (history).
    """

    id: str
    seq: int
    channel: str
    type: str
    v: int
    actor: Payload
    meta: Payload
    payload: Payload
    raw: bytes = field(repr=False)
    epoch: str | None = field(default=None, compare=False)

    @property
    def cursor(self) -> Cursor:
        """The cursor after this event."""
        return Cursor(self.id, self.seq, self.epoch)


@dataclass(frozen=True, slots=True)
class Signal:
    """Something that is not stored and not replayed: typing, presence, a delta of an answer. May be lost."""

    channel: str
    type: str
    v: int
    actor: Payload
    meta: Payload
    payload: Payload
    raw: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Gap:
    """Events that cannot be delivered any more. The channel goes on after `head`, whose state is `state`.

    Attributes:
        reason: `trimmed`, `epoch_changed`, `cursor_unknown` or `too_far`.
        from_seq: first missing, inclusive; None where it cannot be known; `to_seq` likewise.
    """

    channel: str
    reason: str
    from_seq: int | None
    to_seq: int | None
    head: Cursor
    state: Payload | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Subscribed:
    """The hub's answer to a subscription, again after every resume. `replay` events follow before the live ones.

    Attributes:
        state_scope: `full`, or after a resume `live`: only who is here, who types and what is open, to be merged into the state
            that you have.
    """

    channel: str
    epoch: str | None
    head: Cursor
    floor: Cursor
    recovered: bool
    replay: int
    gap: Gap | None
    state: Payload | None = field(default=None, repr=False)
    state_at: int | None = None
    state_scope: str = "full"


@dataclass(frozen=True, slots=True)
class Receipt:
    """`channel.resumed`: the replayed range, None where nothing was."""

    channel: str
    from_seq: int | None
    to_seq: int | None
    count: int
    gap: Payload | None


Item: TypeAlias = Event | Signal | Gap | Receipt | Subscribed
"""Everything an iterator can yield; only events unless more was asked for."""


@dataclass(frozen=True, slots=True)
class Stored:
    """The receipt of a stored event: it can be read back by anyone from now on.

    Attributes:
        duplicate: the same command was stored before; `id` and `seq` are those of the first time.
        durability: `memory`, `fsync` or `replicated`.
        payload: the whole reply, with what its type adds (`run_id`, `disposition`, `version` …).
    """

    id: str
    seq: int
    duplicate: bool
    durability: str
    payload: Payload


@dataclass(frozen=True, slots=True)
class Reply:
    """The one answer to a command, when it is not an error. `raw` is its frame's own JSON."""

    type: str
    re: str
    channel: str | None
    payload: Payload
    raw: bytes = field(repr=False)

    @property
    def stored(self) -> Stored:
        """The receipt in this reply.

        Raises:
            ValueError: the command stores nothing, so there is none.
        """
        found = self.payload
        if "seq" not in found:
            raise ValueError(f"{self.type} answers a command that stores nothing; read .payload")
        return Stored(found["id"], found["seq"], found["duplicate"], found["durability"], found)


@dataclass(frozen=True, slots=True)
class History:
    """A page of the past. `next` is the `after` (or `before`) of the page that follows, None at the end."""

    events: tuple[Event, ...]
    next: str | None
    gap: Payload | None


@dataclass(frozen=True, slots=True)
class ChannelState:
    """A channel's state as of `state_at`, the seq of the last event folded into it."""

    channel: str
    epoch: str | None
    state: Payload
    state_at: int
