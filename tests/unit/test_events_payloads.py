"""Every event type of the catalogue, valid and with each field wrong."""

from __future__ import annotations

import json

import pytest

from streams.events import CATALOGUE
from streams.events.validation import PROBLEMS_MAX, InvalidPayload, read, validate
from support.payloads import broken_payloads, delivered_payloads, valid_payloads

ALL = sorted(CATALOGUE)
INBOUND = [name for name in ALL if CATALOGUE[name].is_inbound]


@pytest.mark.parametrize("name", ALL)
def test_a_valid_payload_is_stored_as_it_was_sent(name: str) -> None:
    """What is stored is the payload as sent: no default added, nothing left out, nothing renamed."""
    for case in valid_payloads(CATALOGUE[name]):
        payload, stored = validate(CATALOGUE[name], case.payload)
        assert name in ("channel.subscribe", "connection.init", "connection.reconnect") or json.loads(stored) == case.payload
        assert read(CATALOGUE[name], json.loads(stored)) == payload


@pytest.mark.parametrize("name", ALL)
def test_each_broken_field_is_refused(name: str) -> None:
    """A payload with one thing wrong is refused, whatever is wrong."""
    for case in broken_payloads(CATALOGUE[name]):
        with pytest.raises(InvalidPayload) as refusal:
            validate(CATALOGUE[name], case.payload)
            pytest.fail(f"{name} accepted {case.name}")
        assert 1 <= len(refusal.value.problems) <= PROBLEMS_MAX
