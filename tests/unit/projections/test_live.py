"""The live lane folded: who types, where cursors are."""

from __future__ import annotations

from typing import Any

import pytest

from projections.live import CURSOR_LIFE_MS, LIVE_TYPES, Live
from projections.recorded import Recorded
from streams.channel import Kind

NOW_MS = 1_795_367_479_000


def signal(event_type: str, at_ms: int = NOW_MS, **payload: Any) -> Recorded:
    return Recorded(f"{at_ms}-0", 0, event_type, 1, {"kind": "user", "id": "alice"}, {}, payload)


def live(kind: Kind, *signals: Recorded) -> Live:
    state = Live(kind)
    for one in signals:
        state.apply(one)
    return state


def present(user: str, status: str, devices: int) -> Recorded:
    return signal("channel.presence", user=user, status=status, devices=devices)


class TestTyping:
    """People who are typing."""

    def test_typing_ends_by_itself(self) -> None:
        """After its `ttl_ms`, six seconds unless said otherwise; the newest sign counts."""
        state = live(
            Kind.CONVERSATION,
            signal("chat.typing", user="alice", state="start"),
            signal("chat.typing", NOW_MS + 1_000, user="bob", state="start", ttl_ms=1_000),
            signal("chat.typing", NOW_MS + 1_500, user="bob", state="start", ttl_ms=1_000),
        )

        assert state.render(NOW_MS + 2_000)["typing"] == ["alice", "bob"]
        assert state.render(NOW_MS + 2_500)["typing"] == ["alice"]
        assert state.render(NOW_MS + 6_000)["typing"] == []

    def test_stopping_and_leaving_end_it_at_once(self) -> None:
        """A user who is gone types no more."""
        state = live(
            Kind.CONVERSATION,
            signal("chat.typing", user="alice", state="start"),
            signal("chat.typing", user="bob", state="start"),
            signal("chat.typing", user="alice", state="stop"),
            present("bob", "left", 0),
        )

        assert state.render(NOW_MS)["typing"] == []

    def test_what_is_over_is_dropped(self) -> None:
        """A channel of a thousand writers holds those of the last seconds."""
        starts = [signal("chat.typing", NOW_MS + 1_000 * n, user=str(n), state="start") for n in range(100)]

        assert len(live(Kind.CONVERSATION, *starts).typing) == 6


def test_cursors_are_the_newest_of_each_device() -> None:
    """They expire, and go when nothing is selected any more."""
    state = live(
        Kind.DOCUMENT,
        signal("document.cursor", user="alice", client="c-1", selection={"at": 1}),
        signal("document.cursor", user="alice", client="c-2", selection="all", colour="red"),
        signal("document.cursor", NOW_MS + 10, user="alice", client="c-1", selection={"at": 2}),
        signal("document.cursor", NOW_MS + 10, user="bob", client="c-3", selection=3),
        signal("document.cursor", NOW_MS + 10, user="carol", client="c-4", selection=4),
        signal("document.cursor", NOW_MS + 10, user="carol", client="c-4", selection=None),
        signal("document.cursor", NOW_MS + 10, user="bob", client="c-3", selection=None),
    )

    assert state.render(NOW_MS + 10)["cursors"] == [
        {"user": "alice", "client": "c-2", "selection": "all", "colour": "red"},
        {"user": "alice", "client": "c-1", "selection": {"at": 2}},
    ]
    assert state.render(NOW_MS + 10 + CURSOR_LIFE_MS)["cursors"] == []


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        (Kind.CONVERSATION, ["typing"]),
        (Kind.AGENT, []),
        (Kind.TEAM, []),
        (Kind.DOCUMENT, ["cursors"]),
        (Kind.USER, []),
    ],
)
def test_each_kind_shows_its_own_fields(kind: Kind, fields: list[str]) -> None:
    """The lane gives these; the rest of the live part is kept beside the log."""
    assert list(live(kind).render(NOW_MS)) == fields


def test_other_events_change_nothing() -> None:
    """Answers, uploads and read markers are in the lane too, and kept elsewhere."""
    state = live(Kind.CONVERSATION, signal("channel.read", user="alice", up_to="5-0"))

    assert state == Live(Kind.CONVERSATION)
    assert b"channel.read" not in LIVE_TYPES
