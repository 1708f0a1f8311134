"""A tenant's rollout: the part of its users that get WebSocket, and the variants, as changed by `rollout.changed`. Pure.

A user's place among all users is a number from 0 up to 100 that never changes: the hash of tenant and user. A percentage
takes the users below it, so raising it from 0 to 100 moves each user once.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Final

from pydantic import Field

from projections.projection import Dumped, Home, Projection
from projections.recorded import Recorded, actor_name, broken, optional_list
from streams.events.declaration import Payload
from streams.events.rollout import ALL_PERCENT, VARIANT_CHARS_MAX, VARIANT_PATTERN, Percent, VariantShare
from streams.events.values import Count, EventId, Maybe
from streams.json_bytes import Json, JsonObject

WEBSOCKET: Final = "websocket"
VARIANT: Final = "variant"
_VARIANT_NAME: Final = re.compile(VARIANT_PATTERN)
_HASH_BYTES: Final = 6
"""Bytes of a hash that a place is made of; a float holds them exactly."""
_HASHES: Final = float(1 << 8 * _HASH_BYTES)


class RolloutState(Payload):
    """The rollout of a tenant."""

    websocket_percent: Percent = Field(description="Percentage of the users that may use WebSocket.")
    variants: list[VariantShare] = Field(description="The variants, in the order in which they share the users.")
    revision: Count = Field(description="Number of changes so far.")
    changed_by: str = Field(description="The user who made the last change.")
    changed_id: EventId = Field(description="ID of the event of the last change.")


class RolloutFields(Payload):
    """The field of `ChannelState` for the rollout."""

    rollout: Maybe[RolloutState] = Field(
        None, description="The tenant's rollout; only in `system:rollout`, once it was changed."
    )


@dataclass(slots=True)
class Rollout:
    """The rollout of a tenant. Nothing was changed yet while `revision` is 0: everybody may use WebSocket.

    Attributes:
        variants: (name, percentage) of each variant.
    """

    websocket_percent: float = ALL_PERCENT
    variants: list[tuple[str, float]] = field(default_factory=list)
    revision: int = 0
    changed_by: str = ""
    changed_id: str = ""

    def is_websocket_on(self, tenant: str, user: str) -> bool:
        """True if the user may use WebSocket."""
        return place_of(WEBSOCKET, tenant, user) < self.websocket_percent

    def variant_of(self, tenant: str, user: str) -> str:
        """The user's variant; empty if they have none."""
        place, end = place_of(VARIANT, tenant, user), 0.0
        for name, percent in self.variants:
            end += percent
            if place < end:
                return name
        return ""


def place_of(question: str, tenant: str, user: str) -> float:
    """The user's place among all users for one question, from 0 up to but not including 100; independent of other questions."""
    digest = sha256(f"{question}\0{tenant}\0{user}".encode()).digest()
    return int.from_bytes(digest[:_HASH_BYTES]) * ALL_PERCENT / _HASHES


def _changed(state: Rollout, event: Recorded) -> None:
    percent = _percent(event, event.payload.get("websocket_percent", state.websocket_percent))
    listed = optional_list(event, "variants")
    variants = state.variants if listed is None else [_variant(event, one) for one in listed]
    by = actor_name(event)
    state.websocket_percent, state.variants = percent, variants
    state.revision, state.changed_by, state.changed_id = state.revision + 1, by, event.id


def _percent(event: Recorded, value: Json) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= ALL_PERCENT:
        return float(value)
    raise broken(event, "a percentage must be a number from 0 to 100")


def _variant(event: Recorded, value: Json) -> tuple[str, float]:
    name = value.get("name") if isinstance(value, Mapping) else None
    if isinstance(value, Mapping) and isinstance(name, str) and _is_variant_name(name):
        return name, _percent(event, value.get("percent"))
    raise broken(event, "variants must be objects with a name and a percent")


def _is_variant_name(name: str) -> bool:
    return len(name) <= VARIANT_CHARS_MAX and _VARIANT_NAME.fullmatch(name) is not None


def shown(state: Rollout) -> JsonObject:
    """The rollout as JSON, as `RolloutState` describes it; without `changed_by` and `changed_id` if nothing was changed yet."""
    found: JsonObject = {
        "websocket_percent": state.websocket_percent,
        "variants": [{"name": name, "percent": percent} for name, percent in state.variants],
        "revision": state.revision,
    }
    return found | {"changed_by": state.changed_by, "changed_id": state.changed_id} if state.revision else found


def _render(state: Rollout) -> JsonObject:
    return {"rollout": shown(state)} if state.revision else {}


def _load(_home: Home, kept: Dumped) -> Rollout:
    percent, variants, revision, by, changed_id = kept
    return Rollout(float(percent), [(str(name), float(share)) for name, share in variants], revision, by, changed_id)


def _dump(state: Rollout) -> Json:
    variants: list[Json] = [[name, percent] for name, percent in state.variants]
    return [state.websocket_percent, variants, state.revision, state.changed_by, state.changed_id]


ROLLOUT: Final = Projection(
    name="rollout",
    version=1,
    model=RolloutFields,
    initial=lambda _home: Rollout(),
    handlers={"rollout.changed": _changed},
    render=_render,
    dump=_dump,
    load=_load,
)
