"""A channel's own settings: metadata, members and access lists, as changed by `channel.configure`. Pure.

The hub refuses a change that would exceed the limits before it is stored. Should one be stored nevertheless, every fold treats it
alike: metadata, members or access lists that the change would make too large keep their previous value.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from pydantic import Field

from projections.projection import Dumped, Home, Projection, kind_of
from projections.recorded import Recorded, broken
from streams.channel import Kind
from streams.events.declaration import Payload
from streams.events.values import Count, Maybe
from streams.json_bytes import Json, JsonObject, to_json

METADATA_BYTES_MAX: Final = 8_192
MEMBERS_MAX: Final = 1_000
ACCESS_BYTES_MAX: Final = 65_536
"""Maximum size of all access lists of a channel, as JSON: they are part of its state."""


class ChannelSettingsFields(Payload):
    """The fields of `ChannelState` for a channel's settings.

    The state of every channel also has `metadata`. A conversation takes `revision` from its own settings.
    """

    members: Maybe[list[str]] = Field(None, description="The members; absent in an inbox.")
    access: Maybe[dict[str, list[str]]] = Field(
        None, description="For each action with an access list, the users on it; absent in an inbox."
    )
    revision: Maybe[Count] = Field(
        None, description="Number of changes of the settings, to which `if_revision` is compared; absent in an inbox."
    )


@dataclass(slots=True)
class ChannelSettings:
    """A channel's settings.

    Attributes:
        access: for each action with an access list, the users who may perform it if their tokens allow it. For other actions
            only the tokens decide.
        revision: number of changes so far.
    """

    kind: Kind
    metadata: JsonObject = field(default_factory=dict)
    members: set[str] = field(default_factory=set)
    access: dict[str, list[str]] = field(default_factory=dict)
    revision: int = 0


def merged(metadata: JsonObject, patch: JsonObject) -> JsonObject | None:
    """The metadata after a merge patch (RFC 7396); None if the result would be too large."""
    found = _merge(metadata, patch)
    return found if len(to_json(found)) <= METADATA_BYTES_MAX else None


def _merge(target: Json, patch: JsonObject) -> JsonObject:
    found = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            found.pop(name, None)
        else:
            found[name] = _merge(found.get(name), value) if isinstance(value, dict) else value
    return found


def changed_members(members: set[str], change: JsonObject) -> set[str] | None:
    """The members after a change; None if there would be too many. A user who is both added and removed is removed."""
    found = (members | _names(change.get("add"))) - _names(change.get("remove"))
    return found if len(found) <= MEMBERS_MAX else None


def changed_access(access: Mapping[str, list[str]], change: JsonObject) -> dict[str, list[str]] | None:
    """The access lists after a change; None if they would be too large."""
    found = {action: names for action, names in access.items() if action not in change}
    found |= {action: sorted(_names(names)) for action, names in change.items() if names is not None}
    return found if len(to_json(found)) <= ACCESS_BYTES_MAX else None


def _names(value: Json) -> set[str]:
    return {name for name in value if isinstance(name, str)} if isinstance(value, list) else set()


def _configure(state: ChannelSettings, event: Recorded) -> None:
    metadata, members, access = (event.payload.get(name, {}) for name in ("metadata", "members", "access"))
    if not (isinstance(metadata, dict) and isinstance(members, dict) and isinstance(access, dict)):
        raise broken(event, "metadata, members and access must be objects")
    patched = merged(state.metadata, metadata)
    state.metadata = state.metadata if patched is None else patched
    changed = changed_members(state.members, members)
    state.members = state.members if changed is None else changed
    lists = changed_access(state.access, access)
    state.access = state.access if lists is None else lists
    state.revision += 1


def _initial(home: Home) -> ChannelSettings:
    return ChannelSettings(kind_of(home))


def _render(state: ChannelSettings) -> JsonObject:
    access: JsonObject = {action: [*state.access[action]] for action in sorted(state.access)}
    shown: JsonObject = {"metadata": state.metadata, "members": [*sorted(state.members)], "access": access}
    return shown if state.kind is Kind.CONVERSATION else shown | {"revision": state.revision}


def _dump(state: ChannelSettings) -> Json:
    return [
        state.metadata,
        [*sorted(state.members)],
        {action: [*names] for action, names in state.access.items()},
        state.revision,
    ]


def _load(home: Home, value: Dumped) -> ChannelSettings:
    metadata, members, access, revision = value
    return ChannelSettings(kind_of(home), metadata, set(members), access, revision)


CHANNEL_SETTINGS: Final = Projection(
    name="channel",
    version=1,
    model=ChannelSettingsFields,
    initial=_initial,
    handlers={"channel.configure": _configure},
    render=_render,
    dump=_dump,
    load=_load,
)
"""The fold that provides `metadata`, `members`, `access`, and `revision` except for conversations."""
