"""What a projection is: a named, versioned, pure fold of events into state. Pure.

The law all of them keep: `fold(all) == fold(rest, from=load(dump(fold(first k))))`, for every k, to the byte.

`apply` takes the state over: it may change it in place and returns the one to go on with. A channel of 100,000 messages
could not be folded otherwise in useful time. So a state has one owner, and whoever needs two makes two from a `dump`.
Which events a deployment has is not this module's business; `projections.catalogue` says which folds a channel kind has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

from projections.recorded import Recorded
from streams.channel import Channel, Kind
from streams.json_bytes import Json, JsonObject

S = TypeVar("S")
Home: TypeAlias = Channel | Kind
"""Where a state belongs. A bare kind folds everything but uploads, whose IDs are derived from the whole channel."""
Dumped: TypeAlias = Any
"""A value out of our own dump, of the version its projection has now: only `load`, a codec, looks into it."""


class Projection(Protocol[S]):
    """A fold. `version` rises when the same events give another state, or the dumped form changes."""

    @property
    def name(self) -> str:
        """The word in snapshots and metrics."""

    @property
    def version(self) -> int:
        """The version of the state this code makes."""

    def initial(self, home: Home) -> S:
        """The state before the first event."""

    def apply(self, state: S, event: Recorded) -> S:
        """The state after the event. Types it does not know change nothing.

        Raises:
            BrokenEvent: a known type with a payload that is not what its type promises; the state is as before.
        """


class Part(Protocol):
    """A projection at work on one state, whatever the state's type is: what a channel's state is made of."""

    def apply(self, event: Recorded) -> None:
        """Go on to the state after the event."""

    def render(self) -> JsonObject:
        """The fields this part gives to `ChannelState`."""

    def dump(self) -> Json:
        """Everything needed to begin again here."""


class PartSource(Protocol):
    """What makes parts: a projection seen without its state's type."""

    @property
    def name(self) -> str:
        """The projection's name."""

    @property
    def version(self) -> int:
        """The projection's version."""

    @property
    def types(self) -> frozenset[str]:
        """The event types that change it."""

    def begin(self, home: Home) -> Part:
        """A part before the first event."""

    def restore(self, home: Home, value: Dumped) -> Part:
        """A part as it was dumped."""


@dataclass(slots=True)
class Folding(Generic[S]):
    """A projection and the one state it works on."""

    projection: DurableProjection[S]
    state: S

    def apply(self, event: Recorded) -> None:
        """Go on to the state after the event."""
        self.state = self.projection.apply(self.state, event)

    def render(self) -> JsonObject:
        """The fields this part gives to `ChannelState`."""
        return self.projection.render(self.state)

    def dump(self) -> Json:
        """Everything needed to begin again here."""
        return self.projection.dump(self.state)


@dataclass(frozen=True, slots=True)
class DurableProjection(Generic[S]):
    """A projection as data: which handler each event type has, and how its state is shown and kept.

    Attributes:
        handlers: event type → what it does to the state. A handler reads all it needs before it changes anything.
        render: the fields this state gives to `ChannelState` (EVENTS 11).
        dump: everything `load` needs, as JSON.
        load: the state a dump was made of; any other value raises KeyError, TypeError or ValueError.
    """

    name: str
    version: int
    initial: Callable[[Home], S]
    handlers: Mapping[str, Callable[[S, Recorded], None]]
    render: Callable[[S], JsonObject]
    dump: Callable[[S], Json]
    load: Callable[[Home, Dumped], S]

    @property
    def types(self) -> frozenset[str]:
        """The event types that change its state."""
        return frozenset(self.handlers)

    def begin(self, home: Home) -> Folding[S]:
        """This projection at work, before the first event."""
        return Folding(self, self.initial(home))

    def restore(self, home: Home, value: Dumped) -> Folding[S]:
        """This projection at work, where it was dumped."""
        return Folding(self, self.load(home, value))

    def apply(self, state: S, event: Recorded) -> S:
        """The state after the event; see `Projection.apply`."""
        handler = self.handlers.get(event.type)
        if handler is not None:
            handler(state, event)
        return state


def fold(projection: Projection[S], events: Iterable[Recorded], state: S) -> S:
    """The state after all the events, in order. `state` is taken over."""
    for event in events:
        state = projection.apply(state, event)
    return state


def kind_of(home: Home) -> Kind:
    """The kind of channel a state belongs to."""
    return home.kind if isinstance(home, Channel) else home
