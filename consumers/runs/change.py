"""What an event does to its run's hash, in the script that appends it. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from streams.envelope import Guard

Pairs = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Change:
    """What an event does to its run's hash, in the same script.

    Attributes:
        states: the run must be in one of these; empty is any.
        sets: fields written.
        checks: further conditions.
        guards: guards on other hashes.
    """

    states: tuple[str, ...] = ()
    sets: Pairs = ()
    increments: tuple[str, ...] = ()
    checks: tuple[tuple[str, str, str], ...] = ()
    guards: tuple[Guard, ...] = ()


NO_CHANGE = Change()
