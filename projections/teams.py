"""A team's feed: its newest activities. Pure.

Who is there is presence, and live. Unread counts are a person's own and are kept in the inbox (`projections.notifications`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from projections.fields import object_field, text
from projections.projection import Dumped, DurableProjection, Home
from projections.recorded import Recorded
from streams.json_bytes import Json, JsonObject

ACTIVITIES_MAX: Final = 50
"""Activities shown (EVENTS 11); older ones are read by `channel.history`."""


@dataclass(slots=True)
class Feed:
    """The newest activities, oldest first: each the payload with the event's `id` and `actor`."""

    activities: list[JsonObject] = field(default_factory=list)


def _activity(state: Feed, event: Recorded) -> None:
    text(event, "verb"), object_field(event, "object")
    state.activities.append(event.item())
    del state.activities[:-ACTIVITIES_MAX]


def _initial(_home: Home) -> Feed:
    return Feed()


def _render(state: Feed) -> JsonObject:
    return {"activities": [*state.activities]}


def _dump(state: Feed) -> Json:
    return [*state.activities]


def _load(_home: Home, value: Dumped) -> Feed:
    return Feed([*value])


TEAMS: Final = DurableProjection(
    name="teams",
    version=1,
    initial=_initial,
    handlers={"team.activity": _activity},
    render=_render,
    dump=_dump,
    load=_load,
)
"""`activities` of team channels."""
