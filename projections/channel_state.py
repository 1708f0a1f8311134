"""The state of one channel at one seq: its projections, advanced together, shown and kept as bytes. Pure.

`render` is the D part of `ChannelState` (EVENTS 11), the same bytes however the state came about. `dump` is for
`load` alone. Where snapshots are kept is not this module's business; whoever keeps them must keep them by the log's
epoch, because a channel that begins anew counts its seq anew and would be ignored by an old state.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, TypeVar

from projections.catalogue import CATALOGUE
from projections.errors import EventsMissing, SnapshotRefused
from projections.projection import DurableProjection, Folding, Home, Part, PartSource, kind_of
from projections.recorded import Recorded, recorded
from streams.channel import Channel, Kind, channel_from_path
from streams.envelope import Entry
from streams.errors import MalformedChannel
from streams.ids import START
from streams.json_bytes import Json, JsonObject, parse, to_json

S = TypeVar("S")


def _interested(kind: Kind) -> Mapping[bytes, tuple[int, ...]]:
    """Event type → which of the kind's projections it changes. What is not here need not even be parsed."""
    wanted: dict[bytes, tuple[int, ...]] = {}
    for index, source in enumerate(CATALOGUE[kind]):
        for name in source.types:
            wanted[name.encode()] = (*wanted.get(name.encode(), ()), index)
    return MappingProxyType(wanted)


_INTERESTED: Final = MappingProxyType({kind: _interested(kind) for kind in Kind})
_FORMAT: Final = 1
"""Version of the snapshot's outer form; what is inside has the versions of its projections."""


class ChannelState:
    """A channel's state, changed in place by `advance`. It has one owner; a second one is made by `load(dump(…))`.

    Attributes:
        home: the channel, or its kind alone.
        id: the ID of the last event folded; "0" before the first.
        seq: its seq, and so the count of events so far.
    """

    __slots__ = ("_interested", "_parts", "_rendered", "home", "id", "seq")

    def __init__(self, home: Home, parts: tuple[Part, ...], event_id: str = START, seq: int = 0) -> None:
        self.home = home
        self.id = event_id
        self.seq = seq
        self._parts = parts
        self._interested = _INTERESTED[kind_of(home)]
        self._rendered: bytes | None = None

    @property
    def parts(self) -> tuple[Part, ...]:
        """The projections at work, in the catalogue's order."""
        return self._parts

    def of(self, projection: DurableProjection[S]) -> S:
        """The state of one of this channel's projections, for reading.

        Raises:
            KeyError: this kind of channel does not have it.
        """
        for part in self._parts:
            if isinstance(part, Folding) and part.projection is projection:
                state: S = part.state
                return state
        raise KeyError(projection.name)

    def advance(self, event: Entry | Recorded) -> bool:
        """Fold the next event; false when it was folded before (its seq is not above ours), which changes nothing.

        The first event may have any seq: a log may have been trimmed before it.

        Raises:
            EventsMissing: its seq is not the one after ours. Nothing changed.
            BrokenEvent: it is broken; it was passed over, so the next one can be folded.
        """
        if event.seq != self.seq + 1:
            if event.seq <= self.seq:
                return False
            if self.seq:
                raise EventsMissing(self.seq, event.seq)
        self.seq, self._rendered = event.seq, None
        if isinstance(event, Entry):
            self.id = event.id.decode()
            indexes = self._interested.get(event.type)
            if indexes is None:
                return True
            event = recorded(event)
        else:
            self.id, indexes = event.id, self._interested.get(event.type.encode(), ())
        for index in indexes:
            self._parts[index].apply(event)
        return True

    def render(self) -> bytes:
        """The D part of `ChannelState` as canonical JSON. Made once for each seq: many join at the same one."""
        if self._rendered is None:
            shown: JsonObject = {"metadata": {}, "count": self.seq}
            for part in self._parts:
                shown |= part.render()
            self._rendered = to_json(shown)
        return self._rendered

    def dump(self) -> bytes:
        """The state as a snapshot."""
        home = self.home.path if isinstance(self.home, Channel) else self.home.value
        parts: dict[str, Json] = {
            source.name: [source.version, part.dump()]
            for source, part in zip(CATALOGUE[kind_of(self.home)], self._parts, strict=True)
        }
        return to_json({"format": _FORMAT, "home": home, "id": self.id, "seq": self.seq, "parts": parts})


class ChannelFold:
    """The fold of a whole channel, as functions: what `Projection` is for one state, this is for all of a channel's."""

    @staticmethod
    def initial(home: Home) -> ChannelState:
        """The state before the first event."""
        return ChannelState(home, tuple(source.begin(home) for source in CATALOGUE[kind_of(home)]))

    @staticmethod
    def apply(state: ChannelState, event: Entry | Recorded) -> ChannelState:
        """The state after the event; `state` is taken over. See `ChannelState.advance`."""
        state.advance(event)
        return state

    @staticmethod
    def render(state: ChannelState) -> bytes:
        """The D part of `ChannelState` as canonical JSON."""
        return state.render()

    @staticmethod
    def dump(state: ChannelState) -> bytes:
        """The state as a snapshot."""
        return state.dump()

    @staticmethod
    def load(snapshot: bytes) -> ChannelState:
        """The state a snapshot was made of.

        Raises:
            SnapshotRefused: made by other versions of the projections, or no snapshot. Rebuild from the log.
        """
        try:
            return _load(snapshot)
        except (LookupError, TypeError, ValueError, AttributeError, MalformedChannel, RecursionError) as error:
            raise SnapshotRefused(f"the snapshot cannot be read ({error!r}): rebuild from the log") from error


def _load(snapshot: bytes) -> ChannelState:
    value = parse(snapshot)
    if not isinstance(value, dict) or value["format"] != _FORMAT:
        raise SnapshotRefused("the snapshot has another form: rebuild from the log")
    home_text, event_id, seq, parts = value["home"], value["id"], value["seq"], value["parts"]
    if not (isinstance(home_text, str) and isinstance(event_id, str) and isinstance(seq, int)):
        raise SnapshotRefused("the snapshot's head is broken: rebuild from the log")
    home: Home = channel_from_path(home_text) if ":" in home_text else Kind(home_text)
    sources = CATALOGUE[kind_of(home)]
    if not isinstance(parts, dict) or parts.keys() != {source.name for source in sources}:
        raise SnapshotRefused("the snapshot has other projections: rebuild from the log")
    return ChannelState(home, tuple(_restore(source, home, parts[source.name]) for source in sources), event_id, seq)


def _restore(source: PartSource, home: Home, kept: Json) -> Part:
    """One part out of its [version, dump]."""
    if not isinstance(kept, list) or kept[0] != source.version:
        raise SnapshotRefused(f"the snapshot's {source.name} is of another version: rebuild from the log")
    return source.restore(home, kept[1])
