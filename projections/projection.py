"""A projection: a named, versioned, pure fold of events into state, and how the newest of a list are shown. Pure.

The law all of them keep: `fold(all) == fold(rest, from=load(dump(fold(first k))))`, for every k, to the byte.

Handlers change the state in place: a channel of 100,000 messages could not be folded otherwise in useful time. So a state
has one owner, and whoever needs two makes two from a `dump`. `projections.channel_state` names the projections of each
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
    """An item as it is shown, and the ID of the newest event that holds all of it."""

    event_id: str
    shown: JsonObject


Lists = Mapping[str, Sequence[Item]]
"""Field of `ChannelState` → its items, oldest first."""


def items_of(shown: Sequence[JsonObject]) -> list[Item]:
    """Items that say by themselves which event they are of."""
    return [Item(str(one["id"]), one) for one in shown]


def render_within(fields: JsonObject, lists: Lists, bytes_max: int = DURABLE_BYTES_MAX) -> bytes:
    """The fields and the newest of each list as one JSON object.

    Each list gets an equal share of what the fields leave. Where older items are left out, `truncated` names the list, and the ID
    `before` which the log has all of them: the one after the newest event left out.
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
    """A projection as data: its handlers, and how its state is shown and kept.

    Attributes:
        version: rises when the same events give another state, or the dumped form changes.
        model: the fields that `render` gives to `ChannelState`; the published schema is made of these.
        handlers: event type → its effect on the state. A handler reads all it needs before it changes anything, and
            raises BrokenEvent for a payload that is not what its type promises.
        render: the fields this state gives to `ChannelState` (docs/protocol.md#state), but for `lists`.
        lists: the fields that may leave out their oldest items.
        dump: everything `load` needs, as JSON.
        load: the state a dump was made of; any other value raises KeyError, TypeError or ValueError.
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
        """Go on to the state after the event; types without a handler change nothing.

        Raises:
            BrokenEvent: the payload is not what its type promises; the state is as before.
        """
        handler = self.handlers.get(event.type)
        if handler is not None:
            handler(state, event)


@dataclass(slots=True)
class StatePart(Generic[S]):
    """A projection and the one state it works on: a part of a channel's state."""

    projection: Projection[S]
    state: S

    def apply(self, event: Recorded) -> None:
        """Go on to the state after the event, of a type that the projection has a handler for."""
        self.projection.handlers[event.type](self.state, event)

    def render(self) -> JsonObject:
        """The fields this part gives to `ChannelState`."""
        return self.projection.render(self.state)

    def lists(self) -> Lists:
        """The fields of this part that may leave out their oldest items."""
        return self.projection.lists(self.state)

    def dump(self) -> Json:
        """Everything needed to begin again here."""
        return self.projection.dump(self.state)


def kind_of(home: Home) -> Kind:
    """The kind of channel a state belongs to."""
    return home.kind if isinstance(home, Channel) else home
