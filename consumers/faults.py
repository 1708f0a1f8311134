"""Named points at which a test can make a worker fail. Pure: in production they do nothing.

Every await after which a crash must neither duplicate nor lose an effect has a point. A test passes an object that raises, or
kills the process, at one of them.
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
"""All points; a test goes through them."""


class Faults(Protocol):
    """Reacts when the worker reaches a point."""

    def hit(self, point: str) -> None:
        """Called when the worker reaches `point`."""


class NoFaults:
    """Does nothing at every point."""

    def hit(self, point: str) -> None:
        """Does nothing."""


NO_FAULTS: Final = NoFaults()
