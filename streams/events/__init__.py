"""The event catalogue: every event type, declared once. Pure.

Validation, permissions, limits, generated documents and the tests that cover every event read `CATALOGUE`. To add an event,
write a payload model and a row in the file of its family.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from streams.events import (
    agents,
    assistant,
    channels,
    chat,
    connection,
    documents,
    files,
    operators,
    rollout,
    teams,
    tools,
)
from streams.events.declaration import Action, Direction, EventType, Payload

_FAMILIES: Final = (connection, channels, chat, assistant, tools, files, teams, agents, documents, operators, rollout)


def _catalogue() -> dict[str, EventType]:
    """Collect the rows of all families by event type, and refuse a type that is declared twice."""
    rows = [row for family in _FAMILIES for row in family.EVENTS]
    catalogue = {row.name: row for row in rows}
    if len(catalogue) != len(rows):
        raise ValueError("an event type is declared twice")
    return catalogue


CATALOGUE: Final[Mapping[str, EventType]] = MappingProxyType(_catalogue())
"""The declaration of each event type, by its name."""

__all__ = ["CATALOGUE", "Action", "Direction", "EventType", "Payload"]
