"""Messages to frames: exact places, and nothing else taken for a message."""

from __future__ import annotations

import json

import pytest

from hub.client.wire import MalformedMessage, elements, encode, join, member, split


def test_a_frames_place_is_its_own_text():
    """Whitespace and unusual spellings within the array do not belong to, or change, an element."""
    first, second = '{ "a" : 1.0 }', '{"b":"\\u00e9 ]},{"}'
    text = f" [ {first} ,\n\t{second}] "

    assert [text[start:end] for _, start, end in split(text)] == [first, second]
    assert [frame for frame, _, _ in split(text)] == [json.loads(first), json.loads(second)]


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "1",
        '"a"',
        "null",
        "[1]",
        "[{}",
        "[{}]]",
        "{} {}",
        "[{} {}]",
        "[{},]",
        "[,{}]",
        "{",
        "[[{}]]",
        "[{};{}]",
        "[" * 5000,
    ],
)
def test_what_is_no_message_is_refused(text):
    """Anything but one object or an array of objects is malformed, whole."""
    with pytest.raises(MalformedMessage):
        split(text)


def test_an_empty_array_holds_nothing():
    """An array of no frames is no fault."""
    assert split(" [ ] ") == []


def test_a_member_is_found_behind_others_that_look_like_it():
    """A reply's events are cut out by place, whatever strings and nested objects come before."""
    text = '{"x":{"events":[0]},"y":"\\"events\\":[", "payload" : {"next":null , "events" : [ {"seq":1} ] } }'

    placed, _ = elements(text, member(text, member(text, 0, "payload"), "events"))

    assert [text[start:end] for _, start, end in placed] == ['{"seq":1}']
    with pytest.raises(KeyError):
        member(text, 0, "absent")
    with pytest.raises(KeyError):
        member("{}", 0, "absent")


def test_a_lone_surrogate_is_left_to_the_hub_to_refuse():
    """Text that is no Unicode still becomes a frame, escaped."""
    assert encode({"text": "\ud800é"}) == b'{"text":"\\ud800\\u00e9"}'
    assert encode({"text": "é"}) == '{"text":"é"}'.encode()
    with pytest.raises(ValueError, match="JSON"):
        encode({"number": float("nan")})


def test_joined_frames_keep_the_limits():
    """At most 100 frames and the hub's bytes in one array; what is alone goes without one."""
    assert list(join([b"{}"], 100)) == [b"{}"]
    assert [message.count(b"{}") for message in join([b"{}"] * 250, 10_000)] == [100, 100, 50]
    assert list(join([b"{}", b"{}", b"{}"], 7)) == [b"[{},{}]", b"{}"]
    assert list(join([b"{1234567}", b"{}"], 5)) == [b"{1234567}", b"{}"]
