"""The hub's answers to a cursor, row by row; an answer that contradicts itself is a gap."""

from __future__ import annotations

import pytest

from hub.client.errors import GapError
from hub.client.feed import Feed, Phase, SubscribeOptions, Taken, read_subscribed
from hub.client.items import Cursor, Event, Gap, Receipt

CHANNEL = "conversation:42"
HELD = Cursor("5-0", 5, "e1")


def answer(**changes: object) -> dict[str, object]:
    payload = {"epoch": "e1", "head": {"id": "9-0", "seq": 9}, "floor": {"id": "0", "seq": 0}, "recovered": True}
    return payload | {"replay": 4, "gap": None, "state": {"count": 9}, "state_at": 9} | changes


@pytest.mark.parametrize(
    ("held", "changes", "reason"),
    [
        (HELD, {}, None),
        (HELD, {"head": {"id": "5-0", "seq": 5}, "replay": 0}, None),
        (Cursor("5-0"), {}, None),
        (None, {"epoch": "e2", "recovered": False}, None),
        (HELD, {"gap": {"reason": "trimmed", "from_seq": 6, "to_seq": 7}}, "trimmed"),
        (HELD, {"epoch": "e2"}, "epoch_changed"),
        (HELD, {"recovered": False}, "cursor_unknown"),
        (HELD, {"head": {"id": "3-0", "seq": 3}}, "cursor_unknown"),
    ],
)
def test_an_answer_continues_a_cursor_or_is_a_gap(held, changes, reason):
    """Only an answer without contradiction continues; every other one stands at the head, with the state."""
    read = read_subscribed(CHANNEL, answer(**changes), held)

    assert (read.gap.reason if read.gap else None) == reason
    if read.gap is not None:
        assert (read.gap.head, read.gap.state) == (read.head, {"count": 9})


def event(seq: int) -> dict[str, object]:
    return {"id": f"{seq}-0", "seq": seq, "channel": CHANNEL, "type": "chat.message"}


def fed(feed: Feed, *seqs: int) -> list[Taken]:
    return [feed.event(event(seq), "{}", 0, 2) for seq in seqs]


def live(start: Cursor | None, *, raise_gaps: bool = True, **changes: object) -> Feed:
    feed = Feed(SubscribeOptions(CHANNEL, start, raise_gaps=raise_gaps), 100, lambda: None)
    feed.ask("c1")
    feed.subscribed({"payload": answer(**changes)})
    return feed


def test_a_feed_takes_the_next_event_only():
    """Lower numbers are repeats; a number skipped is a hole, and nothing behind it is taken."""
    feed = live(HELD)

    assert fed(feed, 5, 6, 6, 8, 7) == [Taken.REPEATED, Taken.YES, Taken.REPEATED, Taken.HOLE, Taken.YES]
    assert [item.seq for item in feed.items if isinstance(item, Event)] == [6, 7]


def test_a_cursor_without_a_number_learns_it_from_the_first_event():
    """The hub vouches for the first; from there on the feed counts for itself."""
    feed = live(Cursor("5-0"))

    assert fed(feed, 6, 8) == [Taken.YES, Taken.HOLE]


def test_a_cursor_without_a_number_at_the_head_learns_it_from_the_head():
    """Nothing to replay behind the head's own id: the next number is known."""
    feed = live(Cursor("9-0"), replay=0)

    assert feed.position == Cursor("9-0", 9, "e1")
    assert fed(feed, 11) == [Taken.HOLE]


def test_who_asked_for_live_only_begins_at_the_head():
    """The head is the cursor of a reader that was given nothing yet."""
    assert live(None, replay=0).position == Cursor("9-0", 9, "e1")


def test_a_receipt_for_more_than_came_is_a_hole():
    """`to_seq` is compared with what was taken; a true receipt is an item."""
    feed = live(HELD)
    fed(feed, 6, 7)

    assert feed.resumed({"payload": {"from_seq": 6, "to_seq": 8, "count": 3, "gap": None}}) is Taken.HOLE
    assert feed.resumed({"payload": {"from_seq": 6, "to_seq": 7, "count": 2, "gap": None}}) is Taken.YES
    assert feed.items[-1] == Receipt(CHANNEL, 6, 7, 2, None)


def test_a_gap_ends_a_feed_behind_what_came_before_it():
    """Events in front of the gap are still handed out; the error comes after them, and nothing after the error."""
    feed = live(HELD)
    fed(feed, 6)
    feed.subscribed({"payload": answer(gap={"reason": "too_far", "from_seq": 7, "to_seq": 9})})

    assert feed.phase is Phase.ENDED
    assert isinstance(feed.error, GapError)
    assert fed(feed, 10) == [Taken.PASSED_OVER]
    assert [type(item) for item in feed.items].count(Event) == 1


def test_a_reported_gap_goes_on_from_the_head():
    """The gap is an item between events; the next number is the head's successor."""
    feed = live(HELD, raise_gaps=False, gap={"reason": "trimmed", "from_seq": 6, "to_seq": 7})

    assert isinstance(feed.items[-1], Gap)
    assert fed(feed, 9, 10) == [Taken.REPEATED, Taken.YES]


def test_nothing_is_taken_before_the_answer():
    """An event before `channel.subscribed` belongs to an older subscription."""
    feed = Feed(SubscribeOptions(CHANNEL, HELD), 100, lambda: None)
    assert fed(feed, 6) == [Taken.PASSED_OVER]
    feed.ask("c1")
    assert fed(feed, 6) == [Taken.PASSED_OVER]
    assert feed.resumed({"payload": {"count": 1, "to_seq": 6}}) is Taken.PASSED_OVER
