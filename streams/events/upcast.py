"""Upgrades old payloads from version v of a type to v + 1, when they are folded (docs/protocol.md#versions). Pure.

Stored bytes are never rewritten, and replay sends them unchanged; only folds and handlers see the upgraded form.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from streams.errors import StreamsError
from streams.events import CATALOGUE
from streams.events.declaration import EventType

Upcaster = Callable[[dict[str, object]], dict[str, object]]
"""Converts a payload of version v to v + 1. It returns a new dict and leaves its argument unchanged."""

UPCASTERS: Final[Mapping[tuple[str, int], Upcaster]] = MappingProxyType({})
"""The upgrade step from v to v + 1, by (type, v). Empty while every type is at version 1."""


class UnreadableVersion(StreamsError):
    """A payload's version cannot be read: it is newer than this program, or an upgrade step is missing."""

    def __init__(self, event_type: str, v: int) -> None:
        super().__init__(f"{event_type} v{v} cannot be read by this program; run the one that wrote it, or a newer one")
        self.event_type = event_type
        self.v = v


def lift(
    event_type: str,
    v: int,
    payload: dict[str, object],
    catalogue: Mapping[str, EventType] = CATALOGUE,
    upcasters: Mapping[tuple[str, int], Upcaster] = UPCASTERS,
) -> dict[str, object]:
    """The payload in the current version of its type; the payload of an unknown type is returned unchanged.

    Raises:
        UnreadableVersion: `v` is below 1 or above the declared version, or an upgrade step is missing.
    """
    declared = catalogue.get(event_type)
    if declared is None:
        return payload
    if not 1 <= v <= declared.version:
        raise UnreadableVersion(event_type, v)
    for step in range(v, declared.version):
        if (event_type, step) not in upcasters:
            raise UnreadableVersion(event_type, step)
        payload = upcasters[event_type, step](payload)
    return payload
