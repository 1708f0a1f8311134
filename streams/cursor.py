"""Stream IDs, cursors, and the decision whether a reader can resume from a cursor. Pure.

An ID is `<milliseconds since 1970>-<number>`, as Redis assigns it. An ID alone cannot prove that nothing is missing: IDs have
gaps, and a promoted replica may assign IDs below ones that clients already hold. `seq`, which has no gaps, can. `judge`
compares a cursor with the positions read from the log.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple

from streams.errors import MalformedCursor

START: Final = "0"
"""The ID before every entry, and the head of an empty channel."""
_ID: Final = re.compile(r"[0-9]{1,15}-[0-9]{1,10}")


def is_id(text: str) -> bool:
    """True if the text is a complete ID, `ms-n`."""
    return _ID.fullmatch(text) is not None


def id_order(event_id: str) -> tuple[int, int]:
    """The ID as a pair of numbers, for comparison. `0` sorts before every entry.

    Raises:
        MalformedCursor: the text is neither `ms-n` nor `0`.
    """
    if event_id == START:
        return (0, 0)
    if not is_id(event_id):
        raise MalformedCursor("a cursor is an event id like 1795367479511-0, or 0")
    ms, _, n = event_id.partition("-")
    return (int(ms), int(n))


def ms_of_id(event_id: str | bytes) -> int:
    """The time at which Redis stored the entry, by its clock, in milliseconds since 1970."""
    return int(event_id.partition("-")[0] if isinstance(event_id, str) else event_id.partition(b"-")[0])


LIVE: Final = "$"
"""The cursor of a reader that wants only future events."""


class Position(NamedTuple):
    """A place in a channel's log: the ID of an entry and its seq."""

    id: str
    seq: int


class Cursor(NamedTuple):
    """The last event that a reader has seen. The check is exact if `seq` and `epoch` are given; both are optional."""

    after: str
    seq: int | None = None
    epoch: str | None = None


class Look(NamedTuple):
    """A channel's log at one moment: its ends, and the entries around a cursor.

    Attributes:
        head: the newest event, or the floor if no event is kept; `("0", 0)` for an empty channel.
        floor: the newest event that was trimmed away; `("0", 0)` when none was.
        prev: the newest kept event at or before the cursor.
        next: the oldest kept event after the cursor.
        live_id: the ID of the newest entry of the live lane.
        archive: the mark of the channel's archive, as stored; "" without one.
        is_after_deletion: the epoch is the one after a deletion of the channel.
    """

    epoch: str
    head: Position
    floor: Position
    prev: Position | None = None
    next: Position | None = None
    live_id: str = START
    archive: str = ""
    is_after_deletion: bool = False


class GapReason(StrEnum):
    """The reasons why a cursor cannot be resumed."""

    TRIMMED = "trimmed"
    EPOCH_CHANGED = "epoch_changed"
    CURSOR_UNKNOWN = "cursor_unknown"
    TOO_FAR = "too_far"


@dataclass(frozen=True, slots=True)
class Gap:
    """The missing events, `from_seq` to `to_seq` inclusive; None where a bound is unknown."""

    reason: GapReason
    from_seq: int | None = None
    to_seq: int | None = None


@dataclass(frozen=True, slots=True)
class Resumable:
    """The cursor can be resumed: every event after this position is still in the log."""

    after: Position


_UNKNOWN: Final = Gap(GapReason.CURSOR_UNKNOWN)


def judge(cursor: Cursor, look: Look) -> Resumable | Gap:
    """Decides whether a cursor can be resumed, given the state of the log.

    The rows of `tests/unit/streams/test_cursor.py` list the cases.

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
        # The entry was deleted from the middle of the stream: nothing after it is missing unless another event has its seq.
        is_unbroken = (
            look.next is not None and look.next.seq == seq + 1 and look.prev.id != after and look.prev.seq < seq
        )
        return Resumable(Position(after, seq)) if is_unbroken else _UNKNOWN
    # Nothing at or before the cursor is kept. The seq of the oldest kept event is more reliable than the stored floor.
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
    """Resumable after an entry that is still in the log, unless events after it are missing."""
    if look.next is not None and look.next.seq != seen.seq + 1:
        return Gap(GapReason.TRIMMED, seen.seq + 1, look.next.seq - 1)
    return Resumable(seen)


def limit_replay(verdict: Resumable | Gap, head: Position, most_events: int) -> Resumable | Gap:
    """Turn a resume of more than `most_events` events into a gap: an unbounded replay can bring down a small Redis."""
    if isinstance(verdict, Resumable) and head.seq - verdict.after.seq > most_events:
        return Gap(GapReason.TOO_FAR, verdict.after.seq + 1, head.seq)
    return verdict
