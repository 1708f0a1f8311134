"""People in a state: rendered from what Redis has, as the general way renders them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.json_bytes import to_json
from streams.records.presence import people_json, people_of

names = st.from_regex(r"[A-Za-z0-9_.@|+~-]{1,12}", fullmatch=True)
values = st.builds("{} {}".format, st.integers(1, 300), st.sampled_from(["online", "away", "busy", "offline"]))


def stored(people: dict[str, str]) -> list[bytes]:
    return [text.encode() for pair in people.items() for text in pair]


@given(st.dictionaries(names, values, max_size=20))
def test_both_ways_say_the_same(people: dict[str, str]) -> None:
    """In the order of their names."""
    shown = people_of([stored(people)], 0)

    assert not isinstance(shown, int)
    assert people_json(stored(people)) == to_json([person._asdict() for person in shown])


def test_a_number_written_by_hand_is_no_broken_json() -> None:
    """It is read as a number, or refused, as the general way does."""
    assert people_json(stored({"a": "007 online"})) == b'[{"user":"a","status":"online","devices":7}]'
    with pytest.raises(ValueError, match="invalid literal"):
        people_json(stored({"a": "two online"}))


def test_a_text_that_must_be_escaped_is_left_to_the_general_way() -> None:
    """Somebody wrote it by hand."""
    by_hand = stored({'a"b': "1 online", "ä": "2 away"})

    assert (
        people_json(by_hand)
        == '[{"user":"a\\"b","status":"online","devices":1},{"user":"ä","status":"away","devices":2}]'.encode()
    )
