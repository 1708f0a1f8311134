"""The errors of a fold. Pure."""

from __future__ import annotations


class ProjectionError(Exception):
    """The base of every error this package raises on purpose."""


class BrokenEvent(ProjectionError):
    """An event of a known type whose stored payload violates its schema. The caller parks it.

    The fold has skipped it: only `seq` and `count` moved on, so folding continues with the next event.

    Attributes:
        id: the event's ID.
        type: its type.
        problem: what is wrong, naming the field; never the value.
    """

    def __init__(self, event_id: str, event_type: str, problem: str) -> None:
        super().__init__(f"event {event_id} ({event_type}): {problem}")
        self.id = event_id
        self.type = event_type
        self.problem = problem


class EventsMissing(ProjectionError):
    """The next event's seq is not the state's plus one: folding on would give a state no log ever had.

    Attributes:
        held: the state's seq.
        given: the seq of the event that was refused.
    """

    def __init__(self, held: int, given: int) -> None:
        super().__init__(
            f"the state is at seq {held}, the event at {given}: fold the events in between, or start again"
        )
        self.held = held
        self.given = given


class SnapshotRefused(ProjectionError):
    """The snapshot is of an older projection, or not a snapshot at all. Rebuild from the log."""


class PatchRefused(ProjectionError):
    """A JSON Patch that does not apply to the document, or would make it larger or deeper than allowed.

    Attributes:
        index: index of the operation, from 0.
        problem: what is wrong with it.
    """

    def __init__(self, index: int, problem: str) -> None:
        super().__init__(f"operation {index}: {problem}")
        self.index = index
        self.problem = problem
