"""`at` of the state: an event ID, or a time whichever it is."""

from __future__ import annotations

import pytest

from hub.node.states import moment
from streams.errors import MalformedCursor


@pytest.mark.parametrize(
    ("at", "last"),
    [
        ("1795367479511-0", "1795367479511-0"),
        ("1970-01-01T00:00:01.234Z", "1234"),
        ("1970-01-01T01:00:01.234+01:00", "1234"),
        ("1960-01-01T00:00:00Z", "0"),
        ("0001-01-01T00:00:00Z", "0"),
    ],
)
def test_a_time_is_the_last_id_of_its_millisecond(at: str, last: str) -> None:
    """Before 1970 there is no ID, and nothing had happened."""
    assert moment(at) == last


@pytest.mark.parametrize("at", ["", "x", "1-", "2026-02-30T00:00:00Z"])
def test_anything_else_is_no_moment(at: str) -> None:
    """It is refused with what is allowed."""
    with pytest.raises(MalformedCursor):
        moment(at)
