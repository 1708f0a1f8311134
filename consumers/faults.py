"""Named points where a test may make a worker fail. Pure: in production nothing happens there.

Each await after which a crash must not double or lose an effect has its point. Tests pass an object that raises, or kills the
process, at one of them.
"""

from __future__ import annotations

from typing import Final, Protocol

_SIDES: Final = ("before", "after")
POINTS: Final = (
    "before_handle",
    *(f"{side}_{step}" for step in ("append", "ack", "park") for side in _SIDES),
    *(
        f"run_{side}_{step}"
        for step in ("take", "start", "tool", "step", "end", "ask", "wait", "complete")
        for side in _SIDES
    ),
    "run_after_turn",
)
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
