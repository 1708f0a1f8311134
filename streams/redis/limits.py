"""Sizes and lives of what the log keeps beside its events. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Sizes in entries, lives in seconds.

    Attributes:
        idempotency_entries: command ids in one generation: the window at 66/s, above the sustained chat limit of 50/s. Two
            generations bound a user to about 7 MB in a partition.
        idempotency_window_s: least time in which a user's command id is known.
        idempotency_ttl_s: life of an actor's command ids after the last.
        live_entries: length of a live lane, approximate.
        live_ttl_s: life of a live lane after its last entry. What it says longest is a cursor's place, for 10 minutes.
        bell_entries: length of a bell, approximate; it never has fewer once it had so many.
    """

    idempotency_entries: int = 40_000
    idempotency_window_s: int = 600
    idempotency_ttl_s: int = 3_600
    live_entries: int = 1_000
    live_ttl_s: int = 900
    bell_entries: int = 1_000


DEFAULT_LIMITS = Limits()
