"""Log lines about what took longer than a quarter of a second: a handler, a call to Redis, a blocked event loop."""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
from collections.abc import Iterator
from itertools import islice
from time import monotonic
from types import FrameType
from typing import Final

SLOW_S: Final = 0.25
BEAT_S: Final = 0.1
"""Seconds between two beats of the loop, and between two looks at them."""
PLACES_MAX: Final = 4
"""Lines of a blocked loop's stack that are told, innermost first."""
_log: Final = logging.getLogger(__name__)


def tell_slow(kind: str, where: str, took_s: float) -> None:
    """Logs what was slow and where; lines of one place are limited like errors. To be called from `SLOW_S` on."""
    fields = {"slow": kind, "where": where, "took_ms": round(took_s * 1000), "error_class": f"{kind} {where}"}
    _log.info("slow %s: %s took %.0f ms", kind, where, took_s * 1000, extra=fields)


def _places(frame: FrameType | None) -> Iterator[str]:
    """Yields the line that a thread is at, and those that led to it."""
    while frame is not None:
        yield f"{frame.f_code.co_filename}:{frame.f_lineno} ({frame.f_code.co_name})"
        frame = frame.f_back


class LoopWatch:
    """Compares the beats of a loop with the clock. While one is late, it notes the line that the loop's thread is at."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._loop_thread = threading.get_ident()
        self._beat_s = monotonic()
        self._where = ""
        self._timer: asyncio.TimerHandle | None = None
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="loop-watch", daemon=True)

    def start(self) -> None:
        """Begins to watch; called in the loop."""
        self._beat_s = monotonic()
        self._timer = self._loop.call_later(BEAT_S, self._beat)
        self._thread.start()

    def close(self) -> None:
        """Ends the watch; called in the loop."""
        self._is_over.set()
        if self._timer is not None:
            self._timer.cancel()

    def _beat(self) -> None:
        now_s = monotonic()
        late_s, self._beat_s = now_s - self._beat_s - BEAT_S, now_s
        where, self._where = self._where, ""
        if late_s >= SLOW_S:
            tell_slow("event loop", where or "a place that was not seen", late_s)
        self._timer = self._loop.call_later(BEAT_S, self._beat)

    def _watch(self) -> None:
        """Runs in the thread: looks at the loop's thread once a beat is late."""
        while not self._is_over.wait(BEAT_S):
            if not self._where and monotonic() - self._beat_s - BEAT_S >= SLOW_S / 2:
                frame = sys._current_frames().get(self._loop_thread)  # noqa: SLF001 - documented; there is no other way to see it
                if frame is not None:
                    self._where = " < ".join(islice(_places(frame), PLACES_MAX))
