"""What a socket received, kept with the time of each piece and taken apart afterwards. Pure but for the clock."""

from __future__ import annotations

import asyncio
import json
import time
from bisect import bisect_left
from collections.abc import Iterator
from typing import Any, Final

from ops.bench.load_client import LoadSocket

_DONE: Final = b'"type":"agent.complete"'
_TWO_BYTES: Final = 126
_EIGHT_BYTES: Final = 127


class Received:
    """A socket's bytes from the moment it is listened to.

    Attributes:
        over: set when an `agent.complete` has come.
    """

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._ends: list[int] = []
        self._times_s: list[float] = []
        self._last = b""
        self.over = asyncio.Event()

    def take(self, _socket: LoadSocket, data: bytes) -> None:
        """Keep a piece; it may begin or end within a frame."""
        self._pieces.append(data)
        self._ends.append((self._ends[-1] if self._ends else 0) + len(data))
        self._times_s.append(time.monotonic())
        if _DONE in self._last + data:
            self.over.set()
        self._last = data[-len(_DONE) :]

    def deltas(self) -> list[tuple[float, dict[str, Any]]]:
        """The deltas of the answer with the time at which each had come whole (CLOCK_MONOTONIC, seconds)."""
        return [(at_s, f["payload"]) for at_s, f in self._frames() if f["type"] == "assistant.message.delta"]

    def ended_text(self) -> str:
        """The text of all ends of messages."""
        return "".join(f["payload"]["text"] for _, f in self._frames() if f["type"] == "assistant.message.end")

    def _frames(self) -> Iterator[tuple[float, dict[str, Any]]]:
        """Text frames of a server: never masked, and not in parts (RFC 6455, 5.2)."""
        data, at = b"".join(self._pieces), 0
        while at < len(data):
            size, start = data[at + 1], at + 2
            if size == _TWO_BYTES:
                size, start = int.from_bytes(data[start : start + 2], "big"), start + 2
            elif size == _EIGHT_BYTES:
                size, start = int.from_bytes(data[start : start + 8], "big"), start + 8
            at = start + size
            yield self._times_s[bisect_left(self._ends, at)], json.loads(data[start:at])
