"""Cyclic garbage in a process whose event loop must not stand still.

Python collects its oldest generation whenever that has grown by a quarter, and looks at every object of the process then. While
5,000 clients came back to a node, this was a sixth of its time, in pauses of up to 350 ms for everybody else. Here young objects
are collected as usual. What has survived is set aside (`gc.freeze`) every second: nearly all of it is freed by its last
reference, without a collector. Everything is looked at only once the memory in use has grown by half, and no longer grows: then
cycles may have gathered among what was set aside.
"""

from __future__ import annotations

import gc
import resource
import sys
from pathlib import Path
from time import monotonic
from typing import Final

from streams.slow_paths import SLOW_S, tell_slow

EVERY_S: Final = 1.0
GROWTH: Final = 1.5
"""Growth of the memory in use after which everything is looked at: in blocks of Python's allocator, or in bytes of the process."""
GROWTH_BLOCKS: Final = 200_000
"""The least growth: about 20 MB of small objects, or 2,000 connections."""
GROWTH_BYTES: Final = 67_108_864
"""The least growth in bytes, which also counts large objects. Only Linux tells them."""
_STATM: Final = Path("/proc/self/statm")
STEADY: Final = 1.01
"""Growth in one turn up to which the memory does not grow any more."""
STEADY_TURNS: Final = 10
"""Turns in a row without growth after which the process is not busy with what made it grow."""
WAITS_MAX: Final = 120
"""Turns for which a look at everything is put off at most."""
_NEVER: Final = 1_000_000_000


def forget_startup() -> None:
    """Exempt all existing objects from garbage collection; to be called once, when a process has started.

    Objects made at start-up (modules, pydantic's schemas, botocore's service models) live as long as the process, and every
    full collection would traverse all of them: the event loop was blocked for 80 to 140 ms in a worker with 200 answers.
    """
    gc.collect()
    gc.freeze()


class ShortPauses:
    """Collects the garbage of this process in short pauses while it is busy; to be made once the process has started.

    Attributes:
        full_count: the collections that looked at everything.
    """

    def __init__(self) -> None:
        forget_startup()
        young, middle, _ = gc.get_threshold()
        gc.set_threshold(young, middle, _NEVER)
        self.full_count = 0
        self._steady = self._waits = 0
        self._kept_blocks = self._last_blocks = sys.getallocatedblocks()
        self._kept_bytes = _resident_bytes()

    async def turn(self) -> None:
        """Collects what is young and sets the rest aside; to be called every second."""
        blocks = sys.getallocatedblocks()
        self._steady = self._steady + 1 if blocks <= self._last_blocks * STEADY else 0
        self._last_blocks, size_bytes = blocks, _resident_bytes() or self._kept_bytes
        self._kept_blocks, self._kept_bytes = min(self._kept_blocks, blocks), min(self._kept_bytes, size_bytes)
        if not (
            _has_grown(blocks, self._kept_blocks, GROWTH_BLOCKS)
            or _has_grown(size_bytes, self._kept_bytes, GROWTH_BYTES)
        ):
            self._waits = 0
        elif self._steady < STEADY_TURNS and self._waits < WAITS_MAX:
            self._waits += 1
        else:
            self._collect_all()
            return
        gc.collect(1)
        gc.freeze()

    def _collect_all(self) -> None:
        began_s = monotonic()
        gc.unfreeze()
        gc.collect()
        gc.freeze()
        self.full_count += 1
        self._waits = 0
        self._kept_blocks = self._last_blocks = sys.getallocatedblocks()
        self._kept_bytes = _resident_bytes() or self._kept_bytes
        if (took_s := monotonic() - began_s) >= SLOW_S:
            tell_slow("garbage collection", "everything", took_s)


def _has_grown(now: int, kept: int, least: int) -> bool:
    return now >= max(kept * GROWTH, kept + least)


def _resident_bytes() -> int:
    """The memory of this process; 0 where the system does not tell it, or not now for lack of file descriptors."""
    try:
        return int(_STATM.read_bytes().split()[1]) * resource.getpagesize()
    except OSError:
        return 0
