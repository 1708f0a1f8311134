"""Lists of a state that show their newest items only, within a number of bytes. Pure.

The events alone decide what is left out, so every node leaves out the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from streams.cursor import id_order
from streams.json_bytes import JsonObject, to_json

DURABLE_BYTES_MAX: Final = 229_376
"""The durable part of a state: 256 KiB less 32 KiB for the live fields. Settings and open questions count first, the lists share
the rest. A document's content is bounded by itself (`projections.documents`)."""


@dataclass(frozen=True, slots=True)
class Item:
    """An item as it is shown, and the ID of the newest event that holds all of it."""

    event_id: str
    shown: JsonObject


Lists = Mapping[str, Sequence[Item]]
"""Field of `ChannelState` → its items, oldest first."""


def items_of(shown: Sequence[JsonObject]) -> list[Item]:
    """Items that say by themselves which event they are of."""
    return [Item(str(one["id"]), one) for one in shown]


def render_within(fields: JsonObject, lists: Lists, bytes_max: int = DURABLE_BYTES_MAX) -> bytes:
    """The fields and the newest of each list as one JSON object.

    Each list gets an equal share of what the fields leave. Where older items are left out, `truncated` names the list, and the ID
    `before` which the log has all of them: the one after the newest event left out.
    """
    if not lists:
        return to_json(fields)
    pieces, truncated = [], {}
    share = (bytes_max - len(to_json(fields))) // len(lists)
    for name, items in lists.items():
        kept = _newest(items, share)
        if left_out := items[: len(items) - len(kept)]:
            truncated[name] = {"before": _after(max((item.event_id for item in left_out), key=id_order))}
        pieces.append(to_json(name) + b":[" + b",".join(kept) + b"]")
    shown = {**fields, "truncated": truncated} if truncated else fields
    return to_json(shown)[:-1] + b"," + b",".join(pieces) + b"}"


def _newest(items: Sequence[Item], bytes_max: int) -> list[bytes]:
    """The newest items, oldest first, as many as fit in a row."""
    kept: list[bytes] = []
    for item in reversed(items):
        piece = to_json(item.shown)
        bytes_max -= len(piece) + 1
        if bytes_max < 0:
            break
        kept.append(piece)
    return kept[::-1]


def _after(event_id: str) -> str:
    """The ID right after this one."""
    ms, n = id_order(event_id)
    return f"{ms}-{n + 1}"
