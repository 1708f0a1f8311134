"""The states of a run and the transitions between them (docs/protocol.md#runs). Pure.

The script that appends a run's events enforces this table: `sources` is what its guards compare with.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, Literal

RunState = Literal["queued", "running", "waiting", "cancelling", "completed", "failed", "cancelled", "expired"]

_NONE: Final[frozenset[RunState]] = frozenset()
TRANSITIONS: Final[Mapping[RunState, frozenset[RunState]]] = MappingProxyType(
    {
        "queued": frozenset({"running", "cancelled", "expired"}),
        "running": frozenset({"waiting", "cancelling", "completed", "failed", "expired", "queued"}),
        "waiting": frozenset({"queued", "cancelled", "expired"}),
        "cancelling": frozenset({"cancelled", "completed", "failed"}),
        "completed": _NONE,
        "failed": _NONE,
        "cancelled": _NONE,
        "expired": _NONE,
    }
)
"""State → the states it may become."""

OPEN_STATES: Final = tuple(state for state, following in TRANSITIONS.items() if following)
FINAL_STATES: Final = tuple(state for state, following in TRANSITIONS.items() if not following)
"""The states that end a run; exactly one `agent.complete` brings one of them."""

OUTCOMES: Final[Mapping[str, RunState]] = MappingProxyType(
    {
        "success": "completed",
        "failed": "failed",
        "cancelled": "cancelled",
        "expired": "expired",
    }
)
"""`agent.complete.outcome` → the state it brings."""

QUEUED_MS_MAX: Final = 600_000
"""A run nobody took within ten minutes has no worker to wait for."""
RUNNING_MS_DEFAULT: Final = 600_000
"""The limit of a segment whose invoker gave no `deadline_ms`."""
WAITING_MS_DEFAULT: Final = 86_400_000
"""The limit of a wait without an `expires_at`: a person may answer tomorrow."""
CANCELLING_MS_MAX: Final = 15_000
"""5 s of good will, a hard stop, and the reaper for a worker that is gone."""


def sources(following: RunState) -> tuple[RunState, ...]:
    """The states from which a run may enter `following`."""
    return tuple(state for state, reachable in TRANSITIONS.items() if following in reachable)
