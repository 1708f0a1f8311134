"""Stream ids, cursors, and the decision whether a cursor can be resumed. Pure.

An id is `<milliseconds since 1970>-<number>`, as Redis mints it. Alone it cannot prove that nothing is missing: ids are sparse,
and a promoted replica may mint ids below ones that clients hold. The dense `seq` beside it can. `judge` holds a
cursor against what one look at the log found.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple

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


LIVE: Final = "$"
"""The cursor of whoever wants only later events."""


class Position(NamedTuple):
    """A place in a channel's log: an entry's ID and its seq."""

    id: str
    seq: int


@dataclass(frozen=True, slots=True)
class Cursor:
    """The last event a reader has seen. `seq` and `epoch` make the check exact; either may be unknown."""

    after: str
    seq: int | None = None
    epoch: str | None = None


@dataclass(frozen=True, slots=True)
class Look:
    """The position of a channel's log at one moment.

    Attributes:
        head: the newest event, or the floor where none is kept; `("0", 0)` for an empty channel.
        floor: the newest event that was trimmed away; `("0", 0)` when none was.
        prev: the newest kept event at or before the cursor.
        next: the oldest kept event after the cursor.
        live_id: the newest entry of the live lane.
    """

    epoch: str
    head: Position
    floor: Position
    prev: Position | None = None
    next: Position | None = None
    live_id: str = START


class GapReason(StrEnum):
    """The reasons for which a cursor cannot be resumed."""

    TRIMMED = "trimmed"
    EPOCH_CHANGED = "epoch_changed"
    CURSOR_UNKNOWN = "cursor_unknown"
    TOO_FAR = "too_far"


@dataclass(frozen=True, slots=True)
class Gap:
    """The events missing: `from_seq` to `to_seq`, both included; None where it cannot be known."""

    reason: GapReason
    from_seq: int | None = None
    to_seq: int | None = None


@dataclass(frozen=True, slots=True)
class Resumable:
    """Everything after this position follows, without a hole."""

    after: Position


_UNKNOWN: Final = Gap(GapReason.CURSOR_UNKNOWN)


def judge(cursor: Cursor, look: Look) -> Resumable | Gap:
    """Judges a cursor against a look at the log (the rows of `tests/unit/streams/test_cursor.py`).

    Raises:
        MalformedCursor: `after` is not an ID.
    """
    if cursor.epoch is not None and cursor.epoch != look.epoch:
        return Gap(GapReason.EPOCH_CHANGED)
    if id_order(cursor.after) > id_order(look.head.id):
        return _UNKNOWN
    seq = 0 if cursor.after == START else cursor.seq
    return _judge_by_id(cursor.after, look) if seq is None else _judge_by_seq(cursor.after, seq, look)


def _judge_by_seq(after: str, seq: int, look: Look) -> Resumable | Gap:
    if look.prev is not None:
        if look.prev == (after, seq):
            return _unless_hole(look.prev, look)
        # The entry was taken out of the middle: nothing after it is missing as long as no other event has its seq.
        is_unbroken = (
            look.next is not None and look.next.seq == seq + 1 and look.prev.id != after and look.prev.seq < seq
        )
        return Resumable(Position(after, seq)) if is_unbroken else _UNKNOWN
    # Nothing at or before the cursor is kept. What the oldest kept event says counts more than the floor.
    gone_to = look.next.seq - 1 if look.next else look.floor.seq
    if seq != gone_to:
        return Gap(GapReason.TRIMMED, seq + 1, gone_to) if seq < gone_to else _UNKNOWN
    is_other_event = look.floor.seq == seq and look.floor.id not in (START, after)
    return _UNKNOWN if is_other_event else Resumable(Position(after, seq))


def _judge_by_id(after: str, look: Look) -> Resumable | Gap:
    if look.prev is not None:
        return _unless_hole(look.prev, look) if look.prev.id == after else _UNKNOWN
    if after == look.floor.id:
        return Resumable(look.floor)
    if id_order(after) < id_order(look.floor.id):
        return Gap(GapReason.TRIMMED, None, look.floor.seq)
    return _UNKNOWN


def _unless_hole(seen: Position, look: Look) -> Resumable | Gap:
    """Resumable after an entry that is still there, unless the events after it are missing."""
    if look.next is not None and look.next.seq != seen.seq + 1:
        return Gap(GapReason.TRIMMED, seen.seq + 1, look.next.seq - 1)
    return Resumable(seen)


def limit_replay(verdict: Resumable | Gap, head: Position, most_events: int) -> Resumable | Gap:
    """Turn a resume of more than `most_events` into a gap: an unbounded replay can kill a small Redis."""
    if isinstance(verdict, Resumable) and head.seq - verdict.after.seq > most_events:
        return Gap(GapReason.TOO_FAR, verdict.after.seq + 1, head.seq)
    return verdict
