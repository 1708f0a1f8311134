"""The alerts and dashboards: every query names metrics that there are, every alert has its page."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from ops.monitoring.dashboards import DASHBOARDS, FOLDER, texts

ROOT = Path(__file__).parents[3]
OTHERS = {"README.md", "backup-restore.md", "restore-archive.md", "two-versions.md"}  # pages without an alert
ALERTS = (FOLDER / "alerts.yml").read_text(encoding="utf-8")
SUFFIXES = re.compile(r"_(total|bucket|count|sum)$")


def queries() -> Iterator[str]:
    yield from re.findall(r"^ +expr: (.+)$", ALERTS, re.MULTILINE)
    for panels in DASHBOARDS.values():
        for panel in panels:
            yield from panel.queries.values()


def exported() -> set[str]:
    """The names that the collectors yield, as the sources have them."""
    files = ("hub/metrics.py", "consumers/metrics.py", "streams/exposition.py", "hub/http/siblings.py")
    return {name for file in files for name in re.findall(r'"(hub_\w+)"', (ROOT / file).read_text(encoding="utf-8"))}


@pytest.mark.parametrize("query", sorted(set(queries())))
def test_a_query_names_metrics_that_there_are(query: str) -> None:
    named = set(re.findall(r"\bhub_\w+", query))

    assert {SUFFIXES.sub("", name) for name in named} <= exported()
    assert named or "up{" in query


def test_the_dashboards_are_as_generated() -> None:
    """`python -m ops.monitoring.dashboards` writes them."""
    assert {name: (FOLDER / name).read_text(encoding="utf-8") for name in texts()} == texts()
    for text in texts().values():
        panels = json.loads(text)["panels"]
        assert len({panel["id"] for panel in panels}) == len(panels)


def test_every_alert_has_a_runbook_of_its_name_and_a_test_of_its_rule() -> None:
    """And no page is of an alert that is gone."""
    names = re.findall(r"- alert: (\w+)", ALERTS)
    pages = re.findall(r"runbook_url: (\S+)$", ALERTS, re.MULTILINE)
    rules = (FOLDER / "alerts_test.yml").read_text(encoding="utf-8")
    folder = ROOT / "docs/operating/runbooks"

    assert len(names) == len(pages) == len(set(pages)) == ALERTS.count("severity: ")
    assert [(ROOT / page).read_text(encoding="utf-8").splitlines()[0] for page in pages] == [
        f"# {name}" for name in names
    ]
    assert {file.name for file in folder.glob("*.md")} == {Path(page).name for page in pages} | OTHERS
    assert [name for name in names if name not in rules] == []


def test_the_runbooks_name_metrics_that_exist() -> None:
    """By docs/operating/metrics.md, whose names other tests compare with what is served."""
    known = re.findall(r"\bhub_\w+", (ROOT / "docs/operating/metrics.md").read_text(encoding="utf-8"))
    pages = (ROOT / "docs/operating/runbooks").glob("*.md")
    named = {name for page in pages for name in re.findall(r"`(hub_\w+)", page.read_text(encoding="utf-8"))}

    assert len(named) > 10
    assert named <= set(known)
