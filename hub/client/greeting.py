"""The first frame of a socket: who we are, and every channel with its cursor, so that one round trip resumes all. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from hub.client.feed import Feed

_CURSORS_MAX: Final = 200
"""Cursors in one `connection.reconnect` (EVENTS 3)."""
_CHANNELS_MAX: Final = 100
"""Subscriptions in one frame (EVENTS 3 and 4)."""
_OWN_CHANNEL: Final = "user:"
"""The hub announces a connection's own channel by itself, so without a cursor it is asked for by a command of its own."""


@dataclass(frozen=True, slots=True)
class Identity:
    """What a client says about itself: see `connection.init` in EVENTS 3."""

    client_id: str | None
    name: str
    version: str
    capabilities: tuple[str, ...]

    def to_wire(self) -> dict[str, object]:
        """The fields of the first frame that are the same on every socket."""
        wire: dict[str, object] = {
            "versions": [1],
            "capabilities": list(self.capabilities),
            "client": {"name": self.name, "version": self.version},
        }
        return wire if self.client_id is None else wire | {"client_id": self.client_id}


def greet(
    command_id: str, token: str, identity: Mapping[str, object], session_id: str | None, feeds: Iterable[Feed]
) -> dict[str, object]:
    """The first frame, and the mark on every feed it asks for. Feeds that did not fit stay idle."""
    cursors: dict[str, object] = {}
    channels: list[dict[str, object]] = []
    for feed in feeds:
        position = feed.position
        if position is not None and feed.plain and len(cursors) < _CURSORS_MAX:
            cursors[feed.wish.channel] = position.to_wire()
        elif not feed.wish.channel.startswith(_OWN_CHANNEL) and len(channels) < _CHANNELS_MAX:
            channels.append(feed.subscription())
        else:
            continue
        feed.ask(command_id)
    payload: dict[str, object] = {"token": token, **identity}
    if channels:
        payload["channels"] = channels
    if session_id is None and not cursors:
        return {"type": "connection.init", "id": command_id, "payload": payload}
    if session_id is not None:
        payload["session_id"] = session_id
    return {"type": "connection.reconnect", "id": command_id, "payload": payload | {"cursors": cursors}}
