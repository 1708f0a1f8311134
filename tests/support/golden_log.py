"""Normalises logs so that playing a script twice gives equal ones: replaces IDs, times and random names. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

_ID = re.compile(r"\b\d{13}-\d+\b")
_RUN = re.compile(r"\br[0-9a-f]{10}-")
_FILE = re.compile(r"\b[0-9a-f]{32}\b")
_TIME = re.compile(r"\b\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d+)?Z)?")
_NUMBERS = frozenset({"duration_ms", "at_ms"})
"""Fields whose value is a measured time."""


def normalised(logs: Mapping[str, Sequence[str]]) -> list[str]:
    """All events, channel by channel, as JSON texts.

    An event is named by channel and seq (`team:blue#3`), a file by a number, a run by the event that began it.
    """
    events = {name: [json.loads(line) for line in lines] for name, lines in logs.items()}
    names = {name: {event["id"]: f"{name}#{event['seq']}" for event in known} for name, known in events.items()}
    everywhere = {event_id: told for known in names.values() for event_id, told in known.items()}
    files: dict[str, str] = {}
    found = []
    for name, known in events.items():
        # Two channels may have assigned the same ID: the own channel's takes precedence.
        plain = _Plain(everywhere | names[name], files)
        found += [json.dumps(plain.of(event), ensure_ascii=False) for event in known]
    return found


class _Plain:
    """Replaces, in one channel's events, the values that differ between two plays."""

    def __init__(self, names: Mapping[str, str], files: dict[str, str]) -> None:
        self._names, self._files = names, files

    def of(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {name: 0 if name in _NUMBERS else self.of(inner) for name, inner in value.items()}
        if isinstance(value, list):
            return [self.of(inner) for inner in value]
        return self._text(value) if isinstance(value, str) else value

    def _text(self, text: str) -> str:
        text = _ID.sub(lambda found: self._names.get(found[0], "elsewhere"), _RUN.sub("run of ", text))
        text = _FILE.sub(lambda found: self._files.setdefault(found[0], f"file-{len(self._files) + 1}"), text)
        return _TIME.sub("then", text)
