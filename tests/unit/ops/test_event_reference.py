"""docs/events.md is what the catalogue says, with a description of every field, and its examples are what the hub takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hub.protocol.examples import DELIVERED, PAYLOADS, REPLIES
from hub.protocol.schemas import json_schemas
from ops.event_reference import event_reference
from projections.channel_state import CHANNEL_STATE
from streams.events import CATALOGUE
from streams.events.validation import validate

DOCS = Path(__file__).parents[3] / "docs"
FIELDS_MIN = 300


def test_the_page_is_what_the_catalogue_says() -> None:
    """After a change of the catalogue: `python -m ops.event_reference > docs/events.md`."""
    assert (DOCS / "events.md").read_text(encoding="utf-8") == event_reference()


def test_no_field_is_without_a_description() -> None:
    """Every field of every published object, each a sentence, in the schemas that all documents are made from."""
    described: dict[str, str] = {}
    for name, schema in json_schemas().items():
        inner: Any = schema.get("$defs", {})
        for title, node in {name: schema, **inner}.items():
            fields: Any = node.get("properties", {})
            described |= {f"{title}.{field}": one.get("description", "") for field, one in fields.items()}

    assert len(described) > FIELDS_MIN
    assert {name: text for name, text in described.items() if not text[:1].isupper() or text[-1] != "."} == {}


def test_every_event_has_an_example_of_each_form() -> None:
    """As sent, as delivered and as answered, where the declaration has models for them, and no others."""
    assert PAYLOADS.keys() == CATALOGUE.keys()
    assert DELIVERED.keys() == {row.name for row in CATALOGUE.values() if row.delivered is not None}
    assert REPLIES.keys() == {row.name for row in CATALOGUE.values() if row.reply_model is not None}


@pytest.mark.parametrize("name", CATALOGUE)
def test_an_example_is_valid(name: str) -> None:
    """The type's own models take the payloads that are shown."""
    row = CATALOGUE[name]
    validate(row, PAYLOADS[name])
    if row.delivered is not None:
        validate(row, DELIVERED[name], row.delivered)
    if row.reply_model is not None:
        validate(row, REPLIES[name], row.reply_model)
        if "state" in REPLIES[name]:
            CHANNEL_STATE.model_validate(REPLIES[name]["state"])
