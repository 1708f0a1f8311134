"""Logs in a form that is the same each time a script is played: ids, times and random names put out of the way. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

_ID = re.compile(r"\b\d{13}-\d+\b")
_RUN = re.compile(r"\br[0-9a-f]{10}-")
_FILE = re.compile(r"\b[0-9a-f]{32}\b")
_TIME = re.compile(r"\b\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d+)?Z)?")
_NUMBERS = {"duration_ms", "at_ms"}
"""Fields whose value is a measured time."""


def normalised(logs: Mapping[str, Sequence[str]]) -> list[str]:
    """All events, channel by channel, one JSON text each.

    An event is named by channel and seq (`team:blue#3`), a file by its number, a run by the event that began it.
    """
    names = {
        name: {json.loads(line)["id"]: f"{name}#{seq}" for seq, line in enumerate(lines, 1)}
        for name, lines in logs.items()
    }
    everywhere = {event_id: told for known in names.values() for event_id, told in known.items()}
    files: dict[str, str] = {}
    found = []
    for name, lines in logs.items():
        known = everywhere | names[name]  # two channels may have minted the same id: the own one is meant
        for line in lines:
            text = _ID.sub(lambda match, known=known: known.get(match[0], "elsewhere"), line)
            text = _FILE.sub(
                lambda match: files.setdefault(match[0], f"file-{len(files) + 1}"), _RUN.sub("run of ", text)
            )
            event = json.loads(_TIME.sub("then", text))
            found.append(json.dumps(_timeless(event), ensure_ascii=False))
    return found


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: 0 if name in _NUMBERS else _timeless(inner) for name, inner in value.items()}
    return [_timeless(inner) for inner in value] if isinstance(value, list) else value
