"""Lines about a blocked event loop: how long, and at which line."""

from __future__ import annotations

import logging
import threading

import pytest

from streams.slow_paths import SLOW_S, LoopWatch
from support.until import until


def block_the_loop() -> None:
    threading.Event().wait(2 * SLOW_S)


async def test_a_blocked_loop_is_told_with_the_line_that_blocks_it(caplog: pytest.LogCaptureFixture) -> None:
    """The thread looks while the loop stands still; the line comes once it goes on."""
    caplog.set_level(logging.INFO, "streams.slow_paths")
    watch = LoopWatch()
    watch.start()
    block_the_loop()
    await until(lambda: bool(caplog.records))
    watch.close()

    (record, *_) = caplog.records
    assert record.slow == "event loop"
    assert record.took_ms >= SLOW_S * 1000
    assert "test_slow_paths.py" in record.where
    assert "block_the_loop" in record.where
