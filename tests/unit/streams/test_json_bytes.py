"""JSON values and their compact bytes; the times of the wire."""

from __future__ import annotations

import json

import pytest

from streams.json_bytes import joined, parse, to_json, weigh
from streams.times import milliseconds_of_text, rfc3339


@pytest.mark.parametrize("data", [b' {"a": 1} ', b'{"a":1}', b"\n[1]\n"])
def test_blanks_around_a_value_are_allowed(data: bytes) -> None:
    """The hub stores none, others may."""
    assert parse(data) == json.loads(data)


@pytest.mark.parametrize("data", [b"", b"1 2", b"nul", b"NaN", b"-Infinity", b"1e400", b"-1e400", b"\xff"])
def test_what_cannot_be_written_back_is_no_value(data: bytes) -> None:
    """A state that holds it could not be shown."""
    with pytest.raises(ValueError, match=r"."):
        parse(data)


def test_canonical_bytes_are_compact_and_keep_the_order() -> None:
    """As it was built, so it is written; floats read back as they were."""
    value = {"b": [1, 0.1, None, True], "a": "ü"}

    assert to_json(value) == '{"b":[1,0.1,null,true],"a":"ü"}'.encode()
    assert parse(to_json(value)) == value


def test_weighing_stops_beyond_its_bound() -> None:
    """Weight is text plus eight a node; depth counts containers."""
    assert weigh({"ab": [1, "xyz", {}]}, 1_000) == (8 + 2 + 8 + 8 + 11 + 8, 3)
    assert weigh([["x" * 100]], 10)[0] < 100


def test_times_are_those_of_the_wire() -> None:
    """RFC 3339, UTC, milliseconds; finer fractions are cut off."""
    assert rfc3339(1_795_367_479_511) == "2026-11-22T17:11:19.511Z"
    assert milliseconds_of_text("2026-11-22T18:11:19.511999+01:00") == 1_795_367_479_511
    assert rfc3339(0) == "1970-01-01T00:00:00.000Z"


def test_a_time_needs_its_offset() -> None:
    """A time of nobody's zone is refused, and so is what is no time."""
    for text in ("2026-11-22T17:11:21", "tomorrow", ""):
        with pytest.raises(ValueError, match=r"."):
            milliseconds_of_text(text)


def test_pairs_become_characters_and_lone_halves_are_replaced() -> None:
    """In any order, at the end as well."""
    assert joined("a\ud83d\ude00b") == "a\U0001f600b"
    assert joined("\ude00\ud83d") == "\ufffd\ufffd"
    assert joined("é\ud83dx") == "é\ufffdx"
