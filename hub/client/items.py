"""The values that the client returns: the items of a subscription, replies to commands, and cursors. Pure.

The fields are those of the wire (docs/protocol.md#messages); nothing here parses or writes messages.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

Payload: TypeAlias = Mapping[str, Any]
"""A JSON object as received; docs/events.md describes it for each event type."""

FROM_START: Final = "0"
LIVE_ONLY: Final = "$"


@dataclass(frozen=True, slots=True)
class Cursor:
    """The last event a reader has seen in one channel, or the beginning (`after="0"`).

    Attributes:
        after: the event's id.
        seq: its number in the channel, by which the hub can prove that nothing is missing even if the event was trimmed.
        epoch: the identity of the stream it was read from. The hub answers a cursor of another epoch with a gap.
    """

    after: str
    seq: int | None = None
    epoch: str | None = None

    def to_wire(self) -> dict[str, object]:
        """Returns the cursor as messages carry it, without absent fields."""
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
        id: the id in the Redis stream, strictly increasing within the channel.
        seq: 1, 2, 3 … without holes within the channel.
        v: version of the payload of this `type`.
        raw: exactly the bytes received for this event; the same for every reader, live or replayed.
        epoch: the identity of the stream it was read from; None where the hub did not give it (history).
        is_erased: a person was erased whose words it held; its payload is empty.
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
    is_erased: bool = False

    @property
    def cursor(self) -> Cursor:
        """The cursor after this event."""
        return Cursor(self.id, self.seq, self.epoch)


@dataclass(frozen=True, slots=True)
class Signal:
    """An event that is neither stored nor replayed: typing, presence, a delta of an answer. It may be lost."""

    channel: str
    type: str
    v: int
    actor: Payload
    meta: Payload
    payload: Payload
    raw: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Gap:
    """Events that cannot be delivered any more. The channel continues after `head` with the state `state`.

    Attributes:
        reason: `trimmed`, `epoch_changed`, `cursor_unknown` or `too_far`.
        from_seq: the first missing event, inclusive; None where it cannot be known.
        to_seq: the last missing event, likewise.
    """

    channel: str
    reason: str
    from_seq: int | None
    to_seq: int | None
    head: Cursor
    state: Payload | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Subscribed:
    """The hub's answer to a subscription, repeated after every resume. `replay` events follow before live ones.

    Attributes:
        state_scope: `full`, or after a resume `live`: only presence, typing and open messages, to be merged into the state
            that the reader already has.
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
    """`channel.resumed`: the range of replayed events, with None for both ends if there were none."""

    channel: str
    from_seq: int | None
    to_seq: int | None
    count: int
    gap: Payload | None


Item: TypeAlias = Event | Signal | Gap | Receipt | Subscribed
"""Everything that an iterator can yield; only events unless the options ask for more."""


@dataclass(frozen=True, slots=True)
class Stored:
    """The receipt of a stored event, which every reader can read from now on.

    Attributes:
        duplicate: True if the same command was stored before; `id` and `seq` are those of the first time.
        durability: `memory`, `fsync` or `replicated`.
        payload: the whole reply, with the fields specific to its type (`run_id`, `disposition`, `version` …).
    """

    id: str
    seq: int
    duplicate: bool
    durability: str
    payload: Payload


@dataclass(frozen=True, slots=True)
class Reply:
    """The reply to a command that was not refused. `raw` is its own JSON as received."""

    type: str
    re: str
    channel: str | None
    payload: Payload
    raw: bytes = field(repr=False)

    @property
    def stored(self) -> Stored:
        """Returns the receipt in this reply.

        Raises:
            ValueError: the command stores nothing.
        """
        found = self.payload
        if "seq" not in found:
            raise ValueError(f"{self.type} answers a command that stores nothing; read .payload")
        return Stored(found["id"], found["seq"], found["duplicate"], found["durability"], found)


@dataclass(frozen=True, slots=True)
class History:
    """A page of stored events. `next` is the `after` (or `before`) of the following page, None at the end."""

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
