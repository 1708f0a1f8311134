"""The verdict on a cursor: one row for each thing a look at the log can find."""

from __future__ import annotations

import pytest

from streams.cursor import (
    Cursor,
    Gap,
    GapReason,
    Look,
    Position,
    Resumable,
    id_order,
    judge,
    limit_replay,
)
from streams.errors import MalformedCursor

HEAD = Position("900-0", 9)
NEVER_TRIMMED = Position("0", 0)
FLOOR = Position("300-0", 3)
UNKNOWN = Gap(GapReason.CURSOR_UNKNOWN)


def look(prev: Position | None, following: Position | None, floor: Position = FLOOR, head: Position = HEAD) -> Look:
    """A look at a log of epoch `e` with events 100-0/1 … 900-0/9, unless said otherwise."""
    return Look("e", head, floor, prev, following)


AT_4, AT_5, AT_6, AT_7 = (Position(f"{n}00-0", n) for n in (4, 5, 6, 7))
ROWS = {
    "exists": (Cursor("500-0", 5, "e"), look(AT_5, AT_6), Resumable(AT_5)),
    "exists, no seq given": (Cursor("500-0"), look(AT_5, AT_6), Resumable(AT_5)),
    "is the head": (Cursor("900-0", 9, "e"), look(HEAD, None), Resumable(HEAD)),
    "trimmed but unbroken": (Cursor("300-0", 3, "e"), look(None, AT_4), Resumable(FLOOR)),
    "trimmed but unbroken, no seq given": (Cursor("300-0"), look(None, AT_4), Resumable(FLOOR)),
    "trimmed with a hole": (Cursor("100-0", 1, "e"), look(None, AT_4), Gap(GapReason.TRIMMED, 2, 3)),
    "trimmed with a hole, no seq given": (Cursor("100-0"), look(None, AT_4), Gap(GapReason.TRIMMED, None, 3)),
    "trimmed without moving the floor": (
        Cursor("100-0", 1), look(None, AT_4, NEVER_TRIMMED), Gap(GapReason.TRIMMED, 2, 3),
    ),
    "ahead of the head": (Cursor("950-0", 10, "e"), look(HEAD, None), UNKNOWN),
    "ahead of the head, no seq given": (Cursor("950-0"), look(HEAD, None), UNKNOWN),
    "ahead of the head by id, with the head's seq": (Cursor("950-0", 9, "e"), look(HEAD, None), UNKNOWN),
    "of nobody, with seq 0": (Cursor("950-0", 0, "e"), look(None, None, NEVER_TRIMMED, NEVER_TRIMMED), UNKNOWN),
    "epoch changed": (Cursor("500-0", 5, "old"), look(AT_5, AT_6), Gap(GapReason.EPOCH_CHANGED)),
    "key missing": (
        Cursor("500-0", 5), look(None, None, NEVER_TRIMMED, NEVER_TRIMMED), UNKNOWN,
    ),
    "key missing, new epoch": (
        Cursor("500-0", 5, "old"), look(None, None, NEVER_TRIMMED, NEVER_TRIMMED), Gap(GapReason.EPOCH_CHANGED),
    ),
    "entry missing inside the kept range": (Cursor("550-0", 5, "e"), look(AT_5, AT_6), UNKNOWN),
    "entry missing inside the kept range, no seq given": (Cursor("550-0"), look(AT_5, AT_6), UNKNOWN),
    "same id, other seq": (Cursor("500-0", 4, "e"), look(AT_5, AT_6), UNKNOWN),
    "same seq, other id, at the floor": (Cursor("290-0", 3, "e"), look(None, AT_4), UNKNOWN),
    "a newer life of the log, without epoch": (
        Cursor("90-0", 5), look(None, Position("100-0", 1), NEVER_TRIMMED, Position("100-0", 1)), UNKNOWN,
    ),
    "everything, nothing trimmed": (
        Cursor("0"), look(None, Position("100-0", 1), NEVER_TRIMMED), Resumable(NEVER_TRIMMED),
    ),
    "everything, some trimmed": (Cursor("0"), look(None, AT_4), Gap(GapReason.TRIMMED, 1, 3)),
    "the cursor of an empty channel": (
        Cursor("0", 0, "e"), look(None, None, NEVER_TRIMMED, NEVER_TRIMMED), Resumable(NEVER_TRIMMED),
    ),
    "the cursor of an empty channel that has events now": (
        Cursor("0", 0, "e"), look(None, Position("100-0", 1), NEVER_TRIMMED), Resumable(NEVER_TRIMMED),
    ),
    "trimmed to nothing, cursor at the floor": (
        Cursor("900-0", 9, "e"), look(None, None, HEAD, HEAD), Resumable(HEAD),
    ),
    "trimmed to nothing, cursor before the floor": (
        Cursor("800-0", 8, "e"), look(None, None, HEAD, HEAD), Gap(GapReason.TRIMMED, 9, 9),
    ),
}  # fmt: skip # a table


@pytest.mark.parametrize("row", ROWS)
def test_judge(row: str) -> None:
    """Each row of the table has one answer, and none of them is "empty, up to date"."""
    cursor, found, verdict = ROWS[row]

    assert judge(cursor, found) == verdict


def test_a_replay_beyond_the_limit_is_a_gap_with_its_range() -> None:
    """An unbounded replay could kill a small Redis, so it has a named end."""
    verdict = Resumable(Position("100-0", 1))

    assert limit_replay(verdict, HEAD, 8) is verdict
    assert limit_replay(verdict, HEAD, 7) == Gap(GapReason.TOO_FAR, 2, 9)


@pytest.mark.parametrize("text", ["", "-", "1", "1-", "-1", "a-b", "1-2-3", " 1-2", "1-2\n", "$", "1" * 16 + "-0"])
def test_what_is_not_an_id_is_refused(text: str) -> None:
    """A cursor is `ms-n` or `0`, and nothing else."""
    with pytest.raises(MalformedCursor):
        id_order(text)


def test_ids_are_ordered_as_numbers() -> None:
    """9-0 comes before 10-0, and 10-9 before 10-10."""
    assert sorted(["10-10", "10-9", "9-0", "0"], key=id_order) == ["0", "9-0", "10-9", "10-10"]


@pytest.mark.parametrize(
    ("cursor", "prev", "following", "verdict"),
    [
        (Cursor("500-0", 5, "e"), AT_4, AT_6, Resumable(Position("500-0", 5))),
        (Cursor("500-0", 5), AT_4, AT_7, UNKNOWN),
        (Cursor("500-0", 5), AT_4, None, UNKNOWN),
        (Cursor("500-0", 5), Position("450-0", 5), AT_6, UNKNOWN),
        (Cursor("400-0", 5), AT_4, AT_6, UNKNOWN),
        (Cursor("500-0"), AT_4, AT_6, UNKNOWN),
        (Cursor("400-0", 4, "e"), AT_4, AT_7, Gap(GapReason.TRIMMED, 5, 6)),
        (Cursor("400-0"), AT_4, AT_7, Gap(GapReason.TRIMMED, 5, 6)),
    ],
)
def test_an_entry_that_is_gone_from_the_middle(
    cursor: Cursor, prev: Position, following: Position | None, verdict: Resumable | Gap
) -> None:
    """Recovered when the next event has the next seq and no other event has the cursor's."""
    assert judge(cursor, look(prev, following, NEVER_TRIMMED)) == verdict
