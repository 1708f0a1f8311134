"""Named points where a test may make a worker fail. Pure: in production nothing happens there.

Each await after which a crash must not double or lose an effect has its point. Tests pass an object that raises, or kills the
process, at one of them.
"""

from __future__ import annotations

from typing import Final, Protocol

POINTS: Final = (
    "before_handle", "before_append", "after_append", "before_ack", "after_ack", "before_park", "after_park",
    "run_before_take", "run_after_take", "run_before_start", "run_after_start", "run_before_tool",
    "run_after_tool", "run_before_step", "run_after_step", "run_before_end", "run_after_end", "run_before_ask",
    "run_after_ask", "run_before_wait", "run_after_wait", "run_before_complete", "run_after_complete",
    "run_after_turn",
)  # fmt: skip
"""Every point; a test enumerates them."""


class Faults(Protocol):
    """Reacts to a point that is reached."""

    def hit(self, point: str) -> None:
        """Called when the worker reaches `point`."""


class NoFaults:
    """Does nothing at any point."""

    def hit(self, point: str) -> None:
        """Does nothing."""


NO_FAULTS: Final = NoFaults()
