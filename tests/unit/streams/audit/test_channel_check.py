"""An audit of IDs and sequence numbers: what is whole, and what it says of what is not."""

from __future__ import annotations

import pytest

from streams.audit.channel_check import COVERS, FAULTS_TOLD_MAX, Audit
from streams.channel import parse_channel
from streams.cursor import Position
from streams.envelope import DAMAGED, Entry
from streams.redis.stored import ChannelRecord

CHANNEL = parse_channel("acme", "conversation:1")


def event(event_id: str, seq: int, type_: bytes = b"chat.message") -> Entry:
    """An event of the stream."""
    return Entry(event_id.encode(), seq, type_, b"1", b"{}", b"{}", b"{}")


def audited(*events: tuple[str, int], floor: int = 0, head: int | None = None) -> Audit:
    """The audit of these events."""
    recorded = events[-1][1] if head is None else head
    floor_id = "0" if floor == 0 else "8-0"
    found = Audit(CHANNEL, record(recorded, Position(floor_id, floor), last_id=events[-1][0]))
    for event_id, seq in events:
        found.take(event(event_id, seq))
    found.end(recorded)
    return found


def record(seq: int, floor: Position, *, last_id: str | None, epoch: str | None = "e") -> ChannelRecord:
    """The record of a channel that is listed, in its first life."""
    return ChannelRecord(epoch, "e", seq, floor, last_id, is_listed=True)


def test_a_whole_channel_has_no_faults() -> None:
    """The report counts the events and names their range."""
    report = audited(("1-0", 1), ("1-1", 2), ("5-0", 3)).to_json()

    assert report == {
        "told": "Intact: events 1 to 3 are there, in order and undamaged. No checkpoint covers them, "
        "so a forger with access to Redis would not show.",
        "channel": "conversation:1", "epoch": "e", "events": 3, "hot_events": 3, "archived_events": 0, "from_seq": 1, "to_seq": 3,
        "whole": True, "first_bad_seq": None, "faults": [], "without_checksum": 0, "covers": COVERS,
    }  # fmt: skip # a table


def test_a_damaged_event_is_named_in_its_place() -> None:
    found = Audit(CHANNEL, record(2, Position("0", 0), last_id="2-0"))

    found.take(event("1-0", 1, DAMAGED))
    found.take(event("2-0", 2))
    found.end(2)

    assert found.faults == ["event 1-0 is damaged: its bytes do not match their checksum"]
    assert found.first_bad_seq == 1


def test_what_was_trimmed_is_no_hole() -> None:
    """The first event that is kept follows the floor."""
    assert audited(("9-0", 41), ("9-1", 42), floor=40).faults == []


@pytest.mark.parametrize(("events", "floor", "head", "bad", "fault"), [
    ((("1-0", 1), ("3-0", 3)), 0, 3, 2, "seq 3 (3-0) follows 1"),
    ((("1-0", 1), ("2-0", 1)), 0, 1, 2, "seq 1 (2-0) follows 1"),
    ((("2-0", 1), ("1-0", 2)), 0, 2, 2, "event 1-0 comes after 2-0"),
    ((("9-0", 42),), 40, 42, 41, "seq 42 (9-0) follows 40"),
    ((("1-0", 1),), 0, 2, 2, "the head is 2, but the last event is 1"),
])  # fmt: skip # a case a row
def test_faults(events: tuple[tuple[str, int], ...], floor: int, head: int, bad: int, fault: str) -> None:
    """A hole, a repetition, a wrong order, a hole behind the floor, a missing end: each is said with the place."""
    found = audited(*events, floor=floor, head=head)

    assert (found.faults, found.first_bad_seq) == ([fault], bad)
    assert not found.to_json()["whole"]


def test_an_event_taken_out_with_its_count_is_told_by_the_streams_own_id() -> None:
    """Whoever also sets the recorded seq back does not reach the newest id that the stream gave."""
    found = Audit(CHANNEL, record(1, Position("0", 0), last_id="2-0"))
    found.take(event("1-0", 1))
    found.end(1)

    assert (found.faults, found.first_bad_seq) == (["the stream last assigned the id 2-0, the last event is 1-0"], 2)


def test_a_record_behind_its_events_is_told() -> None:
    """Events above the recorded seq were not appended by the hub, or the record was set back."""
    found = Audit(CHANNEL, record(1, Position("0", 0), last_id="2-0"))
    found.take(event("1-0", 1))
    found.take(event("2-0", 2))
    found.end(1)

    assert found.first_bad_seq == 2


def test_a_stream_broken_everywhere_gives_a_bounded_report() -> None:
    """The first faults say where to look."""
    found = audited(*((f"{n}-0", 2 * n) for n in range(1, 500)))

    assert len(found.faults) == FAULTS_TOLD_MAX


def test_a_stream_that_vanished_is_counted() -> None:
    """The record knows how many events there were."""
    found = Audit(CHANNEL, record(600, Position("0", 0), last_id=None))
    found.end(600)

    assert (found.faults, found.first_bad_seq) == (["600 events recorded, 0 found: the stream was deleted"], 1)
