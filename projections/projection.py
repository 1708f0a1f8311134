"""A projection: a named, versioned, pure fold of events into state, and the rendering of its lists within a size limit. Pure.

Every projection obeys `fold(all) == fold(rest, from=load(dump(fold(first k))))`, for every k and byte for byte.

Handlers change the state in place, because copying it for each event would make folding a channel of 100,000 messages too slow.
So a state has one owner, and a copy is made by `dump` and `load`. `projections.channel_state` lists the projections of each
kind of channel.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Generic, TypeAlias, TypeVar

from projections.recorded import Recorded
from streams.channel import Channel, Kind
from streams.cursor import id_order
from streams.events.declaration import Payload
from streams.json_bytes import Json, JsonObject, to_json

DURABLE_BYTES_MAX: Final = 229_376
"""Maximum size of the durable part of a state: 256 KiB less 32 KiB for the live fields. Settings and open questions come first,
and the lists share the rest. A document's content has a limit of its own (`projections.documents`).
"""


@dataclass(frozen=True, slots=True)
class Item:
    """An item of a list as shown, and the ID of the newest event needed to build it."""

    event_id: str
    shown: JsonObject


Lists = Mapping[str, Sequence[Item]]
"""The lists of a state: field of `ChannelState` → its items, oldest first."""


def items_of(shown: Sequence[JsonObject]) -> list[Item]:
    """Wrap items that carry the ID of their own event."""
    return [Item(str(one["id"]), one) for one in shown]


def render_within(fields: JsonObject, lists: Lists, bytes_max: int = DURABLE_BYTES_MAX) -> bytes:
    """Render the fields, and the newest items of each list, as one JSON object.

    Each list gets an equal share of the remaining space. If older items are omitted, `truncated` has the list's name and
    `before`: the ID right after the newest omitted event, so that the log before it contains all of them.
    """
    if not lists:
        return to_json(fields)
    pieces, truncated = [], {}
    share = (bytes_max - len(to_json(fields))) // len(lists)
    for name, items in lists.items():
        kept = _newest(items, share)
        if left_out := items[: len(items) - len(kept)]:
            truncated[name] = {"before": _after(max((item.event_id for item in left_out), key=id_order))}
        pieces.append(to_json(name) + b":[" + b",".join(kept) + b"]")
    shown = {**fields, "truncated": truncated} if truncated else fields
    return to_json(shown)[:-1] + b"," + b",".join(pieces) + b"}"


def _newest(items: Sequence[Item], bytes_max: int) -> list[bytes]:
    """The newest items, oldest first, as many as fit into `bytes_max`."""
    kept: list[bytes] = []
    for item in reversed(items):
        piece = to_json(item.shown)
        bytes_max -= len(piece) + 1
        if bytes_max < 0:
            break
        kept.append(piece)
    return kept[::-1]


def _after(event_id: str) -> str:
    """The ID right after this one."""
    ms, n = id_order(event_id)
    return f"{ms}-{n + 1}"


S = TypeVar("S")
Home: TypeAlias = Channel | Kind
"""The channel of a state; its kind alone is sufficient for folding."""
Dumped: TypeAlias = Any
"""A value from a dump of the projection's current version; only `load` interprets it."""


@dataclass(frozen=True, slots=True)
class Projection(Generic[S]):
    """A projection as data: its handlers, and the rendering and serialisation of its state.

    Attributes:
        version: to be raised when the same events give a different state, or the dumped form changes.
        model: the fields that `render` adds to `ChannelState`; the published schema is built from these models.
        handlers: event type → the function that applies it to the state. A handler reads all it needs before it changes
            anything, and raises BrokenEvent for a payload that violates its type's schema.
        render: the fields of this state in `ChannelState` (docs/protocol.md#state), except `lists`.
        lists: the fields whose oldest items may be omitted.
        erased: event type → the function that applies an erased event, whose payload is empty; those of other types change
            nothing.
        dump: converts the state to JSON, with everything that `load` needs.
        load: restores a state from its dump; raises KeyError, TypeError or ValueError for any other value.
    """

    name: str
    version: int
    model: type[Payload]
    initial: Callable[[Home], S]
    handlers: Mapping[str, Callable[[S, Recorded], None]]
    render: Callable[[S], JsonObject]
    dump: Callable[[S], Json]
    load: Callable[[Home, Dumped], S]
    lists: Callable[[S], Lists] = lambda _state: {}
    erased: Mapping[str, Callable[[S, Recorded], None]] = field(default_factory=dict)

    def apply(self, state: S, event: Recorded) -> None:
        """Apply the event; types without a handler change nothing.

        Raises:
            BrokenEvent: the payload violates its type's schema; the state is unchanged.
        """
        handler = (self.erased if event.is_erased else self.handlers).get(event.type)
        if handler is not None:
            handler(state, event)


@dataclass(slots=True)
class StatePart(Generic[S]):
    """A projection together with its state: one part of a channel's state."""

    projection: Projection[S]
    state: S

    def apply(self, event: Recorded) -> None:
        """Apply an event of a type that the projection has a handler for."""
        self.projection.apply(self.state, event)

    def render(self) -> JsonObject:
        """The fields of this part in `ChannelState`."""
        return self.projection.render(self.state)

    def lists(self) -> Lists:
        """The fields of this part whose oldest items may be omitted."""
        return self.projection.lists(self.state)

    def dump(self) -> Json:
        """The part as JSON, with everything needed to restore it."""
        return self.projection.dump(self.state)


def kind_of(home: Home) -> Kind:
    """The kind of the channel that a state belongs to."""
    return home.kind if isinstance(home, Channel) else home
