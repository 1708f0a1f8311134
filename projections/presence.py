"""Who is in a channel, folded from the live lane's `channel.presence`. Pure.

The leases that decide when somebody has left are the hub's; by the time it is told here, it has been decided. It also
folds the joins and leaves that an import wrote into the events lane.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from projections.fields import number, text
from projections.projection import Home
from projections.recorded import Recorded
from streams.json_bytes import JsonObject

LISTED_MAX: Final = 200
"""People listed by name; a channel with more shows how many (EVENTS 11)."""
_ACTIVE: Final = "active"


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody who is there, on `devices` devices, with `active`, `away` or `dnd`."""

    user: str
    status: str
    devices: int


class PresenceFold:
    """The projection of presence. Its state is user → person."""

    name: Final = "presence"
    version: Final = 1

    def initial(self, _home: Home) -> dict[str, Person]:
        """Nobody."""
        return {}

    def apply(self, state: dict[str, Person], event: Recorded) -> dict[str, Person]:
        """Who is there after the event. A leave that leaves devices behind changes their number only."""
        if event.type != "channel.presence":
            return state
        user, said, devices = text(event, "user"), text(event, "status"), number(event, "devices")
        held = state.get(user)
        if devices < 1:
            state.pop(user, None)
        elif said in {"joined", "left"}:
            state[user] = Person(user, held.status if held else _ACTIVE, devices)
        else:
            state[user] = Person(user, said, devices)
        return state


PRESENCE: Final = PresenceFold()


def render_presence(people: Mapping[str, Person]) -> JsonObject:
    """Who is there, by name; how many, where they are more than fit a list."""
    if len(people) > LISTED_MAX:
        return {"presence_count": len(people)}
    listed = [people[user] for user in sorted(people)]
    return {"presence": [{"user": one.user, "status": one.status, "devices": one.devices} for one in listed]}
