"""A channel's state as a whole: order, snapshots, reading entries, old versions."""

from __future__ import annotations

import json
from typing import Any

import pytest

from projections.channel_state import PROJECTIONS, ChannelState
from projections.conversation import CONVERSATION
from projections.errors import BrokenEvent, EventsMissing, SnapshotRefused
from projections.recorded import recorded
from projections.teams import TEAMS
from streams.channel import Channel, Kind
from streams.events import CATALOGUE
from support.channel_history import History
from support.golden import golden_files


@pytest.fixture
def talk() -> History:
    """An empty conversation."""
    return History(Kind.CONVERSATION)


class TestAdvance:
    """One event after the other."""

    def test_it_says_whether_the_event_was_new(self, talk: History) -> None:
        """The same event again is passed over."""
        entry = talk.entry("chat.message", {"text": "one"})

        assert talk.state.advance(entry)
        assert not talk.state.advance(entry)
        assert (talk.state.id, talk.state.seq) == (entry.id.decode(), 1)

    def test_a_hole_is_refused(self, talk: History) -> None:
        """No log ever had such a state."""
        talk.say("one")
        with pytest.raises(EventsMissing) as refused:
            talk.state.advance(talk.entry("chat.message", {"text": "x"})._replace(seq=3))

        assert (refused.value.held, refused.value.given) == (1, 3)
        assert talk.texts == ["one"]

    def test_a_log_may_begin_anywhere(self, talk: History) -> None:
        """Events trimmed without an archive are counted and not known."""
        talk.state.advance(talk.entry("chat.message", {"text": "late"})._replace(seq=1_000))

        assert (talk.shown["count"], talk.texts) == (1_000, ["late"])

    def test_live_entries_are_no_events(self, talk: History) -> None:
        """They have seq 0, and no business here."""
        assert not talk.state.advance(talk.entry("chat.message", {"text": "x"})._replace(seq=0))

    def test_types_nobody_folds_are_not_even_read(self, talk: History) -> None:
        """Whatever they hold, they count."""
        talk.state.advance(talk.entry("later.event", {})._replace(data=b"\xff", actor=b"", meta=b"{"))

        assert talk.shown["count"] == 1
        assert talk.state.id != "0"

    def test_a_broken_event_is_passed_over(self, talk: History) -> None:
        """It raises, and the next one is folded."""
        with pytest.raises(BrokenEvent) as broken:
            talk.add("chat.message", {"text": 7})
        talk.say("two")

        assert (broken.value.type, broken.value.problem) == ("chat.message", "text must be a string")
        assert (talk.texts, talk.shown["count"]) == (["two"], 2)

    @pytest.mark.parametrize(
        "change",
        [
            {"v": b"2"}, {"v": b"0"}, {"v": b"x"}, {"actor": b"[]"}, {"actor": b"{"}, {"meta": b"null"}, {"data": b""},
            {"data": b"[" * 100_000}, {"data": b'{"text":Infinity}'}, {"data": b'{"text":"a"} x'}, {"data": b'{"n":1e999}'},
        ],
        ids=str,
    )  # fmt: skip # a case a row
    def test_entries_that_cannot_be_read_are_broken(self, talk: History, change: dict[str, bytes]) -> None:
        """Fields that are not JSON objects, and versions this program does not know (docs/protocol.md#versions)."""
        entry = talk.entry("chat.message", {"text": "x"})._replace(**change)

        with pytest.raises(BrokenEvent, match="not readable"):
            talk.state.advance(entry)

    @pytest.mark.parametrize(
        ("event_type", "payload", "problem"),
        [
            ("chat.react", {"message_id": "1-0", "reaction": "x"}, "op"),
            ("chat.message", {"text": "x", "parts": {}}, "parts"),
            ("chat.message", {"text": "x", "parent_id": 1}, "parent_id"),
            ("agent.status", {"run_id": "r", "agent": "a", "state": "queued", "attempt": True}, "attempt"),
            ("chat.configure", {"settings": []}, "settings"),
        ],
    )
    def test_the_problem_names_the_field(
        self, talk: History, event_type: str, payload: dict[str, Any], problem: str
    ) -> None:
        """Whoever parks it reads what is wrong, without the value."""
        with pytest.raises(BrokenEvent) as broken:
            talk.add(event_type, payload)

        assert broken.value.problem.startswith(problem + " must be")

    def test_an_author_must_be_known_where_it_matters(self, talk: History) -> None:
        """A reaction of nobody is none."""
        entry = talk.entry("chat.react", {"message_id": "1-0", "reaction": "x", "op": "add"})._replace(actor=b"{}")

        with pytest.raises(BrokenEvent, match="actor"):
            talk.state.advance(entry)


class TestSnapshots:
    """`dump` and `load`."""

    def test_a_snapshot_says_where_it_stands(self, talk: History) -> None:
        """Channel, last ID and seq travel with it."""
        last = talk.say("one")
        loaded = ChannelState.load(talk.state.dump())

        assert (loaded.home, loaded.id, loaded.seq) == (talk.channel, last, 1)

    def test_a_snapshot_holds_what_is_not_shown(self, talk: History) -> None:
        """Finished runs, erased messages, commands that wait for their answer: all that later events meet."""
        talk.say("why?")
        talk.answer("r1.0", attempt=3)
        talk.add("chat.regenerate", {"message_id": "r1.0"})
        talk.add("agent.complete", {"run_id": "r1"})
        talk.add("chat.delete", {"message_id": talk.say("oops")})

        assert talk.state.parts == ChannelState.load(talk.state.dump()).parts

    def test_a_kind_alone_is_a_home_too(self) -> None:
        """For whoever folds without a channel's name."""
        state = ChannelState.begin(Kind.TEAM)

        assert ChannelState.load(state.dump()).home is Kind.TEAM

    @pytest.mark.parametrize("kind", Kind)
    def test_a_snapshot_of_another_version_is_refused(self, kind: Kind) -> None:
        """Of any projection, of the outer form, with one projection more or less: rebuild."""
        kept = json.loads(History(kind).state.dump())
        changed = [{**kept, "format": 0}, {**kept, "parts": {**kept["parts"], "more": [1, {}]}}]
        if kept["parts"]:  # a system channel has no projections
            changed.append({**kept, "parts": {}})
        for name, (version, state) in kept["parts"].items():
            changed.append({**kept, "parts": {**kept["parts"], name: [version + 1, state]}})
            changed.append({**kept, "parts": {**kept["parts"], name: [version, 7]}})
            changed.append({**kept, "parts": {**kept["parts"], name: {}}})

        for value in changed:
            with pytest.raises(SnapshotRefused):
                ChannelState.load(json.dumps(value).encode())

    @pytest.mark.parametrize(
        "snapshot",
        [b"", b"{", b"[]", b"7", b"\xff", b"{}", b'{"format":1}', b"[" * 100_000],
        ids=lambda value: value[:12],
    )
    def test_what_is_no_snapshot_is_refused(self, snapshot: bytes) -> None:
        """Whatever lies where one should be."""
        with pytest.raises(SnapshotRefused):
            ChannelState.load(snapshot)

    @pytest.mark.parametrize(
        "change", [{"home": "acme:shop:1"}, {"home": "shop"}, {"home": 7}, {"id": 7}, {"seq": "7"}]
    )
    def test_a_snapshot_of_nowhere_is_refused(self, talk: History, change: dict[str, Any]) -> None:
        """Its head is checked too."""
        with pytest.raises(SnapshotRefused):
            ChannelState.load(json.dumps({**json.loads(talk.state.dump()), **change}).encode())

    def test_two_states_of_one_snapshot_are_independent(self, talk: History) -> None:
        """A state has one owner; a second owner loads its own."""
        talk.say("one")
        other = ChannelState.load(talk.state.dump())
        talk.say("two")

        assert [message["text"] for message in json.loads(other.render())["messages"]] == ["one"]


class TestReading:
    """Projections by themselves."""

    def test_one_projection_folds_by_itself(self, talk: History) -> None:
        """For a consumer that wants only that."""
        talk.say("one")
        talk.add("later.event")
        talk.say("two")
        state = CONVERSATION.initial(Kind.CONVERSATION)
        for entry in talk.entries:
            CONVERSATION.apply(state, recorded(entry))

        assert state == talk.state.of(CONVERSATION)

    def test_a_kind_has_the_projections_of_the_catalogue(self, talk: History) -> None:
        """And no others."""
        with pytest.raises(KeyError, match="teams"):
            talk.state.of(TEAMS)

    def test_every_type_that_is_folded_is_durable_and_of_its_kind(self) -> None:
        """A fold waits for nothing that can never be in its channel's log."""
        for kind, projections in PROJECTIONS.items():
            for projection in projections:
                known = [CATALOGUE[name] for name in projection.handlers]
                assert all(row.is_stored for row in known)
                assert kind is Kind.AGENT or all(kind in row.kinds for row in known)

    def test_rendering_twice_gives_the_same_bytes_and_advancing_new_ones(self, talk: History) -> None:
        """The bytes are kept for as long as they are true."""
        talk.say("one")
        assert talk.state.render() is talk.state.render()

        before = talk.state.render()
        talk.say("two")
        assert before != talk.state.render()

    @pytest.mark.parametrize("golden", golden_files(), ids=lambda golden: golden.path.stem)
    def test_every_version_ever_released_can_be_folded(self, golden: Any) -> None:
        """The golden entries, oldest version first (docs/protocol.md#versions)."""
        for kind in CATALOGUE[golden.event["type"]].kinds:
            state = ChannelState.begin(Channel("acme", kind, "42"))

            assert state.advance(golden.entry)
            assert ChannelState.load(state.dump()).dump() == state.dump()
