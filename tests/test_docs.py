"""The documentation holds together: links and citations lead somewhere, decisions stand in a row."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final

import pytest

from hub.config import settings_table
from hub.errors import ERROR_CODES
from hub.limits.rates import DEFAULT_RATES

ROOT: Final = Path(__file__).parents[1]
DECISIONS: Final = sorted((ROOT / "ops" / "decisions").glob("0*.md"))
LINK: Final = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
CITATION: Final = re.compile(r"\b((?:docs|ops/decisions)/[\w./-]+\.md)(#[\w-]+)?")
CODE: Final = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


def tracked() -> list[Path]:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return [ROOT / name for name in listed.splitlines()]


TEXTS: Final = [
    f for f in tracked() if f.suffix in {".py", ".js", ".lua", ".md", ".html", ".toml", ".yml", ".conf"} and f.is_file()
]
PAGES: Final = [file for file in TEXTS if file.suffix == ".md"]


@cache
def anchors_of(page: Path) -> frozenset[str]:
    """The anchors of a page's headings, by GitHub's rule."""
    text = CODE.sub("", page.read_text(encoding="utf-8"))
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return frozenset(re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings)


def leads_somewhere(file: Path, anchor: str) -> bool:
    return file.exists() and (not anchor or (file.suffix == ".md" and anchor.removeprefix("#") in anchors_of(file)))


def broken_links(page: Path) -> Iterator[str]:
    for target in LINK.findall(CODE.sub("", page.read_text(encoding="utf-8"))):
        path, mark, anchor = target.partition("#")
        if not path.startswith(("http:", "https:")) and not leads_somewhere(
            (page.parent / path).resolve() if path else page, mark + anchor
        ):
            yield target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    """Each link to a file of ours, and to a heading in it."""
    assert list(broken_links(page)) == []


def test_citations_lead_somewhere() -> None:
    """Each `docs/…md#…` and `ops/decisions/…md` in code and texts."""
    broken = [
        f"{file.relative_to(ROOT)}: {name}{anchor}"
        for file in TEXTS
        for name, anchor in CITATION.findall(file.read_text(encoding="utf-8"))
        if not leads_somewhere(ROOT / name, anchor)
    ]

    assert broken == []


def test_decisions_stand_in_a_row() -> None:
    """0001, 0002 … without a hole, each under its own number and in the index."""
    index = (ROOT / "ops" / "decisions" / "README.md").read_text(encoding="utf-8")

    assert [page.name[:4] for page in DECISIONS] == [f"{number:04d}" for number in range(1, len(DECISIONS) + 1)]
    assert [
        page.name for page in DECISIONS if not page.read_text(encoding="utf-8").startswith(f"# {page.name[:4]} ")
    ] == []
    assert [page.name for page in DECISIONS if f"]({page.name})" not in index] == []


def test_the_rates_in_the_contract_are_those_of_a_node() -> None:
    """Each class has its row, with the node's figures."""
    page = (ROOT / "docs/protocol.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| ([\d,]+)([^|]*)\| ([\d,]+) \|", page.partition("## Rates")[2], re.MULTILINE)
    told = {
        name: (_number(per) / (60 if " a minute" in unit else 1), _number(burst)) for name, per, unit, burst in rows
    }

    assert told == {name: (rate.per_s, rate.burst) for name, rate in DEFAULT_RATES.items()}


def test_the_errors_in_the_contract_are_those_of_the_table() -> None:
    """Name, closing, advice and HTTP status of each code."""
    page = (ROOT / "docs/protocol.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d{4}) \| `(\w+)` \| ([^|]+) \| (\w+)[^|]* \|", page, re.MULTILINE)
    statuses = {
        int(code): int(status)
        for status, codes in re.findall(r"(\d{3})(?: with `Retry-After`)? \((4[\d, ]+)\)", page.partition("## HTTP")[2])
        for code in codes.split(", ")
    }
    told = {
        int(code): (name, closes.startswith("yes"), retry, statuses.get(int(code)))
        for code, name, closes, retry in rows
    }

    assert told == {code: (row.name, row.closes, row.retry, row.http_status) for code, row in ERROR_CODES.items()}


def test_every_page_is_on_the_site() -> None:
    """Its navigation in mkdocs.yml names it."""
    listed = set(re.findall(r"^ +- (?:[^:\n]+: )?([\w/.-]+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE))
    pages = {page.relative_to(ROOT).as_posix() for page in PAGES}

    assert {page for page in pages if page.startswith("docs/")} <= listed <= pages


def test_every_promise_has_its_test() -> None:
    """None of the tests named may be a wish."""
    page = (ROOT / "docs/promises.md").read_text(encoding="utf-8")
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", page)

    assert len(named) == len(re.findall(r"^\| [^*|-]+ \| `", page, re.MULTILINE)) >= 30
    assert [f"{file}::{name}" for file, name in named if not _has_test(ROOT / file, name)] == []


def _has_test(file: Path, name: str) -> bool:
    return file.exists() and re.search(rf"^\s*(async )?def {name}\(", file.read_text(), re.MULTILINE) is not None


def test_the_settings_table_is_the_declarations() -> None:
    """It is generated; here it is compared."""
    page = (ROOT / "docs/operating/settings.md").read_text(encoding="utf-8")
    told = re.search(r"<!-- settings:.*?-->\n(.*?)<!-- /settings -->", page, re.DOTALL)

    assert told is not None
    assert told[1].strip() == settings_table()


def test_every_metric_is_on_its_page() -> None:
    """And the page has no other."""
    page = (ROOT / "docs/operating/metrics.md").read_text(encoding="utf-8")
    told = {name.removesuffix("_total") for name in re.findall(r"`(hub_\w+)", page)}
    exported = {
        name
        for file in ("hub/metrics.py", "hub/http/siblings.py", "consumers/metrics.py", "streams/exposition.py")
        for name in re.findall(r'"(hub_\w+)"', (ROOT / file).read_text(encoding="utf-8"))
    }

    assert told == exported


def _number(text: str) -> float:
    return float(text.replace(",", ""))
