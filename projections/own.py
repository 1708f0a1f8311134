"""Custom projections: pure functions that fold events into a JSON object, shown at `custom` in the state. Pure.

Each state is kept as JSON, so that a function that fails or modifies its argument leaves the state unchanged, and the state is the
same in every process.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from pydantic import Field

from projections.errors import BrokenEvent, SnapshotRefused
from projections.projection import Dumped, Home, Projection
from projections.recorded import Recorded, broken
from streams.channel import Kind
from streams.events.declaration import Payload
from streams.events.values import Maybe
from streams.json_bytes import Json, JsonObject, parse, to_json

STATES_BYTES_MAX: Final = 65_536
"""Maximum bytes of the states of a channel's custom projections together, as JSON. A whole state has at most 256 KiB."""
Fold = Callable[[JsonObject, Recorded], JsonObject]
"""Returns the state after an event; the first one gets `{}`. It must be pure, and quick: it runs in the node's event loop."""


@dataclass(frozen=True, slots=True)
class OwnProjection:
    """A custom projection.

    Attributes:
        types: the event types that it folds, built-in or custom.
        kinds: the kinds of channel that show it.
        version: to be raised when the same events give a different state.
    """

    fold: Fold
    types: frozenset[str]
    kinds: frozenset[Kind]
    version: int


def projects(*types: str, kinds: Iterable[str] = tuple(Kind), version: int = 1) -> Callable[[Fold], OwnProjection]:
    """Declares the function below it as a projection of these event types."""
    return lambda fold: OwnProjection(fold, frozenset(types), frozenset(Kind(kind) for kind in kinds), version)


class OwnFields(Payload):
    """The field of `ChannelState` that custom projections fill."""

    custom: Maybe[dict[str, dict[str, object]]] = Field(
        None, description="The states of the projections that `HUB_PROJECTIONS` names, by their names."
    )


class OwnProjections:
    """The custom projections that a process knows, as one projection for each kind of channel.

    Args:
        named: the projections by their names in the state.
    """

    def __init__(self, named: Mapping[str, OwnProjection] | None = None) -> None:
        named = named or {}
        self._by_kind: Mapping[Kind, Projection[dict[str, bytes]]] = MappingProxyType(
            {
                kind: _joined({name: one for name, one in named.items() if kind in one.kinds})
                for kind in Kind
                if any(kind in one.kinds for one in named.values())
            }
        )

    def of(self, kind: Kind) -> tuple[Projection[dict[str, bytes]], ...]:
        """The one projection that stands for all of this kind, or none."""
        return (self._by_kind[kind],) if kind in self._by_kind else ()


NO_OWN: Final = OwnProjections()
NAME: Final = "custom"
"""The name of the joined projection in snapshots."""


def _joined(named: Mapping[str, OwnProjection]) -> Projection[dict[str, bytes]]:
    def apply(state: dict[str, bytes], event: Recorded) -> None:
        failures: list[BrokenEvent] = []
        for name, one in named.items():
            if event.type in one.types:
                try:
                    state[name] = _folded(one.fold, state, name, event)
                except BrokenEvent as error:
                    failures.append(error)
        if failures:
            raise failures[0]

    def load(_home: Home, value: Dumped) -> dict[str, bytes]:
        if {name: version for name, (version, _) in value.items()} != versions:
            raise SnapshotRefused("the snapshot has other custom projections: fold them from the log")
        return {name: to_json(state) for name, (_, state) in value.items()}

    def dump(state: dict[str, bytes]) -> Json:
        return {name: [versions[name], parse(data)] for name, data in state.items()}

    versions = {name: one.version for name, one in named.items()}
    return Projection(
        name=NAME,
        version=1,
        model=OwnFields,
        initial=lambda _home: dict.fromkeys(named, b"{}"),
        handlers=dict.fromkeys((type_ for one in named.values() for type_ in one.types), apply),
        render=lambda state: {NAME: {name: parse(data) for name, data in state.items()}},
        dump=dump,
        load=load,
    )


def _folded(fold: Fold, states: Mapping[str, bytes], name: str, event: Recorded) -> bytes:
    """The state after the event.

    Raises:
        BrokenEvent: the function failed, or its state is no JSON object or too large.
    """
    before = states[name]
    try:
        after = fold(_object(before), event)
        data = to_json(after)
    except Exception as error:
        raise broken(event, f"the projection {name} failed: {type(error).__name__}: {error}") from error
    if not isinstance(after, dict):
        raise broken(event, f"the projection {name} returned no object")
    if sum(map(len, states.values())) - len(before) + len(data) > STATES_BYTES_MAX:
        raise broken(event, f"the projection {name} would need more than the {STATES_BYTES_MAX} bytes of own state")
    return data


def _object(data: bytes) -> JsonObject:
    value = parse(data)
    return value if isinstance(value, dict) else {}
