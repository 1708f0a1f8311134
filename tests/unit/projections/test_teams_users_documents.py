"""Team feeds, inboxes and documents."""

from __future__ import annotations

from typing import Any

import pytest

from projections import documents, teams
from projections.documents import DOCUMENTS, preview
from projections.errors import BrokenEvent, PatchRefused
from streams.channel import Kind
from support.channel_history import History

UNSET: dict[str, Any] = {"members": [], "access": {}, "revision": 0}
"""The settings of a channel that nobody has set."""


class TestTeam:
    """`activities`."""

    def test_the_feed_shows_the_newest_fifty(self) -> None:
        """Oldest first, each with the event and who did it; an unknown `id` in a payload does not pass for the event's."""
        team = History(Kind.TEAM)
        for number in range(60):
            thing = {"type": "task", "id": str(number)}
            last = team.add("team.activity", {"verb": "closed", "object": thing, "summary": "s", "id": "x"}, "bob")

        feed = team.shown["activities"]
        assert [one["object"]["id"] for one in feed] == [str(number) for number in range(10, 60)]
        assert feed[-1] == {
            "id": last, "actor": {"kind": "user", "id": "bob"}, "verb": "closed", "object": {"type": "task", "id": "59"},
            "summary": "s",
        }  # fmt: skip # a table

    def test_notifications_of_a_team_are_no_activities(self) -> None:
        """They are in its log, and in the inboxes of those they are for."""
        team = History(Kind.TEAM)
        team.add("team.notification", {"kind": "k", "title": "t"})

        assert team.shown == {"metadata": {}, "count": 1, **UNSET, "activities": []}


class TestInbox:
    """`notifications` and `unread`."""

    @pytest.fixture
    def inbox(self) -> History:
        return History(Kind.USER)

    def notify(self, inbox: History, title: str = "t", **fields: Any) -> str:
        return inbox.add("team.notification", {"kind": "k", "title": title, **fields}, "bob")

    def titles(self, inbox: History) -> list[str]:
        return [one["title"] for one in inbox.shown["notifications"]]

    def test_unread_counts_more_than_is_shown(self, inbox: History) -> None:
        """The newest hundred, oldest first; the number is of all."""
        for number in range(120):
            self.notify(inbox, str(number))

        assert self.titles(inbox) == [str(number) for number in range(20, 120)]
        assert inbox.shown["unread"] == 120

    def test_a_notification_has_its_events_id(self, inbox: History) -> None:
        """It is what `team.notification.read` names."""
        event_id = self.notify(inbox)

        assert inbox.shown["notifications"][0] == {
            "id": event_id, "actor": {"kind": "user", "id": "bob"}, "kind": "k", "title": "t",
        }  # fmt: skip # a table

    def test_read_by_id(self, inbox: History) -> None:
        """Those named go, unknown ones do no harm, twice is once."""
        first, _ = self.notify(inbox, "one"), self.notify(inbox, "two")
        inbox.add("team.notification.read", {"ids": [first, "1-0"]})
        inbox.add("team.notification.read", {"ids": [first]})

        assert self.titles(inbox) == ["two"]
        assert inbox.shown["unread"] == 1

    def test_read_up_to(self, inbox: History) -> None:
        """That one included, compared as IDs are: by number, not as text."""
        self.notify(inbox, "one")
        second = self.notify(inbox, "two")
        self.notify(inbox, "three")
        inbox.add("team.notification.read", {"up_to": "999999999999-0"})
        assert inbox.shown["unread"] == 3

        inbox.add("team.notification.read", {"up_to": second})
        assert self.titles(inbox) == ["three"]

    def test_up_to_must_be_an_id(self, inbox: History) -> None:
        """Anything else is a broken event."""
        with pytest.raises(BrokenEvent, match="up_to"):
            inbox.add("team.notification.read", {"up_to": "yesterday"})

    def test_a_collapse_key_holds_one(self, inbox: History) -> None:
        """A newer one takes the place of the unread older; after it was read, a new one counts again."""
        self.notify(inbox, "1 message", collapse_key="c")
        self.notify(inbox, "else")
        newest = self.notify(inbox, "2 messages", collapse_key="c")
        assert self.titles(inbox) == ["else", "2 messages"]

        inbox.add("team.notification.read", {"ids": [newest]})
        self.notify(inbox, "1 message", collapse_key="c")
        assert self.titles(inbox) == ["else", "1 message"]

    def test_what_is_over_is_dropped_by_the_next_event(self, inbox: History) -> None:
        """The log's own clock decides, so every fold agrees. Events are a second apart here."""
        self.notify(inbox, "short", expires_at="2026-11-22T17:11:21.000Z")
        self.notify(inbox, "long", expires_at="2026-11-22T17:11:30.5+00:00")
        assert self.titles(inbox) == ["long"]

        self.notify(inbox, "stale", expires_at="2026-11-22T17:11:20.000Z")
        assert self.titles(inbox) == ["long"]

        for _ in range(9):
            inbox.add("team.notification.read", {"ids": []})
        assert self.titles(inbox) == []

    def test_a_broken_time_is_a_broken_event(self, inbox: History) -> None:
        """Times have an offset."""
        for wrong in ("tomorrow", "2026-11-22T17:11:21"):
            with pytest.raises(BrokenEvent, match="expires_at"):
                self.notify(inbox, expires_at=wrong)

    def test_an_inbox_nobody_reads_is_bounded(self, inbox: History, monkeypatch: pytest.MonkeyPatch) -> None:
        """The oldest are given up; `unread` stops at the bound."""
        monkeypatch.setattr(teams, "UNREAD_MAX", 10)
        for number in range(15):
            self.notify(inbox, str(number), collapse_key=str(number))

        assert self.titles(inbox) == [str(number) for number in range(5, 15)]
        assert inbox.shown["unread"] == 10


class TestDocument:
    """`mode`, `version`, `content`, `updates_from`."""

    @pytest.fixture
    def document(self) -> History:
        return History(Kind.DOCUMENT)

    def patch(self, document: History, *operations: dict[str, Any]) -> str:
        return document.add("document.update", {"base_version": document.shown["version"], "patch": list(operations)})

    def test_an_untouched_document_has_no_mode(self, document: History) -> None:
        """The first update decides."""
        assert document.shown == {"metadata": {}, "count": 0, **UNSET, "mode": None, "version": 0}

    def test_patches_build_the_content(self, document: History) -> None:
        """It begins as an empty object; each update counts."""
        self.patch(document, {"op": "add", "path": "/title", "value": "Plan"})
        self.patch(
            document, {"op": "add", "path": "/steps", "value": []}, {"op": "add", "path": "/steps/-", "value": 1}
        )

        assert document.shown == {
            "metadata": {}, "count": 2, **UNSET, "mode": "json", "version": 2, "content": {"title": "Plan", "steps": [1]},
        }  # fmt: skip # a table

    def test_a_patch_that_does_not_apply_counts_and_changes_nothing(self, document: History) -> None:
        """The append script counted it, so the fold does; half of it is none of it."""
        self.patch(document, {"op": "add", "path": "/a", "value": 1})
        self.patch(document, {"op": "add", "path": "/b", "value": 2}, {"op": "test", "path": "/a", "value": 2})

        assert (document.shown["version"], document.shown["content"]) == (2, {"a": 1})

    def test_opaque_updates_are_counted_from_the_first(self, document: History) -> None:
        """A client replays from there; patches do not fit any more and count all the same."""
        document.add("file.upload.request", {"filename": "a", "size": 1})
        first = document.add("document.update", {"update": "AAEC"})
        document.add("document.update", {"update": "AAEC"})
        self.patch(document, {"op": "add", "path": "/a", "value": 1})

        assert document.shown == {
            "metadata": {},
            "count": 4,
            **UNSET,
            "mode": "opaque",
            "version": 3,
            "updates_from": first,
        }

    def test_an_update_is_one_of_the_two(self, document: History) -> None:
        """Neither, and both, are broken."""
        for payload in ({}, {"patch": [], "update": "AAEC"}):
            with pytest.raises(BrokenEvent, match="either"):
                document.add("document.update", payload)

    def test_a_preview_is_what_the_fold_will_do(self, document: History) -> None:
        """The hub refuses what does not apply before it is stored."""
        self.patch(document, {"op": "add", "path": "/a", "value": 1})
        state = document.state.of(DOCUMENTS)

        assert preview(state, [{"op": "replace", "path": "/a", "value": 2}]) == {"a": 2}
        with pytest.raises(PatchRefused):
            preview(state, [{"op": "remove", "path": "/b"}])
        assert document.shown["content"] == {"a": 1}

    def test_a_document_stops_growing_at_its_bound(self, document: History, monkeypatch: pytest.MonkeyPatch) -> None:
        """A document that would be too large is refused; one that only looked so is weighed and taken."""
        monkeypatch.setattr(documents, "CONTENT_WEIGHT_MAX", 1_000)
        for _ in range(10):
            self.patch(document, {"op": "add", "path": "/a", "value": "x" * 300})
        assert document.shown["content"] == {"a": "x" * 300}

        self.patch(document, {"op": "add", "path": "/b", "value": "x" * 300})
        self.patch(document, {"op": "add", "path": "/c", "value": "x" * 500})
        assert list(document.shown["content"]) == ["a", "b"]
        with pytest.raises(PatchRefused, match="too large"):
            preview(document.state.of(DOCUMENTS), [{"op": "add", "path": "/c", "value": "x" * 500}])
