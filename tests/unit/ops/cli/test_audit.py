"""An audit of IDs and sequence numbers: what is whole, and what it says of what is not."""

from __future__ import annotations

import pytest

from ops.cli.commands.audit import FAULTS_TOLD_MAX, Audit


def audited(*events: tuple[str, int], floor: int = 0, head: int | None = None) -> Audit:
    """The audit of these events."""
    found = Audit("conversation:1", "e", floor)
    for event_id, seq in events:
        found.take(event_id, seq)
    found.end(events[-1][1] if head is None else head)
    return found


def test_a_whole_channel_has_no_faults() -> None:
    """The report counts the events and names their range."""
    report = audited(("1-0", 1), ("1-1", 2), ("5-0", 3)).to_json()

    assert report == {
        "channel": "conversation:1", "epoch": "e", "events": 3, "from_seq": 1, "to_seq": 3, "whole": True, "faults": [],
    }  # fmt: skip # a table


def test_what_was_trimmed_is_no_hole() -> None:
    """The first event that is kept follows the floor."""
    assert audited(("9-0", 41), ("9-1", 42), floor=40).faults == []


@pytest.mark.parametrize(("events", "floor", "head", "fault"), [
    ((("1-0", 1), ("3-0", 3)), 0, 3, "seq 3 (3-0) follows 1"),
    ((("1-0", 1), ("2-0", 1)), 0, 1, "seq 1 (2-0) follows 1"),
    ((("2-0", 1), ("1-0", 2)), 0, 2, "event 1-0 stands behind 2-0"),
    ((("9-0", 42),), 40, 42, "seq 42 (9-0) follows 40"),
    ((("1-0", 1),), 0, 2, "the head is 2, the last event 1"),
])  # fmt: skip # a case a row
def test_faults(events: tuple[tuple[str, int], ...], floor: int, head: int, fault: str) -> None:
    """A hole, a repetition, a wrong order, a hole behind the floor, a missing end: each is said with the place."""
    found = audited(*events, floor=floor, head=head)

    assert found.faults == [fault]
    assert not found.to_json()["whole"]


def test_a_stream_broken_everywhere_gives_a_bounded_report() -> None:
    """The first faults say where to look."""
    found = audited(*((f"{n}-0", 2 * n) for n in range(1, 500)))

    assert len(found.faults) == FAULTS_TOLD_MAX
