"""Every event type of the catalogue, valid and with each field wrong."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from streams.events import CATALOGUE, EventType
from streams.events.validation import PROBLEMS_MAX, InvalidPayload, validate
from support.payloads import broken_payloads, delivered_payloads, read, valid_payloads

ALL = sorted(CATALOGUE)
INBOUND = [name for name in ALL if CATALOGUE[name].is_inbound]


@pytest.mark.parametrize("name", ALL)
def test_a_valid_payload_is_stored_as_it_was_sent(name: str) -> None:
    """The payload is stored as sent: no default added, nothing left out, nothing renamed."""
    for case in valid_payloads(CATALOGUE[name]):
        payload, stored = validate(CATALOGUE[name], case.payload)
        assert (
            name in ("channel.subscribe", "connection.init", "connection.reconnect")
            or json.loads(stored) == case.payload
        )
        assert read(CATALOGUE[name], json.loads(stored)) == payload


@pytest.mark.parametrize("name", ALL)
def test_each_broken_field_is_refused(name: str) -> None:
    """A payload with one thing wrong is refused, whatever is wrong."""
    for case in broken_payloads(CATALOGUE[name]):
        assert 1 <= problem_count(CATALOGUE[name], case.payload) <= PROBLEMS_MAX, case.name


@pytest.mark.parametrize("name", ALL)
def test_what_subscribers_get_is_declared_too(name: str) -> None:
    """The delivered payload has a model of its own where the hub adds to it, and it takes valid payloads."""
    row = CATALOGUE[name]
    delivered = replace(row, model=row.delivered or row.model)
    for case in delivered_payloads(row):
        assert problem_count(delivered, case.payload) == 0, case.name


def test_a_chunk_of_the_greatest_size_fits_a_frame() -> None:
    """The broken payloads can be sent: none is larger than a frame may be, but those meant to be."""
    too_large = [
        (name, case.name) for name in INBOUND for case in broken_payloads(CATALOGUE[name])
        if len(json.dumps(case.payload)) > 1_000_000
    ]  # fmt: skip # a table
    assert too_large == []


def problem_count(row: EventType, payload: dict[str, object]) -> int:
    """The number of problems the payload is refused with; 0 if it is taken."""
    try:
        validate(row, payload)
    except InvalidPayload as refusal:
        return len(refusal.problems)
    return 0
