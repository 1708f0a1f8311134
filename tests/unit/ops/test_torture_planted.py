"""The torture's planted bugs still apply, its schedule is its seed's, and its page says no more than the results."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from ops.torture.planted import ROOT, Bug, DoesNotApply, apply, read_bugs
from ops.torture.reliability import PAGE, load, page
from ops.torture.schedule import GROUPS, kinds_of, make_schedule


@pytest.mark.parametrize("bug", read_bugs(), ids=lambda bug: bug.name)
def test_a_planted_bug_still_applies(bug: Bug, tmp_path: Path) -> None:
    """The tree moves on; a bug whose text is gone would prove nothing and say nothing."""
    for name, _, _ in bug.edits:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)

    apply(bug, tmp_path)

    assert any((tmp_path / name).read_text() != (ROOT / name).read_text() for name, _, _ in bug.edits)


def test_a_bug_that_does_not_apply_is_an_error(tmp_path: Path) -> None:
    """Here the file is not there."""
    with pytest.raises(DoesNotApply, match="0 times"):
        apply(read_bugs()[0], tmp_path)


def test_there_are_enough_bugs() -> None:
    bugs = read_bugs()

    assert len({bug.name for bug in bugs}) == len(bugs) >= 25


def test_one_seed_is_one_schedule() -> None:
    """And every kind is in it, if there is time."""
    kinds = kinds_of([name for name in GROUPS if name != "failover"], has_sentinels=False)

    first, again, other = (make_schedule(seed, 120, kinds) for seed in (1, 1, 2))

    assert first == again != other
    assert first.names == sorted(kinds)


@pytest.mark.interpreted  # the wheel has the page, but not the results
def test_the_page_is_what_the_results_say() -> None:
    """`hub torture --write-page` writes it; nobody else does."""
    assert PAGE.read_text(encoding="utf-8") == page(load())
