"""Garbage of a node: nothing is looked at as a whole while the node is busy, and cycles end all the same."""

from __future__ import annotations

import gc
import resource
import sys
import weakref
from collections.abc import Iterator
from pathlib import Path

import pytest

from ops.cli.garbage import GROWTH_BYTES, STEADY_TURNS, WAITS_MAX, ShortPauses, _resident_bytes

GROWN = 20_000
SIZE_BYTES = 512 << 20


@pytest.fixture
def statm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file in which the system tells this process's size: its real one changes also with what else runs on the machine."""
    path = tmp_path / "statm"
    monkeypatch.setattr("ops.cli.garbage._STATM", path)
    tell(path, SIZE_BYTES)
    return path


def tell(statm: Path, size_bytes: int | None) -> None:
    """Set the size of the process, as Linux tells it: in pages, after the size of its address space. None: it is not told."""
    if size_bytes is None:
        statm.unlink()
        return
    pages = size_bytes // resource.getpagesize()
    statm.write_text(f"{2 * pages} {pages} 1024 64 0 512 0\n")


@pytest.fixture
def pauses(statm: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ShortPauses]:
    """Collections of this process, for which growing by some blocks is much."""
    monkeypatch.setattr("ops.cli.garbage.GROWTH", 1.0)
    monkeypatch.setattr("ops.cli.garbage.GROWTH_BLOCKS", GROWN // 2)
    thresholds = gc.get_threshold()
    yield ShortPauses()
    gc.set_threshold(*thresholds)
    gc.unfreeze()


class Ring:
    """An object that only a collector can free."""

    def __init__(self) -> None:
        self.own = self


async def test_a_cycle_that_was_set_aside_is_freed_once_the_memory_has_grown(pauses: ShortPauses) -> None:
    """Not in the turn in which it has grown, but when it has not for a while."""
    ring = Ring()
    gone = weakref.ref(ring)
    await pauses.turn()
    del ring
    ballast = [[number] for number in range(GROWN)]
    for _ in range(STEADY_TURNS):
        assert gone() is not None
        await pauses.turn()
    for _ in range(2):  # the turn that saw the growth was the first
        await pauses.turn()

    assert gone() is None
    assert pauses.full_count == 1
    assert len(ballast) == GROWN


async def test_large_objects_count_by_their_bytes(pauses: ShortPauses, statm: Path) -> None:
    """A cycle of a few objects may hold megabytes."""
    ring = Ring()
    gone = weakref.ref(ring)
    await pauses.turn()
    del ring
    tell(statm, SIZE_BYTES + GROWTH_BYTES)
    for _ in range(STEADY_TURNS + 1):
        await pauses.turn()

    assert gone() is None
    assert pauses.full_count == 1


async def test_a_size_that_is_not_told_once_is_no_growth(pauses: ShortPauses, statm: Path) -> None:
    """A process may be out of file descriptors for a moment, which is when it is busy."""
    tell(statm, None)
    await pauses.turn()
    tell(statm, SIZE_BYTES)
    for _ in range(STEADY_TURNS + 2):
        await pauses.turn()

    assert pauses.full_count == 0


@pytest.mark.skipif(sys.platform != "linux", reason="no other system tells the size of a process in this way")
def test_the_size_of_this_process_is_read() -> None:
    """An interpreter with the tests is between 20 MB and 1 TB."""
    assert 20 << 20 < _resident_bytes() < 1 << 40


async def test_steady_memory_is_never_looked_at_as_a_whole(pauses: ShortPauses) -> None:
    """Objects that come and go are freed by their last reference."""
    for _ in range(3 * STEADY_TURNS):
        assert len([[number] for number in range(GROWN)]) == GROWN
        await pauses.turn()

    assert pauses.full_count == 0


async def test_memory_that_grows_without_an_end_is_looked_at_after_all(
    pauses: ShortPauses, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cycles in it may be why it grows."""
    monkeypatch.setattr("ops.cli.garbage.STEADY", 0.0)  # whatever it is, it has grown
    ballast = [[number] for number in range(GROWN)]
    for _ in range(WAITS_MAX):
        await pauses.turn()
    before = pauses.full_count
    await pauses.turn()

    assert (before, pauses.full_count) == (0, 1)
    assert len(ballast) == GROWN


async def test_young_cycles_are_freed_as_usual_and_old_ones_not_by_themselves(pauses: ShortPauses) -> None:
    """Python's own collections go on, but for those of the oldest generation."""
    seen: list[int] = []

    def note(phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            seen.append(info["generation"])

    young = weakref.ref(Ring())
    gc.callbacks.append(note)
    try:
        kept = [[number] for number in range(30 * GROWN)]
    finally:
        gc.callbacks.remove(note)

    assert young() is None
    assert {0, 1} <= set(seen)
    assert 2 not in seen
    assert len(kept) == 30 * GROWN
