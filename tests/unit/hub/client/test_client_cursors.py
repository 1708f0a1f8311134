"""Cursor stores: what was saved is there, whole, after any end of the process."""

from __future__ import annotations

import asyncio
import json
import os

import pytest

from hub.client import Cursor, FileCursors, MemoryCursors

CURSOR = Cursor("5-0", 5, "e1")


@pytest.fixture(params=["memory", "file"])
def store(request, tmp_path):
    return MemoryCursors() if request.param == "memory" else FileCursors(tmp_path / "cursors.json")


def test_a_cursor_is_kept_by_channel(store):
    """The newest saved is loaded; an unknown channel has none."""
    store.save("team:a", Cursor("1-0"))
    store.save("team:a", CURSOR)
    store.flush()

    assert store.load("team:a") == CURSOR
    assert store.load("team:b") is None


def test_a_file_outlives_its_store(tmp_path):
    """A flushed cursor is there for the next process."""
    store = FileCursors(tmp_path / "c")
    store.save("team:a", CURSOR)
    store.save("team:b", Cursor("0"))
    store.flush()

    again = FileCursors(tmp_path / "c")

    assert (again.load("team:a"), again.load("team:b")) == (CURSOR, Cursor("0"))


def test_the_file_is_replaced_whole(tmp_path, monkeypatch):
    """A write that fails half way leaves the old file, and no debris."""
    store = FileCursors(tmp_path / "c")
    store.save("team:a", CURSOR)
    store.flush()
    store.save("team:a", Cursor("9-0", 9, "e1"))

    def fail(handle: int) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="no space"):
        store.flush()

    assert FileCursors(tmp_path / "c").load("team:a") == CURSOR
    assert [file.name for file in tmp_path.iterdir()] == ["c"]


async def test_saves_are_gathered_into_one_write(tmp_path):
    """Within a loop the file follows by itself, with the newest cursor of all saves."""
    store = FileCursors(tmp_path / "c")
    for seq in range(1, 1001):
        store.save("team:a", Cursor(f"{seq}-0", seq))
    assert not (tmp_path / "c").exists()
    async with asyncio.timeout(40):
        while not (tmp_path / "c").exists():
            await asyncio.get_running_loop().run_in_executor(None, os.sched_yield)

    assert json.loads((tmp_path / "c").read_text()) == {"team:a": {"after": "1000-0", "seq": 1000}}


@pytest.mark.parametrize("text", ["", "[]", "{", '{"team:a": 5}', '{"team:a": {"before": "1-0"}}'])
def test_a_file_of_something_else_is_refused(tmp_path, text):
    """Starting from nowhere in silence would skip events; the file is named instead."""
    (tmp_path / "c").write_text(text)

    with pytest.raises(ValueError, match="not a cursor file"):
        FileCursors(tmp_path / "c")
