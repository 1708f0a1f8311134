"""SECURITY.md names only tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
REFERENCES = sorted(set(re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", (ROOT / "SECURITY.md").read_text())))


@pytest.mark.parametrize(("path", "name"), REFERENCES)
def test_every_test_named_in_the_threat_model_exists(path: str, name: str) -> None:
    """A threat whose test was renamed or removed is a threat without a test."""
    source = (ROOT / path).read_text()

    assert f"def {name}(" in source or not name


def test_the_document_names_tests_at_all() -> None:
    """Else the check above would pass by finding nothing."""
    assert len(REFERENCES) > 40
