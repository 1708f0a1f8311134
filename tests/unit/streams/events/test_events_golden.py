"""Every version ever stored can still be read, and a schema does not change unnoticed."""

from __future__ import annotations

import pytest

from streams.events import CATALOGUE
from streams.events.schemas import schema_hash
from streams.events.upcast import lift
from support.golden import Golden, golden_files, newest
from support.payloads import read

STORED = sorted(name for name, row in CATALOGUE.items() if row.is_stored)


@pytest.mark.parametrize("golden", golden_files(), ids=lambda golden: golden.path.stem)
def test_a_golden_entry_can_be_read(golden: Golden) -> None:
    """An entry of any released version is lifted to the present one and read."""
    entry = golden.entry
    name = entry.type.decode()
    payload = read(CATALOGUE[name], lift(name, int(entry.v), entry.payload))
    assert payload.model_fields_set


@pytest.mark.parametrize("name", STORED)
def test_each_schema_has_its_golden_file(name: str) -> None:
    """A changed schema needs a new golden file (python -m support.golden), and with it a thought about old readers."""
    assert newest()[name].schema_sha256 == schema_hash(CATALOGUE[name])
    assert newest()[name].event["v"] == CATALOGUE[name].version


def test_there_is_no_golden_file_of_what_is_not_stored() -> None:
    """Only durable types have golden files, and every one of them does."""
    assert sorted(newest()) == STORED
