"""A projection: a named, versioned, pure fold of events into state, and the rendering of the newest items of a list. Pure.

All of them obey: `fold(all) == fold(rest, from=load(dump(fold(first k))))`, for every k, to the byte.

Handlers change the state in place: a channel of 100,000 messages could not be folded otherwise in useful time. So a state
has one owner; a second state is made from a `dump`. `projections.channel_state` names the projections of each
kind of channel.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeAlias, TypeVar

from projections.recorded import Recorded
from streams.channel import Channel, Kind
from streams.cursor import id_order
from streams.events.declaration import Payload
from streams.json_bytes import Json, JsonObject, to_json

DURABLE_BYTES_MAX: Final = 229_376
"""The durable part of a state: 256 KiB less 32 KiB for the live fields. Settings and open questions count first, the lists share
the rest. A document's content is bounded by itself (`projections.documents`)."""


@dataclass(frozen=True, slots=True)
class Item:
    """An item as shown, and the ID of the newest event that holds all of it."""

    event_id: str
    shown: JsonObject


Lists = Mapping[str, Sequence[Item]]
"""Field of `ChannelState` → its items, oldest first."""


def items_of(shown: Sequence[JsonObject]) -> list[Item]:
    """Items that carry the ID of their own event."""
    return [Item(str(one["id"]), one) for one in shown]


def render_within(fields: JsonObject, lists: Lists, bytes_max: int = DURABLE_BYTES_MAX) -> bytes:
    """The fields and the newest of each list as one JSON object.

    Each list gets an equal share of the space left. If older items are left out, `truncated` names the list, and the ID
    `before` which the log has all of them: the one after the newest omitted event.
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
    """The newest items, oldest first, as many as fit in a row."""
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
"""The place a state belongs to; a bare kind is enough to fold."""
Dumped: TypeAlias = Any
"""A value out of our own dump, of the version its projection has now: only `load`, a codec, looks into it."""


@dataclass(frozen=True, slots=True)
class Projection(Generic[S]):
    """A projection as data: its handlers, and the rendering and dumping of its state.

    Attributes:
        version: raised when the same events give another state, or the dumped form changes.
        model: the fields that `render` adds to `ChannelState`; the published schema is made of these.
        handlers: event type → its effect on the state. A handler reads all it needs before it changes anything, and
            raises BrokenEvent for a payload that violates its type's schema.
        render: the fields of this state in `ChannelState` (docs/protocol.md#state), except `lists`.
        lists: the fields that may omit their oldest items.
        dump: everything `load` needs, as JSON.
        load: the state that a dump was made from; any other value raises KeyError, TypeError or ValueError.
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

    def apply(self, state: S, event: Recorded) -> None:
        """Apply the event; types without a handler change nothing.

        Raises:
            BrokenEvent: the payload violates its type's schema; the state is unchanged.
        """
        handler = self.handlers.get(event.type)
        if handler is not None:
            handler(state, event)


@dataclass(slots=True)
class StatePart(Generic[S]):
    """A projection and its state: a part of a channel's state."""

    projection: Projection[S]
    state: S

    def apply(self, event: Recorded) -> None:
        """Apply an event of a type that the projection has a handler for."""
        self.projection.handlers[event.type](self.state, event)

    def render(self) -> JsonObject:
        """The fields of this part in `ChannelState`."""
        return self.projection.render(self.state)

    def lists(self) -> Lists:
        """The fields of this part that may omit their oldest items."""
        return self.projection.lists(self.state)

    def dump(self) -> Json:
        """Everything needed to continue from here."""
        return self.projection.dump(self.state)


def kind_of(home: Home) -> Kind:
    """The kind of channel a state belongs to."""
    return home.kind if isinstance(home, Channel) else home
