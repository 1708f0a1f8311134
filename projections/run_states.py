"""The life of an agent's run (EVENTS 12), as data. Pure.

    queued ──▶ running ──▶ waiting ──▶ queued (next segment) …
                  │  └───▶ cancelling ──▶ cancelled
                  └──────▶ completed | failed | expired | queued (new attempt)

Who may change a state and how it is compared and set is the append script's business; this is only what it may become.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final


class RunState(StrEnum):
    """Where a run stands."""

    QUEUED = "queued"
    RUNNING = "running"
    WAITING = "waiting"
    CANCELLING = "cancelling"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


_NONE: Final[frozenset[RunState]] = frozenset()
TRANSITIONS: Final[Mapping[RunState, frozenset[RunState]]] = MappingProxyType({
    RunState.QUEUED: frozenset({RunState.RUNNING, RunState.CANCELLED, RunState.EXPIRED}),
    RunState.RUNNING: frozenset({
        RunState.WAITING, RunState.CANCELLING, RunState.COMPLETED, RunState.FAILED, RunState.EXPIRED, RunState.QUEUED,
    }),
    RunState.WAITING: frozenset({RunState.QUEUED, RunState.CANCELLED, RunState.EXPIRED}),
    RunState.CANCELLING: frozenset({RunState.CANCELLED, RunState.COMPLETED, RunState.FAILED}),
    RunState.COMPLETED: _NONE,
    RunState.FAILED: _NONE,
    RunState.CANCELLED: _NONE,
    RunState.EXPIRED: _NONE,
})  # fmt: skip
"""State → the states it may become."""

FINAL: Final = frozenset(state for state, following in TRANSITIONS.items() if not following)
"""The states that end a run; exactly one `agent.complete` brings one of them."""
OPEN: Final = frozenset(TRANSITIONS) - FINAL

OUTCOMES: Final[Mapping[str, RunState]] = MappingProxyType({
    "success": RunState.COMPLETED, "failed": RunState.FAILED,
    "cancelled": RunState.CANCELLED, "expired": RunState.EXPIRED,
})  # fmt: skip
"""`agent.complete.outcome` → the state it brings."""

QUEUED_MS_MAX: Final = 600_000
"""A run nobody took within ten minutes has no worker to wait for."""
RUNNING_MS_DEFAULT: Final = 600_000
"""Where the invoker gave no `deadline_ms`."""
WAITING_MS_DEFAULT: Final = 86_400_000
"""Where no open request has an `expires_at`: a person may answer tomorrow."""
CANCELLING_MS_MAX: Final = 15_000
"""5 s of good will, a hard stop, and the reaper for a worker that is gone."""
LEASE_MS: Final = 15_000
"""How long a worker is believed to live after its last sign; renewed three times as often."""


def may(previous: RunState | None, following: RunState) -> bool:
    """Whether a run in state `previous` may become `following`; None is a run that does not exist yet."""
    if previous is None:
        return following is RunState.QUEUED
    return following in TRANSITIONS[previous]


def sources(following: RunState) -> tuple[RunState, ...]:
    """The states from which a run may become `following`, in the order of `RunState`: what a guard compares with."""
    return tuple(state for state in RunState if following in TRANSITIONS[state])


def deadline_ms(
    state: RunState, entered_ms: int, *, run_deadline_ms: int | None = None, earliest_expiry_ms: int | None = None
) -> int | None:
    """When the reaper ends a run that is still in this state, in milliseconds since 1970; None for a final state.

    Args:
        state: the state the run is in.
        entered_ms: when it entered it.
        run_deadline_ms: the invocation's `deadline_ms`, a duration.
        earliest_expiry_ms: the earliest `expires_at` of its open requests, a time.
    """
    match state:
        case RunState.QUEUED:
            return entered_ms + QUEUED_MS_MAX
        case RunState.RUNNING:
            return entered_ms + (RUNNING_MS_DEFAULT if run_deadline_ms is None else run_deadline_ms)
        case RunState.WAITING:
            return entered_ms + WAITING_MS_DEFAULT if earliest_expiry_ms is None else earliest_expiry_ms
        case RunState.CANCELLING:
            return entered_ms + CANCELLING_MS_MAX
    return None
