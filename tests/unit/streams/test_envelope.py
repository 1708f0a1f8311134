"""Drafts and entries as bytes: what is stored is what is sent."""

from __future__ import annotations

import json

import pytest

from streams.channel import Channel, Kind
from streams.envelope import Actor, Draft, Durability, Entry, actor_json
from streams.errors import GuardRefused, IdempotencyConflict, LogUnavailable
from streams.redis.append import meta_json, read_answer

PLACE = Channel("acme", Kind.CONVERSATION, "42")


@pytest.mark.parametrize(
    ("fields", "meta"),
    [
        ({}, {}),
        ({"command": "c-1"}, {"command": "c-1"}),
        ({"command": "chat/1-0/2"}, {}),
        ({"correlation": "1-0"}, {"correlation": "1-0"}),
        ({"command": "c", "correlation": "1-0", "causation": "2-0"}, {"command": "c", "correlation": "1-0", "causation": "2-0"}),
        ({"command": "chat/1-0/2", "causation": "2-0"}, {"causation": "2-0"}),
    ],
)  # fmt: skip # a case a row
def test_meta_holds_what_is_there_and_no_key_of_our_own(fields: dict[str, str], meta: dict[str, str]) -> None:
    """Absent fields are left out; a key with a slash is derived by the hub and is nobody's command."""
    draft = Draft(PLACE, "chat.message", b"{}", Actor("user", "alice"), **fields)  # type: ignore[arg-type]

    assert json.loads(meta_json(draft)) == meta


def test_an_entry_is_joined_without_parsing() -> None:
    """The stored bytes appear as they are, whatever they hold; empty meta is left out."""
    data = '{"text":"ü \\u2028 \\"x\\" 🎉","n":1.50}'.encode()
    entry = Entry(b"5-0", 7, b"chat.message", b"2", actor_json(Actor("user", "al", "c-1")), data, b"{}")

    wire = entry.wire(b"conversation:42")

    assert wire.endswith(b',"payload":' + data + b"}")
    assert json.loads(wire) == {
        "id": "5-0", "seq": 7, "channel": "conversation:42", "type": "chat.message", "v": 2,
        "actor": {"kind": "user", "id": "al", "client": "c-1"}, "payload": entry.payload,
    }  # fmt: skip # a table


def test_a_live_entry_has_neither_id_nor_seq() -> None:
    """A signal on the wire cannot be taken for a stored event."""
    wire = json.loads(Entry(b"5-0", 0, b"chat.typing", b"1", b'{"kind":"user","id":"a"}', b"{}", b"{}").wire(b"team:1"))

    assert sorted(wire) == ["actor", "channel", "payload", "type", "v"]


def test_every_answer_of_the_script_is_read() -> None:
    """One line an event: appended, duplicate, first of its channel, conflict, refused with a value and without, OOM."""
    appended = read_answer(b"A 5-0 7 1 2", Durability.FSYNC)
    duplicate = read_answer(b"D 5-0 7 ", Durability.MEMORY)
    nothing = read_answer(b"G state", Durability.MEMORY)
    spaced = read_answer(b"G answer a b c", Durability.MEMORY)
    empty = read_answer(b"G state ", Durability.MEMORY)

    assert appended == ("5-0", 7, False, Durability.FSYNC, (1, 2), False, "")
    assert duplicate == ("5-0", 7, True, Durability.MEMORY, (), False, "")
    assert read_answer(b"N 5-0 1 ", Durability.MEMORY) == ("5-0", 1, False, Durability.MEMORY, (), True, "")
    assert isinstance(read_answer(b"C", Durability.MEMORY), IdempotencyConflict)
    assert [(g.field, g.present) for g in (nothing, spaced, empty) if isinstance(g, GuardRefused)] == [
        ("state", None), ("answer", "a b c"), ("state", ""),
    ]  # fmt: skip # a table
    assert isinstance(read_answer(b"E OOM command not allowed", Durability.MEMORY), LogUnavailable)
