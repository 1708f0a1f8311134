"""docs/events.md is what the catalogue says, and its examples are what the hub takes."""

from __future__ import annotations

from pathlib import Path

import pytest

from ops.event_examples import payload_of
from ops.event_reference import event_reference
from streams.events import CATALOGUE
from streams.events.validation import validate

DOCS = Path(__file__).parents[3] / "docs"


def test_the_page_is_what_the_catalogue_says() -> None:
    """After a change of the catalogue: `python -m ops.event_reference > docs/events.md`."""
    assert (DOCS / "events.md").read_text(encoding="utf-8") == event_reference()


@pytest.mark.parametrize("name", CATALOGUE)
def test_an_example_is_valid(name: str) -> None:
    """The type's own model takes the payload that is shown."""
    row = CATALOGUE[name]
    validate(row, payload_of(row))
