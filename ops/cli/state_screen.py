"""A channel's state as lines for people. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from ops.cli.output import printable

_WIDTH: Final = 160
"""Characters of a value that are shown; the rest is in the JSON."""
_INDENT: Final = "  "


def state_lines(channel: str, found: Mapping[str, Any]) -> list[str]:
    """The lines: a head, then each field, lists with one item a line.

    Args:
        channel: the channel in wire form.
        found: `epoch`, `state` and `state_at`.
    """
    state = found["state"]
    return [f"{channel} at #{found['state_at']}, epoch {found['epoch'] or 'unknown'}", *_fields(state)]


def _fields(state: Mapping[str, Any]) -> Iterator[str]:
    width = max(map(len, state), default=0)
    for name, value in state.items():
        if value in (None, [], {}):
            continue
        if isinstance(value, list) and isinstance(value[0], dict):
            yield f"{_INDENT}{name} ({len(value)})"
            yield from (f"{_INDENT * 2}{_item(name, one)}" for one in value)
        else:
            yield f"{_INDENT}{name:<{width}}  {_value(value)}"


def _item(name: str, item: Mapping[str, Any]) -> str:
    if name == "messages":
        return _message(item)
    if "summary" in item:
        return _short(str(item["summary"]))
    return _short(", ".join(f"{key} {_value(value)}" for key, value in item.items()))


def _message(message: Mapping[str, Any]) -> str:
    """`alice: hello`, with what is special about it behind."""
    about = [
        *(["deleted"] if message["deleted"] else []),
        *(["edited"] if message["revision"] and not message["deleted"] else []),
        *([f"{len(message['parts'])} parts"] if message.get("parts") else []),
        *(f"{reaction} {len(users)}" for reaction, users in message.get("reactions", {}).items()),
    ]
    text = f"{message['actor'].get('id', message['role'])}: {' '.join(message['text'].split())}"
    return _short(text) + (f"  ({', '.join(about)})" if about else "")


def _value(value: object) -> str:
    if isinstance(value, str | int | float):
        return _short(str(value))
    return _short(json.dumps(value, ensure_ascii=False))


def _short(text: str) -> str:
    shown = printable(text)
    return shown if len(shown) <= _WIDTH else f"{shown[: _WIDTH - 1]}…"
