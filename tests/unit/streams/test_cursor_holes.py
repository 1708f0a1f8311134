"""A cursor where entries were taken out of the middle of a stream: what follows it decides."""

from __future__ import annotations

import pytest

from streams.cursor import Cursor, Gap, GapReason, Look, Position, Resumable, judge

HEAD, FLOOR = Position("900-0", 9), Position("0", 0)
UNKNOWN = Gap(GapReason.CURSOR_UNKNOWN)
AT_4, AT_6, AT_7 = Position("400-0", 4), Position("600-0", 6), Position("700-0", 7)


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
def test_an_entry_that_is_gone(
    cursor: Cursor, prev: Position, following: Position | None, verdict: Resumable | Gap
) -> None:
    """Recovered when the next event has the next seq and no other event has the cursor's (PROTOCOL 4, fine print)."""
    assert judge(cursor, Look("e", HEAD, FLOOR, prev, following)) == verdict
