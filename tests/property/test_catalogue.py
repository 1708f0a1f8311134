"""Laws of every payload of every event type, whatever its values."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.envelope import Actor, Entry, actor_json
from streams.events import CATALOGUE, EventType
from streams.events.channels import Subscription
from streams.events.chat import Writing
from streams.events.validation import InvalidPayload, validate
from support.examples import examples
from support.payload_strategies import JSON, payloads
from support.payloads import read, to_json

ROWS = [pytest.param(row, id=name) for name, row in sorted(CATALOGUE.items())]
SPELLED_OUT = {"channel.subscribe", "connection.init", "connection.reconnect"}
"""Types whose subscriptions may be bare names, which are read as objects."""
few = examples(15)


def problem_count(row: EventType, payload: dict[str, object]) -> int:
    """The number of problems a payload is refused with; 0 if it is taken, and then its stored form is JSON."""
    try:
        _, stored = validate(row, payload)
    except InvalidPayload as refusal:
        return len(refusal.problems) or 11
    json.loads(stored)
    return 0


@pytest.mark.parametrize("row", ROWS)
@few
@given(data=st.data())
def test_a_payload_comes_back_as_it_went_in(row: EventType, data: st.DataObject) -> None:
    """Stored JSON is the payload as sent, reading it gives the same model, and storing that the same bytes."""
    payload = data.draw(payloads(row))
    if _is_empty_writing(row, payload):
        assert problem_count(row, payload) == 1
        return
    model, stored = validate(row, payload)
    assert row.name in SPELLED_OUT or json.loads(stored) == payload
    again = read(row, json.loads(stored))
    assert again == model
    assert to_json(again) == stored == validate(row, json.loads(stored))[1]


@pytest.mark.parametrize("row", ROWS)
@few
@given(payload=st.dictionaries(st.text(max_size=8), JSON, max_size=4))
def test_any_object_is_taken_or_refused_in_words(row: EventType, payload: dict[str, object]) -> None:
    """Whatever JSON object comes, the answer is a model or problems, never another exception."""
    assert 0 <= problem_count(row, payload) <= 10


@pytest.mark.parametrize("row", ROWS)
@few
@given(data=st.data(), value=JSON)
def test_one_field_of_any_value_is_taken_or_refused_in_words(
    row: EventType, data: st.DataObject, value: object
) -> None:
    """One declared field may hold anything at all; the rest of the payload is valid."""
    if not row.model.model_fields:
        return
    payload = data.draw(payloads(row)) | {data.draw(st.sampled_from(sorted(row.model.model_fields))): value}
    assert 0 <= problem_count(row, payload) <= 10


@few
@given(payload=payloads(CATALOGUE["chat.message"]))
def test_a_message_survives_the_way_to_the_wire(payload: dict[str, object]) -> None:
    """Joined into a frame as bytes, a payload is the same JSON as before."""
    stored = to_json(read(CATALOGUE["chat.message"], payload)) if payload["text"] else b"{}"
    entry = Entry(b"1-0", 1, b"chat.message", b"1", actor_json(Actor("user", "alice")), stored, b"{}")
    assert json.loads(entry.wire(b"conversation:42"))["payload"] == json.loads(stored)


@few
@given(name=st.text("abc:{}/", max_size=20))
def test_a_bare_name_and_a_spelled_out_one_are_the_same(name: str) -> None:
    """A subscription by name alone is one with every default."""
    bare, _ = validate(CATALOGUE["channel.subscribe"], {"channels": [name]})
    spelled, _ = validate(CATALOGUE["channel.subscribe"], {"channels": [{"channel": name}]})
    assert bare == spelled == type(bare)(channels=[Subscription(channel=name)])


def _is_empty_writing(row: EventType, payload: dict[str, object]) -> bool:
    return issubclass(row.model, Writing) and not payload.get("text") and not payload.get("parts")
