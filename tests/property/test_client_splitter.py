"""The client's array splitter agrees with `json` on every array, and gives back each element's own text."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from hub.client.wire import elements, encode, join, member, split

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
objects = st.dictionaries(st.text(), values, max_size=5)
spaces = st.text(" \t\r\n", max_size=3)


@st.composite
def texts(draw, value=objects) -> str:
    """An object's JSON in some spelling: any separators, any escaping."""
    separators = (draw(spaces) + "," + draw(spaces), draw(spaces) + ":" + draw(spaces))
    return json.dumps(draw(value), separators=separators, ensure_ascii=draw(st.booleans()))


@given(st.lists(texts(), max_size=8), spaces, spaces, spaces)
def test_every_element_comes_back_byte_for_byte(parts, before, between, after):
    """Whatever the spelling, an element's place holds exactly its text, and its value is the one `json` reads."""
    text = before + "[" + after + f"{between},{before}".join(parts) + between + "]" + after

    placed = split(text)

    assert [text[start:end] for _, start, end in placed] == parts
    assert [frame for frame, _, _ in placed] == [json.loads(part) for part in parts]


@given(texts(), spaces, spaces)
def test_a_single_object_comes_back_byte_for_byte(part, before, after):
    """Space around a message is no part of its frame."""
    text = before + part + after

    ((frame, start, end),) = split(text)

    assert (text[start:end], frame) == (part, json.loads(part))


@given(objects, st.lists(objects, max_size=4))
def test_a_member_is_found_in_any_object(others, events):
    """A name is found among any other members, last or first."""
    whole = {**others, "events": events, "z": 1}
    text = json.dumps(whole)

    placed, _ = elements(text, member(text, 0, "events"))

    assert [frame for frame, _, _ in placed] == events


@given(st.lists(objects, min_size=1, max_size=300), st.integers(2, 400))
def test_joining_keeps_every_frame_in_order(frames, limit_bytes):
    """Split after join is the identity, and no message of several frames breaks a limit."""
    wires = [encode(frame) for frame in frames]

    messages = list(join(wires, limit_bytes))

    placed = [(message, split(message.decode())) for message in messages]
    assert [message.decode()[start:end].encode() for message, found in placed for _, start, end in found] == wires
    assert all(len(found) == 1 or (len(message) <= limit_bytes and len(found) <= 100) for message, found in placed)
