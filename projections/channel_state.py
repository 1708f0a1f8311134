"""The state of one channel after one seq: its projections, folded, rendered and serialised together, and its schema. Pure.

`render` gives the durable part of `ChannelState` (docs/protocol.md#state); the bytes do not depend on how the state was
reached. `dump` is only for `load`. A snapshot must be stored with the log's epoch: a channel that starts over counts its seq
from 1 again, and an old state would ignore its events.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, TypeVar

from pydantic import Field, create_model

from projections.agent_runs import AGENT_RUNS, PENDING_REQUESTS
from projections.channel_settings import CHANNEL_SETTINGS
from projections.conversation import CONVERSATION
from projections.documents import DOCUMENTS
from projections.errors import EventsMissing, SnapshotRefused
from projections.live import LiveStateFields
from projections.own import NAME as OWN
from projections.own import NO_OWN, OwnFields, OwnProjections
from projections.projection import Home, Item, Projection, StatePart, kind_of, render_within
from projections.recorded import Recorded, recorded
from projections.rollout import ROLLOUT
from projections.teams import NOTIFICATIONS, TEAMS
from streams.channel import Channel, Kind, channel_from_path
from streams.cursor import START
from streams.envelope import Entry
from streams.errors import MalformedChannel
from streams.events.declaration import Payload
from streams.events.schemas import Schema, schema_of
from streams.events.values import Count, EventId, Maybe
from streams.json_bytes import Json, JsonObject, parse, to_json

S = TypeVar("S")

PROJECTIONS: Final[Mapping[Kind, tuple[Projection[Any], ...]]] = MappingProxyType(
    {
        Kind.CONVERSATION: (CHANNEL_SETTINGS, CONVERSATION, AGENT_RUNS, PENDING_REQUESTS),
        Kind.AGENT: (CHANNEL_SETTINGS, CONVERSATION, AGENT_RUNS, PENDING_REQUESTS),
        Kind.TEAM: (CHANNEL_SETTINGS, TEAMS),
        Kind.DOCUMENT: (CHANNEL_SETTINGS, DOCUMENTS),
        Kind.USER: (NOTIFICATIONS,),
        Kind.SYSTEM: (ROLLOUT,),
    }
)
"""The projections of each kind of channel, in the order in which their fields are rendered. Where two handle the same event
type, the one with the stricter checks comes first, so that a broken event changes neither.
"""


def _interested(kind: Kind) -> Mapping[bytes, tuple[int, ...]]:
    """For each event type that changes the state, the indexes of the kind's projections that handle it.

    Events of other types are not even parsed.
    """
    wanted: dict[bytes, tuple[int, ...]] = {}
    for index, projection in enumerate(PROJECTIONS[kind]):
        for name in projection.handlers:
            wanted[name.encode()] = (*wanted.get(name.encode(), ()), index)
    return MappingProxyType(wanted)


_INTERESTED: Final = MappingProxyType({kind: _interested(kind) for kind in Kind})
_FORMAT: Final = 1
"""Version of the snapshot's outer form; each projection's part has a version of its own."""


class ChannelState:
    """A channel's state, changed in place by `advance`. Only its owner may use it; `load(state.dump())` makes a copy.

    Attributes:
        home: the channel, or only its kind.
        id: the ID of the last event folded; "0" before the first.
        seq: the seq of that event, and thus the number of events so far.
        is_own_behind: the snapshot had no state of the custom projections, which `advance_own` makes up for.
    """

    __slots__ = ("_but", "_interested", "_own", "_parts", "_rendered", "home", "id", "is_own_behind", "seq")

    def __init__(
        self,
        home: Home,
        parts: tuple[StatePart[Any], ...],
        event_id: str = START,
        seq: int = 0,
        own: StatePart[Any] | None = None,
        *,
        is_own_behind: bool = False,
    ) -> None:
        self.home = home
        self.id = event_id
        self.seq = seq
        self.is_own_behind = is_own_behind
        self._parts = parts
        self._own = own
        self._interested = _INTERESTED[kind_of(home)]
        self._rendered: bytes | None = None
        self._but = ""

    @classmethod
    def begin(cls, home: Home, own: OwnProjections = NO_OWN) -> ChannelState:
        """The state before the first event."""
        parts = tuple(StatePart(one, one.initial(home)) for one in PROJECTIONS[kind_of(home)])
        return cls(home, parts, own=_begun(home, own))

    @classmethod
    def load(cls, snapshot: bytes, own: OwnProjections = NO_OWN) -> ChannelState:
        """Restore a state from its snapshot.

        Raises:
            SnapshotRefused: the bytes are no snapshot, or one of other versions of the projections. Fold from the log instead.
        """
        try:
            return _load(snapshot, own)
        except (LookupError, TypeError, ValueError, AttributeError, MalformedChannel, RecursionError) as error:
            raise SnapshotRefused(f"the snapshot cannot be read ({error!r}): rebuild from the log") from error

    @property
    def parts(self) -> tuple[StatePart[Any], ...]:
        """The projections with their states, in the order of `PROJECTIONS`."""
        return self._parts

    @property
    def _kept(self) -> tuple[StatePart[Any], ...]:
        return self._parts if self._own is None else (*self._parts, self._own)

    def of(self, projection: Projection[S]) -> S:
        """The state of one of this channel's projections, for reading only.

        Raises:
            KeyError: this kind of channel does not have the projection.
        """
        for part in self._parts:
            if part.projection is projection:
                state: S = part.state
                return state
        raise KeyError(projection.name)

    def advance(self, event: Entry | Recorded) -> bool:
        """Fold the next event. Returns false, and changes nothing, if it was folded before (its seq is not above the state's).

        The first event may have any seq, because the log before it may have been trimmed.

        Raises:
            EventsMissing: the event's seq is not the state's plus one. Nothing is changed.
            BrokenEvent: the event is invalid. It is skipped, so the next one can be folded.
        """
        if event.seq != self.seq + 1:
            if event.seq <= self.seq:
                return False
            if self.seq:
                raise EventsMissing(self.seq, event.seq)
        self.seq, self._rendered = event.seq, None
        if isinstance(event, Entry):
            self.id = event.id.decode()
            indexes = self._interested.get(event.type, ())
            if not (indexes or event.is_damaged or self._wants_own(event.type)):
                return True
            event = recorded(event)
        else:
            self.id, indexes = event.id, self._interested.get(event.type.encode(), ())
        try:
            for index in indexes:
                self._parts[index].apply(event)
        finally:  # neither may depend on the other
            self._apply_own(event)
        return True

    def render(self, *, but: str = "") -> bytes:
        """The durable part of `ChannelState` as JSON, without the field `but`.

        Cached until the next event, for many subscribers at once.
        """
        if self._rendered is None or self._but != but:
            shown: JsonObject = {"metadata": {}, "count": self.seq}
            lists: dict[str, Sequence[Item]] = {}
            if self._own is not None:
                shown |= self._own.render()
            for part in self._parts:
                shown |= part.render()
                lists |= part.lists()
            shown.pop(but, None)
            self._but = but
            self._rendered = render_within(shown, lists)
        return self._rendered

    def advance_own(self, event: Entry) -> None:
        """Folds an event up to `seq` again, for the custom projections alone.

        Raises:
            BrokenEvent: it is broken, or one of the projections failed; it was skipped.
        """
        if self._wants_own(event.type):
            self._rendered = None
            self._apply_own(recorded(event))

    def own_caught_up(self) -> None:
        """Notes that `advance_own` was given every event."""
        self.is_own_behind = False

    def _wants_own(self, type_: bytes) -> bool:
        return self._own is not None and type_.decode() in self._own.projection.handlers

    def _apply_own(self, event: Recorded) -> None:
        if self._own is not None and event.type in self._own.projection.handlers:
            self._own.apply(event)

    def dump(self) -> bytes:
        """The state as a snapshot."""
        home = self.home.path if isinstance(self.home, Channel) else self.home.value
        parts: dict[str, Json] = {part.projection.name: [part.projection.version, part.dump()] for part in self._kept}
        return to_json({"format": _FORMAT, "home": home, "id": self.id, "seq": self.seq, "parts": parts})


def _begun(home: Home, own: OwnProjections) -> StatePart[Any] | None:
    """The custom projections before the first event; None where there are none."""
    return next((StatePart(one, one.initial(home)) for one in own.of(kind_of(home))), None)


def _load(snapshot: bytes, own: OwnProjections) -> ChannelState:
    value = parse(snapshot)
    if not isinstance(value, dict) or value["format"] != _FORMAT:
        raise SnapshotRefused("the snapshot is in another format: rebuild from the log")
    home_text, event_id, seq, parts = value["home"], value["id"], value["seq"], value["parts"]
    if not (isinstance(home_text, str) and isinstance(event_id, str) and isinstance(seq, int)):
        raise SnapshotRefused("the snapshot's head is broken: rebuild from the log")
    home: Home = channel_from_path(home_text) if ":" in home_text else Kind(home_text)
    projections = PROJECTIONS[kind_of(home)]
    if not isinstance(parts, dict) or parts.keys() - {OWN} != {one.name for one in projections}:
        raise SnapshotRefused("the snapshot has other projections: rebuild from the log")
    restored = tuple(_restore(one, home, parts[one.name]) for one in projections)
    part, is_behind = _begun(home, own), False
    for one in own.of(
        kind_of(home)
    ):  # theirs may be made up for from the log: they must not cost what it no longer holds
        try:
            part = _restore(one, home, parts[OWN])
        except (SnapshotRefused, LookupError, TypeError, ValueError, AttributeError):
            is_behind = True
    return ChannelState(home, restored, event_id, seq, part, is_own_behind=is_behind)


def _restore(projection: Projection[S], home: Home, kept: Json) -> StatePart[S]:
    """Restore one projection's state from its [version, dump]."""
    if not isinstance(kept, list) or kept[0] != projection.version:
        raise SnapshotRefused(f"the snapshot's {projection.name} is of another version: rebuild from the log")
    return StatePart(projection, projection.load(home, kept[1]))


class LeftOut(Payload):
    """Marks a list whose oldest items are omitted; `channel.history` before this ID returns them."""

    before: EventId = Field(description="ID before which `channel.history` reads the items that were left out.")


class CommonFields(Payload):
    """The fields that every state has."""

    metadata: dict[str, object] = Field(description="The channel's metadata, as set by `channel.configure`.")
    count: Count = Field(description="Number of events so far, removed ones included.")
    truncated: Maybe[dict[str, LeftOut]] = Field(
        None,
        description="For each list that was cut to keep the state small, the position before which its older "
        "items can be read; absent if no list was cut.",
    )


def _all_fields() -> type[Payload]:
    models = dict.fromkeys(projection.model for several in PROJECTIONS.values() for projection in several)
    bases: tuple[type[Payload], ...] = (CommonFields, OwnFields, *models, LiveStateFields)
    return create_model(
        "ChannelState",
        __base__=bases[::-1],  # pydantic lists the fields of the last base first
        __doc__="The state of one channel: facts exact at `state_at`, the live part as of now.",
    )


CHANNEL_STATE: Final = _all_fields()
"""The model of the state of all kinds of channel; fields of other kinds are absent."""


def state_schema() -> dict[str, Schema]:
    """The JSON Schemas of `ChannelState` and the models inside it, by published name."""
    schema = schema_of(CHANNEL_STATE)
    inner = schema.pop("$defs")
    assert isinstance(inner, dict)  # noqa: S101 - tells the type checker what schema_of makes
    return {"ChannelState": schema, **inner}
