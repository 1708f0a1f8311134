"""The live part: presence, typing, cursors, read markers, members, uploads, answers in progress."""

from __future__ import annotations

from typing import Any

import pytest

from projections import BrokenEvent, Recorded, fold
from projections.live import CURSOR_LIFE_MS, LIVE, READ_MARKERS_MAX, UPLOAD_LIFE_MS, Live
from projections.live_rendering import render_live
from projections.open_messages import ENDED_MAX, OpenMessages
from projections.presence import LISTED_MAX, PRESENCE, Person, render_presence
from projections.projection import Projection
from projections.uploads import Upload, Uploads
from streams.channel import Kind

NOW_MS = 1_795_367_479_000


def signal(event_type: str, at_ms: int = NOW_MS, **payload: Any) -> Recorded:
    return Recorded(f"{at_ms}-0", 0, event_type, 1, {"kind": "user", "id": "alice"}, {}, payload)


def live(kind: Kind, *signals: Recorded) -> Live:
    return fold(LIVE, signals, LIVE.initial(kind))


def present(user: str, status: str, devices: int) -> Recorded:
    return signal("channel.presence", user=user, status=status, devices=devices)


class TestPresence:
    """Who is there."""

    def test_people_come_and_go(self) -> None:
        """One entry a person, whatever the number of devices."""
        people = fold(PRESENCE, [
            present("bob", "joined", 1), present("alice", "joined", 1), present("alice", "joined", 2),
            present("alice", "away", 2), present("alice", "left", 1), present("carol", "joined", 1), present("carol", "left", 0),
        ], PRESENCE.initial(Kind.TEAM))  # fmt: skip

        assert people == {"bob": Person("bob", "active", 1), "alice": Person("alice", "away", 1)}
        assert render_presence(people) == {"presence": [
            {"user": "alice", "status": "away", "devices": 1}, {"user": "bob", "status": "active", "devices": 1},
        ]}  # fmt: skip

    def test_many_are_counted(self) -> None:
        """Two hundred are listed, more are a number."""
        people = {str(n): Person(str(n), "active", 1) for n in range(LISTED_MAX)}
        assert len(render_presence(people)["presence"]) == LISTED_MAX  # type: ignore[arg-type]

        people["x"] = Person("x", "active", 1)
        assert render_presence(people) == {"presence_count": LISTED_MAX + 1}

    def test_other_events_change_nothing(self) -> None:
        """It is a projection like the others, for those who want only presence."""
        projection: Projection[dict[str, Person]] = PRESENCE

        assert projection.apply({}, signal("chat.typing", user="bob", state="start")) == {}


class TestTyping:
    """Who types."""

    def test_typing_ends_by_itself(self) -> None:
        """After its `ttl_ms`, six seconds unless said otherwise; the newest sign counts."""
        state = live(
            Kind.CONVERSATION,
            signal("chat.typing", user="alice", state="start"),
            signal("chat.typing", NOW_MS + 1_000, user="bob", state="start", ttl_ms=1_000),
            signal("chat.typing", NOW_MS + 1_500, user="bob", state="start", ttl_ms=1_000),
        )

        assert render_live(state, NOW_MS + 2_000)["typing"] == ["alice", "bob"]
        assert render_live(state, NOW_MS + 2_500)["typing"] == ["alice"]
        assert render_live(state, NOW_MS + 6_000)["typing"] == []

    def test_stopping_and_leaving_end_it_at_once(self) -> None:
        """Who is gone types no more."""
        state = live(
            Kind.CONVERSATION,
            signal("chat.typing", user="alice", state="start"), signal("chat.typing", user="bob", state="start"),
            signal("chat.typing", user="alice", state="stop"), present("bob", "left", 0),
        )  # fmt: skip

        assert render_live(state, NOW_MS)["typing"] == []

    def test_what_is_over_is_dropped(self) -> None:
        """A channel of a thousand writers holds those of the last seconds."""
        starts = [signal("chat.typing", NOW_MS + 1_000 * n, user=str(n), state="start") for n in range(100)]

        assert len(live(Kind.CONVERSATION, *starts).typing) == 6


class TestReadMarkers:
    """How far people have read."""

    def test_they_never_move_back(self) -> None:
        """Compared as IDs, by number."""
        state = live(
            Kind.CONVERSATION,
            signal("channel.read", user="alice", up_to="1000-9"), signal("channel.read", user="alice", up_to="1000-10"),
            signal("channel.read", user="alice", up_to="999-0"),
        )  # fmt: skip

        assert render_live(state, NOW_MS)["read_markers"] == {"alice": "1000-10"}

    def test_those_who_moved_last_are_shown(self) -> None:
        """At most two hundred."""
        moves = [signal("channel.read", user=str(n), up_to="5-0") for n in range(READ_MARKERS_MAX)]
        state = live(
            Kind.CONVERSATION,
            *moves,
            signal("channel.read", user="0", up_to="6-0"),
            signal("channel.read", user="x", up_to="5-0"),
        )

        markers = render_live(state, NOW_MS)["read_markers"]
        assert isinstance(markers, dict)
        assert len(markers) == READ_MARKERS_MAX
        assert "1" not in markers
        assert {"0", "x"} <= markers.keys()

    def test_a_broken_marker_is_refused(self) -> None:
        """It is an event ID."""
        with pytest.raises(BrokenEvent, match="up_to"):
            live(Kind.CONVERSATION, signal("channel.read", user="alice", up_to="now"))


def test_cursors_are_the_newest_of_each_device() -> None:
    """They expire, and go with their user."""
    state = live(
        Kind.DOCUMENT,
        signal("document.cursor", user="alice", client="c-1", selection={"at": 1}),
        signal("document.cursor", user="alice", client="c-2", selection=None, colour="red"),
        signal("document.cursor", NOW_MS + 10, user="alice", client="c-1", selection={"at": 2}),
        signal("document.cursor", NOW_MS + 10, user="bob", client="c-3", selection=3), present("bob", "left", 0),
    )  # fmt: skip

    assert render_live(state, NOW_MS + 10)["cursors"] == [
        {"user": "alice", "client": "c-2", "selection": None, "colour": "red"},
        {"user": "alice", "client": "c-1", "selection": {"at": 2}},
    ]
    assert render_live(state, NOW_MS + 10 + CURSOR_LIFE_MS)["cursors"] == []


def test_members_say_how_they_are_for_as_long_as_they_said() -> None:
    """After `until` a status is `online` again; who is offline is not listed."""
    state = live(
        Kind.TEAM,
        signal("team.presence.update", user="bob", status="busy", message="lunch", until="2026-11-22T17:11:29.000Z", devices=1),
        signal("team.presence.update", user="alice", status="online", devices=2),
        signal("team.presence.update", user="carol", status="away", devices=1),
        signal("team.presence.update", user="carol", status="offline", devices=0),
        signal("team.presence.update", user="dave", status="away", devices=1), present("dave", "left", 0),
    )  # fmt: skip

    assert render_live(state, NOW_MS)["members"] == [
        {"user": "alice", "status": "online", "devices": 2},
        {"user": "bob", "status": "busy", "message": "lunch", "devices": 1},
    ]
    members = render_live(state, NOW_MS + 20_000)["members"]
    assert isinstance(members, list)
    assert members[1] == {"user": "bob", "status": "online", "devices": 1}


class TestUploads:
    """Progress joined to what the events say."""

    def progress(self, upload_id: str, sent: int, state: str) -> Recorded:
        return signal("file.upload.progress", upload_id=upload_id, user="alice", sent=sent, total=9, state=state)

    def test_the_later_of_both_lanes_holds(self) -> None:
        """The lanes promise no order between them."""
        state = live(
            Kind.TEAM,
            self.progress("a", 4, "uploading"),
            self.progress("b", 9, "scanning"),
            self.progress("d", 1, "uploading"),
        )
        uploads = Uploads(None, {
            "a": Upload("a", "alice", "a.txt", 9, "requested"), "b": Upload("b", "alice", "b.txt", 9, "verifying"),
            "c": Upload("c", "bob", "c.txt", 7, "requested"),
        })  # fmt: skip

        shown = render_live(state, NOW_MS, uploads)["uploads"]
        assert shown == [
            {"upload_id": "a", "user": "alice", "filename": "a.txt", "sent": 4, "total": 9, "state": "uploading"},
            {"upload_id": "b", "user": "alice", "filename": "b.txt", "sent": 9, "total": 9, "state": "scanning"},
            {"upload_id": "c", "user": "bob", "filename": "c.txt", "sent": 0, "total": 7, "state": "requested"},
        ]

    def test_progress_alone_is_shown_until_it_ends(self) -> None:
        """Where only the lane is at hand; a day without a sign is an end too."""
        state = live(
            Kind.TEAM,
            self.progress("a", 4, "uploading"),
            self.progress("b", 9, "scanning"),
            self.progress("b", 9, "ready"),
        )

        assert render_live(state, NOW_MS)["uploads"] == [
            {"upload_id": "a", "user": "alice", "sent": 4, "total": 9, "state": "uploading"}
        ]
        assert render_live(state, NOW_MS + UPLOAD_LIFE_MS)["uploads"] == []


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        (Kind.CONVERSATION, ["presence", "uploads", "open_messages", "typing", "read_markers"]),
        (Kind.AGENT, ["presence", "uploads", "open_messages"]),
        (Kind.TEAM, ["presence", "uploads", "members"]),
        (Kind.DOCUMENT, ["presence", "uploads", "cursors"]),
        (Kind.USER, ["presence", "uploads"]),
    ],
)
def test_each_kind_shows_its_own_fields(kind: Kind, fields: list[str]) -> None:
    """The right column of EVENTS 11."""
    assert list(render_live(live(kind), NOW_MS)) == fields


class TestOpenMessages:
    """Deltas by the offset rule."""

    HEAD: dict[str, Any] = {"message_id": "r1.0", "run_id": "r1"}  # noqa: RUF012 - read only

    def delta(self, offset: int, delta: str, attempt: int = 1, **more: Any) -> Recorded:
        end = offset + len(delta)
        return signal(
            "assistant.message.delta", **self.HEAD, attempt=attempt, offset=offset, end=end, delta=delta, **more
        )

    def other(self, name: str, attempt: int = 1, **more: Any) -> Recorded:
        return signal(f"assistant.message.{name}", **self.HEAD, attempt=attempt, **more)

    def joined(self, *signals: Recorded) -> OpenMessages:
        return live(Kind.CONVERSATION, *signals).open

    def test_deltas_join_in_code_points(self) -> None:
        """One emoji is one, whatever JavaScript counts; tracks are apart."""
        state = self.joined(
            self.other("start"), self.delta(0, "👋 he"), self.delta(0, "hm", track="reasoning"), self.delta(4, "llo"),
        )  # fmt: skip

        assert state.render() == [{
            "message_id": "r1.0", "run_id": "r1", "attempt": 1, "text": "👋 hello", "offset": 7, "reasoning": "hm",
            "reasoning_offset": 2,
        }]  # fmt: skip

    def test_what_is_held_and_what_is_ahead_are_passed_over(self) -> None:
        """A repeated delta changes nothing, and neither does one behind a hole: the end has the whole."""
        state = self.joined(self.delta(0, "abc"), self.delta(0, "abc"), self.delta(1, "bc"), self.delta(5, "fg"))

        assert state.open["r1.0"].track("text") == "abc"

    def test_a_reset_keeps_what_it_says_and_only_once(self) -> None:
        """Deltas of the old attempt come too late, as does a reset to an attempt already held."""
        state = self.joined(
            self.delta(0, "abcdef"), self.delta(0, "hm", track="reasoning"), self.other("reset", 2, keep=3), self.delta(3, "XY", 2),
            self.delta(6, "old", 1), self.other("reset", 2, keep=0), self.other("start", 2),
        )  # fmt: skip

        assert state.render() == [{"message_id": "r1.0", "run_id": "r1", "attempt": 2, "text": "abcXY", "offset": 5}]

    def test_a_delta_of_a_later_attempt_waits_for_its_reset(self) -> None:
        """The lanes promise no order between them: what the reset keeps is not known yet."""
        state = self.joined(self.delta(0, "abc"), self.delta(3, "d", 2))

        assert state.open["r1.0"].track("text") == "abc"

    def test_nothing_opens_an_answer_that_has_ended(self) -> None:
        """A late delta does not bring it back; endings are remembered for a while."""
        state = self.joined(self.delta(0, "abc"), self.other("end"), self.delta(3, "d"), self.other("start"))
        for number in range(ENDED_MAX + 10):
            state.apply(signal("assistant.message.end", message_id=f"x.{number}"))

        assert state.render() == []
        assert len(state.ended) == ENDED_MAX

    @pytest.mark.parametrize("more", [{"track": "video"}])
    def test_an_unknown_track_is_broken(self, more: dict[str, Any]) -> None:
        """Text and reasoning are all there is."""
        with pytest.raises(BrokenEvent, match="track"):
            self.joined(self.delta(0, "abc", **more))

    def test_a_broken_reset_is_refused(self) -> None:
        """`keep` counts."""
        with pytest.raises(BrokenEvent, match="keep"):
            self.joined(self.other("reset", 2, keep="all"))
