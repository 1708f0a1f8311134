"""Stream ids, `<milliseconds since 1970>-<number>`: their order and their time. Pure."""

from __future__ import annotations

import re
from typing import Final

from streams.errors import MalformedCursor

START: Final = "0"
"""The id before every entry; the head of an empty channel."""
_ID: Final = re.compile(r"[0-9]{1,15}-[0-9]{1,10}")


def is_id(text: str) -> bool:
    """True for a full id, `ms-n`."""
    return _ID.fullmatch(text) is not None


def id_order(event_id: str) -> tuple[int, int]:
    """The id as numbers, for comparison. `0` sorts before every entry.

    Raises:
        MalformedCursor: not `ms-n` and not `0`.
    """
    if event_id == START:
        return (0, 0)
    if not is_id(event_id):
        raise MalformedCursor("a cursor is an event id like 1795367479511-0, or 0")
    ms, _, n = event_id.partition("-")
    return (int(ms), int(n))


def ms_of_id(event_id: str | bytes) -> int:
    """The time Redis took the entry in, in milliseconds since 1970 by its clock."""
    return int(event_id.partition("-")[0] if isinstance(event_id, str) else event_id.partition(b"-")[0])
