"""Stores that keep a reader's cursors from one run of a program to the next.

A cursor is saved only after its event was processed (the reader has asked for the next one). So after a crash the
last events may be delivered again, but none is skipped (at least once). Any class with the three methods of
`CursorStore` will do.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import tempfile
import threading
from pathlib import Path
from typing import Final, Protocol

from hub.client.items import Cursor

_WRITE_AFTER_S: Final = 0.25
"""Seconds during which saved cursors are collected for one write. A larger value repeats more events after a crash."""


class CursorStore(Protocol):
    """Keeps one cursor per channel. Its methods are called from the client's event loop, so none may block for long."""

    def load(self, channel: str) -> Cursor | None:
        """Returns the last saved cursor, or None."""
        ...

    def save(self, channel: str, cursor: Cursor) -> None:
        """Saves a cursor. It is called for every event, so implementations should collect cursors and write them later."""
        ...

    def flush(self) -> None:
        """Writes the collected cursors; called when the client closes."""
        ...


class MemoryCursors:
    """Keeps cursors in memory: a second subscription of the same client continues where the first one ended."""

    def __init__(self) -> None:
        self._held: dict[str, Cursor] = {}

    def load(self, channel: str) -> Cursor | None:
        """See `CursorStore`."""
        return self._held.get(channel)

    def save(self, channel: str, cursor: Cursor) -> None:
        """See `CursorStore`."""
        self._held[channel] = cursor

    def flush(self) -> None:
        """Does nothing: there is nothing to write."""


class FileCursors:
    """Keeps cursors in one JSON file, for one process at a time.

    The file is replaced atomically and synced to disk, so that a crash leaves either the old or the new version,
    never part of one. It is written in a thread, at most every quarter of a second; events of the time lost in a
    crash are delivered again.

    Args:
        path: the file; the first write creates it, its folder must exist.

    Raises:
        ValueError: the file exists but is not a cursor file.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path)
        self._held = _read(self._path)
        self._gathering: asyncio.AbstractEventLoop | None = None
        self._lock = threading.Lock()
        self._changes = self._written = 0

    def load(self, channel: str) -> Cursor | None:
        """See `CursorStore`."""
        return self._held.get(channel)

    def save(self, channel: str, cursor: Cursor) -> None:
        """See `CursorStore`. Outside an event loop it only collects: call `flush` to write."""
        self._held[channel] = cursor
        self._changes += 1
        if self._gathering is None:
            with contextlib.suppress(RuntimeError):  # no loop runs: the caller flushes
                self._gathering = asyncio.get_running_loop()
                self._gathering.call_later(_WRITE_AFTER_S, self._hand_over)

    def flush(self) -> None:
        """See `CursorStore`. Blocks for one write to disk."""
        self._write(self._changes, dict(self._held))

    def _hand_over(self) -> None:
        loop, self._gathering = self._gathering, None
        if loop is not None:
            loop.run_in_executor(None, self._write, self._changes, dict(self._held))

    def _write(self, changes: int, held: dict[str, Cursor]) -> None:
        """Writes a snapshot, unless a newer one was written already."""
        with self._lock:
            if changes > self._written:
                _replace(self._path, json.dumps({name: cursor.to_wire() for name, cursor in held.items()}, indent=1))
                self._written = changes


def _read(path: Path) -> dict[str, Cursor]:
    try:
        text = path.read_text()
    except FileNotFoundError:
        return {}
    try:
        return {name: Cursor(**cursor) for name, cursor in json.loads(text).items()}
    except (ValueError, TypeError, AttributeError) as problem:
        raise ValueError(f"{path} is not a cursor file; move it away to start over") from problem


def _replace(path: Path, text: str) -> None:
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".new")
    try:
        with os.fdopen(handle, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
