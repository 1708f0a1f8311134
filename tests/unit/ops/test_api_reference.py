"""The pages of docs/reference are what the code says, and it says something about each public name."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ops.api_reference import pages

ROOT = Path(__file__).parents[3]
PAGES = pages()


@pytest.mark.parametrize("path", PAGES)
def test_a_page_is_what_the_code_says(path: str) -> None:
    """After a change: `python -m ops.api_reference`."""
    assert (ROOT / path).read_text(encoding="utf-8") == PAGES[path]


@pytest.mark.parametrize("path", PAGES)
def test_every_name_is_described(path: str) -> None:
    """A heading is followed by a sentence: at once, or behind its code."""
    for section in re.split(r"^##+ ", PAGES[path], flags=re.MULTILINE)[1:]:
        name, _, rest = section.partition("\n")
        text = re.sub(r"^```.*?^```$", "", rest, flags=re.MULTILINE | re.DOTALL).strip()
        assert text or name.startswith("`realtime-hub"), name


def test_every_parameter_of_a_call_is_described() -> None:
    """No row of a table of parameters ends with an empty cell."""
    rows = [line for line in PAGES["docs/reference/http.md"].splitlines() if line.startswith("| `")]

    assert len(rows) > 20
    assert [row for row in rows if row.endswith("|  |")] == []
