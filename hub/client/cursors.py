"""Stores for a reader's cursors between two runs.

A cursor is saved after its event was taken (the reader asked for the next one), never before: after a crash the last
events may be repeated, none is skipped (at least once). A store of your own needs the three methods of `CursorStore`.
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
"""Seconds that saved cursors are gathered before one write. Larger repeats more events after a crash."""


class CursorStore(Protocol):
    """Keeps one cursor for each channel. Called from the client's event loop, so none of it may block for long."""

    def load(self, channel: str) -> Cursor | None:
        """The cursor saved last; None when there is none."""
        ...

    def save(self, channel: str, cursor: Cursor) -> None:
        """Keep this cursor. Called once an event, so it gathers and writes later."""
        ...

    def flush(self) -> None:
        """Write the gathered cursors; called when the client closes."""
        ...


class MemoryCursors:
    """Cursors for as long as the process lives: a second subscription goes on where the first one ended."""

    def __init__(self) -> None:
        self._held: dict[str, Cursor] = {}

    def load(self, channel: str) -> Cursor | None:
        """See `CursorStore`."""
        return self._held.get(channel)

    def save(self, channel: str, cursor: Cursor) -> None:
        """See `CursorStore`."""
        self._held[channel] = cursor

    def flush(self) -> None:
        """Do nothing: nothing is gathered."""


class FileCursors:
    """Cursors in one JSON file, for one process at a time.

    The file is replaced atomically and synced to disk, so a crash leaves the old or the new one and never half of it.
    Writes happen in a thread, at most every quarter of a second; what a crash loses is at most that, and is read again.

    Args:
        path: the file; made at the first write, its folder must exist.

    Raises:
        ValueError: the file is there and is not one of ours.
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
        """See `CursorStore`. Outside an event loop it is only gathered: call `flush`."""
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
        """Write a snapshot, unless a newer one was written already."""
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
