"""The errors of a fold. Pure."""

from __future__ import annotations


class ProjectionError(Exception):
    """The base of every error this package raises on purpose."""


class BrokenEvent(ProjectionError):
    """An event of a known type whose stored payload violates its schema. The caller parks it (records it for an operator).

    The fold has skipped it: only `seq` and `count` advanced, so folding can continue with the next event.

    Attributes:
        id: the event's ID.
        type: its type.
        problem: the invalid field and the rule it violates; never the value.
    """

    def __init__(self, event_id: str, event_type: str, problem: str) -> None:
        super().__init__(f"event {event_id} ({event_type}): {problem}")
        self.id = event_id
        self.type = event_type
        self.problem = problem


class EventsMissing(ProjectionError):
    """The next event's seq is not the state's plus one. Folding it would give a state that never existed.

    Attributes:
        held: the state's seq.
        given: the seq of the refused event.
    """

    def __init__(self, held: int, given: int) -> None:
        super().__init__(
            f"the state is at seq {held}, the event at {given}: fold the events in between, or start again"
        )
        self.held = held
        self.given = given


class SnapshotRefused(ProjectionError):
    """The bytes are no snapshot, or one of another version of a projection. Fold from the log instead."""


class PatchRefused(ProjectionError):
    """A JSON Patch does not apply to the document, or would make it larger or deeper than allowed.

    Attributes:
        index: index of the failing operation, from 0.
        problem: the reason.
    """

    def __init__(self, index: int, problem: str) -> None:
        super().__init__(f"operation {index}: {problem}")
        self.index = index
        self.problem = problem
