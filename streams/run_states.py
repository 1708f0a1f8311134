"""The states of a run and the transitions between them (docs/protocol.md#runs). Pure.

The script that appends a run's events enforces this table: its guards compare the current state with `sources`.
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
"""For each state, the states that may follow it."""

OPEN_STATES: Final = tuple(state for state, following in TRANSITIONS.items() if following)
FINAL_STATES: Final = tuple(state for state, following in TRANSITIONS.items() if not following)
"""The states that end a run; each is entered with the run's only `agent.complete`."""

OUTCOMES: Final[Mapping[str, RunState]] = MappingProxyType(
    {
        "success": "completed",
        "failed": "failed",
        "cancelled": "cancelled",
        "expired": "expired",
    }
)
"""The final state for each value of `agent.complete.outcome`."""

QUEUED_MS_MAX: Final = 600_000
"""Maximum time in `queued`: if no worker took the run within ten minutes, none is available."""
RUNNING_MS_DEFAULT: Final = 600_000
"""Maximum duration of a segment if the client gave no `deadline_ms`."""
WAITING_MS_DEFAULT: Final = 86_400_000
"""Maximum wait for an answer without an `expires_at`: a person may answer the next day."""
CANCELLING_MS_MAX: Final = 15_000
"""Maximum time in `cancelling`: 5 s for a graceful stop, then a forced stop, then the reaper in case the worker is dead."""


def sources(following: RunState) -> tuple[RunState, ...]:
    """The states from which a run may enter `following`."""
    return tuple(state for state, reachable in TRANSITIONS.items() if following in reachable)
