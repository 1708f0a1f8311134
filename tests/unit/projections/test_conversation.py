"""Conversations: the tree of messages, what people do to them, settings, answers."""

from __future__ import annotations

import json
from typing import Any

import pytest

from projections import message_tree
from projections.conversation import CONVERSATION
from projections.errors import BrokenEvent
from projections.message import REACTING_USERS_MAX, REACTIONS_MAX
from streams.channel import Kind
from support.channel_history import History


@pytest.fixture
def talk() -> History:
    """An empty conversation."""
    return History(Kind.CONVERSATION)


def test_an_empty_conversation_shows_every_field(talk: History) -> None:
    """A joiner of a new channel finds the fields of docs/protocol.md#state, empty."""
    assert talk.state.render() == (
        b'{"metadata":{},"count":0,"members":[],"access":{},"title":null,"settings":{},"revision":0,"active_leaf":null,'
        b'"active_runs":[],"pending_requests":[],"messages":[]}'
    )


class TestMessages:
    """A person writes."""

    def test_a_message_is_known_by_its_event(self, talk: History) -> None:
        """Its ID is the event's, its author the actor; what says nothing is left out."""
        message_id = talk.say("hello")

        assert talk.shown["messages"] == [{
            "message_id": message_id, "role": "user", "actor": {"kind": "user", "id": "alice"}, "text": "hello",
            "revision": 0, "deleted": False,
        }]  # fmt: skip # a table
        assert talk.shown["active_leaf"] == message_id

    def test_the_default_parent_is_the_active_leaf(self, talk: History) -> None:
        """A message without a parent goes on where the conversation is."""
        first, second = talk.say("one"), talk.say("two", "bob")

        assert talk.message(second)["parent_id"] == first

    def test_a_parent_that_is_given_begins_a_branch(self, talk: History) -> None:
        """The new branch is the active one; the other is not shown and not lost."""
        first, second = talk.say("one"), talk.say("two")
        talk.say("two, otherwise", parent_id=first)

        assert talk.texts == ["one", "two, otherwise"]

        talk.add("chat.branch", {"leaf_id": second})
        assert talk.texts == ["one", "two"]

    def test_an_unknown_parent_begins_anew(self, talk: History) -> None:
        """A message cannot hang below one that is not held; so no cycle can come about."""
        talk.say("one")
        talk.say("two", parent_id="r9.0")

        assert talk.texts == ["two"]
        assert "parent_id" not in talk.shown["messages"][0]

    def test_only_the_last_fifty_are_shown(self, talk: History) -> None:
        """A long conversation shows its end, oldest first."""
        for number in range(60):
            talk.say(str(number))

        assert talk.texts == [str(number) for number in range(10, 60)]

    def test_parts_are_shown_as_sent(self, talk: History) -> None:
        """Parts beside the text belong to the message."""
        parts = [{"type": "file", "file_id": "0" * 32}]
        message_id = talk.say("", parts=parts)

        assert talk.message(message_id)["parts"] == parts


class TestEdits:
    """A message is given another text."""

    def test_replace_keeps_the_place_and_counts(self, talk: History) -> None:
        """Author, parent and followers stay; the revision says that it was changed."""
        first = talk.say("helo", parts=[{"type": "mention", "kind": "user", "id": "bob"}])
        talk.say("yes?", "bob")
        talk.add("chat.edit", {"message_id": first, "text": "hello", "mode": "replace"}, "moderator")

        assert talk.texts == ["hello", "yes?"]
        assert talk.message(first)["revision"] == 1
        assert talk.message(first)["actor"]["id"] == "alice"
        assert talk.message(first)["parts"][0]["id"] == "bob"

    def test_a_branch_is_a_sibling_and_the_default(self, talk: History) -> None:
        """Without a mode the edit stands beside the old message, which keeps its own branch."""
        first = talk.say("one")
        second = talk.say("two")
        edit = talk.add("chat.edit", {"message_id": second, "text": "zwei"})

        assert talk.texts == ["one", "zwei"]
        assert talk.shown["active_leaf"] == edit
        assert talk.message(edit)["parent_id"] == first

    def test_the_first_message_can_branch_too(self, talk: History) -> None:
        """A sibling of a root is another root."""
        first = talk.say("one")
        talk.say("two")
        talk.add("chat.edit", {"message_id": first, "text": "eins", "mode": "branch"})

        assert talk.texts == ["eins"]

    def test_parts_can_be_exchanged_and_taken_away(self, talk: History) -> None:
        """Parts left out are the old ones; an empty list is none."""
        first = talk.say("one", parts=[{"type": "mention", "kind": "user", "id": "bob"}])
        talk.add("chat.edit", {"message_id": first, "text": "one", "parts": [], "mode": "replace"})

        assert talk.message(first)["parts"] == []

    def test_an_edited_answer_is_an_answer_and_finished(self, talk: History) -> None:
        """An answer written anew by a person is an answer, and nobody waits for its end."""
        talk.say("why?")
        talk.answer("r1.0")
        edit = talk.add("chat.edit", {"message_id": "r1.0", "text": "because"})

        assert (talk.message(edit)["role"], talk.message(edit)["finish_reason"]) == ("assistant", "stop")


class TestDeletes:
    """A message is taken back."""

    def test_a_deleted_message_is_a_tombstone(self, talk: History) -> None:
        """Its place stays, what it said is gone from state, reactions too."""
        first = talk.say("oops", parts=[{"type": "mention", "kind": "user", "id": "bob"}])
        talk.say("what?", "bob")
        talk.add("chat.react", {"message_id": first, "reaction": "👍", "op": "add"})
        talk.add("chat.delete", {"message_id": first})

        gone = talk.message(first)
        assert (gone["deleted"], gone["text"]) == (True, "")
        assert not {"parts", "reactions"} & gone.keys()
        assert talk.texts == ["", "what?"]

    def test_a_subtree_takes_all_below_with_it(self, talk: History) -> None:
        """On every branch below, not beside."""
        first = talk.say("one")
        second = talk.say("two")
        talk.say("three")
        talk.say("two, otherwise", parent_id=first)
        other = talk.say("four", parent_id=second)
        talk.add("chat.delete", {"message_id": second, "scope": "subtree"})

        assert [message["deleted"] for message in talk.shown["messages"]] == [False, True, True]
        assert talk.shown["active_leaf"] == other
        tree = talk.state.of(CONVERSATION).tree
        assert [message.is_deleted for message in tree.newest()] == [False, True, True, False, True]

    def test_a_tombstone_stays_one(self, talk: History) -> None:
        """Neither an edit, a reaction nor the end of its answer brings a deleted message back."""
        talk.add("assistant.message.start", {"message_id": "r1.0", "run_id": "r1", "attempt": 1, "agent": "demo"})
        talk.add("chat.delete", {"message_id": "r1.0"})
        talk.add("chat.react", {"message_id": "r1.0", "reaction": "👍", "op": "add"})
        talk.add("chat.feedback", {"message_id": "r1.0", "rating": "up"})
        talk.add("chat.edit", {"message_id": "r1.0", "text": "again", "mode": "replace"})
        end = {"message_id": "r1.0", "run_id": "r1", "attempt": 1, "finish_reason": "stop", "text": "all"}
        talk.add("assistant.message.end", end)

        gone = talk.message("r1.0")
        assert (gone["text"], gone["deleted"], gone["finish_reason"]) == ("", True, "stop")
        assert "reactions" not in gone


class TestReactions:
    """Thumbs and stars."""

    def test_each_user_counts_once_in_the_order_given(self, talk: History) -> None:
        """Adding twice changes nothing; what nobody holds any more is gone."""
        first = talk.say("one")
        for user in ("bob", "alice", "bob"):
            talk.add("chat.react", {"message_id": first, "reaction": "👍", "op": "add"}, user)
        assert talk.message(first)["reactions"] == {"👍": ["bob", "alice"]}

        for user in ("bob", "carol", "alice"):
            talk.add("chat.react", {"message_id": first, "reaction": "👍", "op": "remove"}, user)
        assert "reactions" not in talk.message(first)

    def test_a_user_and_an_agent_of_one_name_react_apart(self, talk: History) -> None:
        """Neither takes the other's place, and taking one's own back leaves the other's."""
        first, reacted = talk.say("one"), {"reaction": "👍", "op": "add"}
        actors = [b'{"kind":"agent","id":"demo"}', b'{"kind":"user","id":"demo"}']
        for actor in actors:
            talk.state.advance(talk.entry("chat.react", {"message_id": first, **reacted})._replace(actor=actor))
        assert talk.message(first)["reactions"] == {"👍": ["agent:demo", "demo"]}

        talk.add("chat.react", {"message_id": first, "reaction": "👍", "op": "remove"}, "demo")
        assert talk.message(first)["reactions"] == {"👍": ["agent:demo"]}

    def test_reactions_are_bounded(self, talk: History) -> None:
        """One message cannot grow the state of its channel without end."""
        first = talk.say("one")
        for number in range(REACTIONS_MAX + 5):
            talk.add("chat.react", {"message_id": first, "reaction": str(number), "op": "add"})
        for number in range(REACTING_USERS_MAX + 5):
            talk.add("chat.react", {"message_id": first, "reaction": "0", "op": "add"}, f"u{number}")

        reactions = talk.message(first)["reactions"]
        assert len(reactions) == REACTIONS_MAX
        assert len(reactions["0"]) == REACTING_USERS_MAX

    def test_feedback_is_not_shown(self, talk: History) -> None:
        """It is in the log for agents that learn from it: `Message` has no field for it."""
        talk.answer("r1.0")
        before = talk.message("r1.0")
        talk.add("chat.feedback", {"message_id": "r1.0", "rating": "up"})

        assert talk.message("r1.0") == before


class TestSettings:
    """`chat.configure` and `conversation.updated`."""

    def test_each_configure_raises_the_revision(self, talk: History) -> None:
        """A setting left out stays, null resets it, the title stands apart."""
        talk.add("chat.configure", {"settings": {"title": "Train", "model": "m", "temperature": 0.5}})
        talk.add("chat.configure", {"settings": {"model": None, "agent": "demo"}})

        assert talk.shown["title"] == "Train"
        assert talk.shown["settings"] == {"temperature": 0.5, "agent": "demo"}
        assert talk.shown["revision"] == 2

    def test_a_title_can_be_reset(self, talk: History) -> None:
        """Null is no title."""
        talk.add("chat.configure", {"settings": {"title": "Train"}})
        talk.add("chat.configure", {"settings": {"title": None}})

        assert talk.shown["title"] is None

    def test_the_derived_event_of_a_command_says_nothing_new(self, talk: History) -> None:
        """Two quick commands and their two derived events: the last command holds."""
        talk.add("chat.configure", {"settings": {"title": "one"}})
        talk.add("chat.configure", {"settings": {"title": "two"}})
        talk.add("conversation.updated", {"revision": 1, "changes": {"title": "one"}, "by": "alice"})
        talk.add("conversation.updated", {"revision": 2, "changes": {"title": "two"}, "by": "alice"})

        assert (talk.shown["title"], talk.shown["revision"]) == ("two", 2)

    def test_a_newer_revision_is_taken_over(self, talk: History) -> None:
        """Changes by the hub without a command (title, settings, leaf) count."""
        first = talk.say("one")
        talk.say("two")
        changes = {"title": "T", "settings": {"model": "m"}, "active_leaf": first, "archived": True}
        talk.add("conversation.updated", {"revision": 3, "changes": changes, "by": "hub"})

        assert (talk.shown["title"], talk.shown["settings"], talk.shown["revision"]) == ("T", {"model": "m"}, 3)
        assert talk.shown["active_leaf"] == first

    @pytest.mark.parametrize(
        ("event_type", "payload"),
        [
            ("chat.configure", {"settings": {"title": 7, "model": "m"}}),
            ("chat.configure", {}),
            ("conversation.updated", {"revision": 1, "changes": {"title": 7}, "by": "x"}),
            ("conversation.updated", {"revision": 1, "changes": {"settings": []}, "by": "x"}),
            ("conversation.updated", {"revision": 1, "changes": {"settings": 1}, "by": "x"}),
            ("conversation.updated", {"revision": 1, "changes": {"active_leaf": 1}, "by": "x"}),
        ],
    )
    def test_broken_settings_change_nothing(self, talk: History, event_type: str, payload: dict[str, Any]) -> None:
        """Half a change is none."""
        if payload.get("changes") == {"settings": []}:
            talk.add(event_type, payload)
        else:
            with pytest.raises(BrokenEvent):
                talk.add(event_type, payload)

        assert talk.shown["settings"] == {}
        assert talk.shown["title"] is None


class TestAnswers:
    """Assistants' messages."""

    def test_an_answer_is_shown_from_its_start_and_whole_at_its_end(self, talk: History) -> None:
        """In between its text is the live part's."""
        question = talk.say("why?")
        head = {"message_id": "r1.0", "run_id": "r1", "attempt": 1}
        talk.add("assistant.message.start", {**head, "agent": "demo", "parent_id": question}, "demo")
        begun = talk.message("r1.0")
        assert (begun["role"], begun["text"], begun["run_id"], begun["parent_id"]) == ("assistant", "", "r1", question)
        assert "finish_reason" not in begun

        parts = [{"type": "refusal", "text": "no"}]
        talk.add("assistant.message.reset", {**head, "attempt": 2, "keep": 0, "reason": "worker_lost"})
        talk.add("assistant.message.start", {**head, "attempt": 2, "agent": "demo"})
        talk.add(
            "assistant.message.end", {**head, "attempt": 2, "finish_reason": "length", "text": "so", "parts": parts}
        )
        assert (talk.message("r1.0")["text"], talk.message("r1.0")["finish_reason"]) == ("so", "length")
        assert talk.message("r1.0")["parts"] == parts
        assert len(talk.shown["messages"]) == 2

    def test_a_text_that_is_a_file_is_shown_as_a_part(self, talk: History) -> None:
        """`Message` has no `text_ref`; a reader still finds the text."""
        head = {"message_id": "r1.0", "run_id": "r1", "attempt": 1}
        talk.add("assistant.message.end", {**head, "finish_reason": "stop", "text_ref": "0" * 32})

        part = talk.message("r1.0")["parts"][0]
        assert (part["type"], part["file_id"]) == ("file", "0" * 32)

    def test_people_who_wrote_on_meanwhile_stay_in_the_branch(self, talk: History) -> None:
        """Two questions in a row, answered one after the other: all four are shown, though each answer names its question."""
        one, two = talk.say("one?"), talk.say("two?", "bob")
        talk.answer("r1.0", "one!", parent_id=one)
        talk.answer("r2.0", "two!", parent_id=two)

        assert talk.texts == ["one?", "two?", "one!", "two!"]

    def test_all_messages_of_a_run_stay_in_the_branch(self, talk: History) -> None:
        """A run with tools writes several messages, each below the one before, though each names the question."""
        question = talk.say("why?")
        talk.answer("r1.0", "let me see", parent_id=question)
        talk.answer("r1.1", "because", parent_id=question)

        assert talk.texts == ["why?", "let me see", "because"]

    @pytest.mark.parametrize("said", ["parent", "correlation", "both"])
    def test_a_regenerated_answer_is_a_sibling(self, talk: History, said: str) -> None:
        """The run may name the parent, or just the command it came of."""
        question = talk.say("why?")
        talk.answer("r1.0", "so")
        command = talk.add("chat.regenerate", {"message_id": "r1.0"})
        assert talk.texts == ["why?", "so"]

        start: dict[str, Any] = {} if said == "correlation" else {"parent_id": question}
        meta = None if said == "parent" else {"correlation": command}
        talk.answer("r2.0", "otherwise", **start, meta=meta)

        assert talk.texts == ["why?", "otherwise"]
        assert talk.message("r2.0")["parent_id"] == question
        talk.answer("r2.1", "and so on", parent_id=question)
        assert talk.texts == ["why?", "otherwise", "and so on"]
        talk.add("chat.branch", {"leaf_id": "r1.0"})
        assert talk.texts == ["why?", "so"]

    def test_the_answer_to_an_edited_question_is_a_sibling(self, talk: History) -> None:
        """Edited in place and asked again: the old answer no longer fits the question."""
        question = talk.say("wy?")
        talk.answer("r1.0", "what?")
        command = talk.add("chat.edit", {"message_id": question, "text": "why?", "mode": "replace"})
        talk.answer("r2.0", "so", parent_id=command)

        assert talk.texts == ["why?", "so"]

    def test_an_edit_without_rerun_asks_nothing(self, talk: History) -> None:
        """The next answer to something else is no sibling of the old one."""
        question = talk.say("wy?")
        talk.answer("r1.0", "so")
        talk.add("chat.edit", {"message_id": question, "text": "why?", "mode": "replace", "rerun": False})
        talk.answer("r1.1", "and so", parent_id=question)

        assert talk.texts == ["why?", "so", "and so"]

    def test_an_answer_to_a_branch_left_behind_does_not_call_back(self, talk: History) -> None:
        """Somebody chose another branch meanwhile: the answer goes where its question is, the view stays."""
        first = talk.say("one")
        question = talk.say("why?")
        talk.say("never mind", parent_id=first)
        talk.answer("r1.0", "so", parent_id=question)
        talk.answer("r1.1", "and so", parent_id=question)
        assert talk.texts == ["one", "never mind"]

        talk.add("chat.branch", {"leaf_id": "r1.1"})
        assert talk.texts == ["one", "why?", "so", "and so"]

    def test_agent_channels_show_messages_in_order(self) -> None:
        """They have runs, not branches."""
        agent = History(Kind.AGENT)
        agent.answer("r1.0", "one")
        agent.answer("r2.0", "two", parent_id="r0.0")

        assert agent.texts == ["one", "two"]
        assert list(agent.shown) == [
            "metadata", "count", "members", "access", "revision", "active_runs", "pending_requests", "messages", "outputs",
            "completed",
        ]  # fmt: skip # a table


class TestForgetting:
    """Bounds that keep a channel of 100,000 messages small (ops/decisions/0005-what-state-forgets.md)."""

    @pytest.fixture(autouse=True)
    def _small(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(message_tree, "HELD_MAX", 200)
        monkeypatch.setattr(message_tree, "WEIGHT_MAX", 20_000)

    def test_only_the_newest_half_is_kept(self, talk: History) -> None:
        """State shows the same and snapshots stay small."""
        for number in range(1_000):
            talk.say(str(number))

        assert len(talk.state.of(CONVERSATION).tree.messages) <= 200
        assert talk.texts == [str(number) for number in range(950, 1_000)]
        assert len(talk.state.dump()) < 40_000

    def test_heavy_messages_are_forgotten_sooner(self, talk: History) -> None:
        """Few long texts weigh as much as many short ones; what is shown is kept whatever it weighs."""
        for number in range(150):
            talk.say("x" * 1_000 + str(number))

        tree = talk.state.of(CONVERSATION).tree
        assert len(tree.messages) == 50
        assert len(talk.shown["messages"]) == 50
        assert tree.weight == sum(message.weight for message in tree.messages.values())

    def test_a_rewritten_message_counts_by_its_new_weight(self, talk: History) -> None:
        """Answers get their weight at their end, tombstones lose theirs."""
        for number in range(100):
            talk.answer(f"r{number}.0", "x" * 1_000)
        first = talk.shown["messages"][0]["message_id"]
        talk.add("chat.delete", {"message_id": first})

        tree = talk.state.of(CONVERSATION).tree
        assert tree.weight == 49_000 == sum(message.weight for message in tree.messages.values())

    def test_what_is_shown_is_never_forgotten(self, talk: History) -> None:
        """A hundred other answers to one question do not push the question out."""
        talk.say("before")
        question = talk.say("why?")
        for number in range(300):
            talk.answer(f"r{number}.0", "so", parent_id=question)
            talk.add("chat.regenerate", {"message_id": f"r{number}.0"})
        assert talk.texts == ["before", "why?", "so"]
        assert talk.message("r299.0")["parent_id"] == question

    def test_an_answer_being_written_is_never_forgotten(self, talk: History) -> None:
        """Its end must find it, however much is said meanwhile, on whatever branch."""
        root = talk.say("root")
        head = {"message_id": "r1.0", "run_id": "r1", "attempt": 1}
        talk.add("assistant.message.start", {**head, "agent": "demo"}, "demo")
        talk.say("elsewhere", parent_id=root)
        for number in range(500):
            talk.say(str(number))
        talk.add("assistant.message.end", {**head, "finish_reason": "stop", "text": "so"}, "demo")

        message = talk.state.of(CONVERSATION).message("r1.0")
        assert message is not None
        assert message.text == "so"
        assert talk.texts[-1] == "499"

    def test_a_branch_from_what_is_forgotten_begins_anew(self, talk: History) -> None:
        """It is shown from its own first message; `channel.history` has the rest."""
        first = talk.say("first")
        for number in range(500):
            talk.say(str(number))
        talk.say("again", parent_id=first)

        assert talk.texts == ["again"]

    def test_an_answer_that_ends_twice_does_not_lead_in_circles(self, talk: History) -> None:
        """A forgotten answer whose end comes again becomes its own ancestor; whoever looks for a branch still gets an end."""
        for number in range(99):
            talk.say(str(number))
        talk.answer("r1.0")
        for number in range(101):
            talk.say(str(number))
        assert talk.state.of(CONVERSATION).message("r1.0") is None
        leaf = talk.shown["active_leaf"]
        side = talk.say("aside", parent_id=leaf)
        talk.add("chat.branch", {"leaf_id": leaf})
        talk.answer("r1.0", "once more")
        talk.answer("r2.0", "to the side", parent_id=side)

        assert talk.texts[-1] == "once more"
        assert len(talk.texts) == 50

    def test_commands_that_are_never_answered_are_forgotten(
        self, talk: History, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The oldest first: its answer, if it comes at all, is a message like any other."""
        monkeypatch.setattr(message_tree, "RERUNS_MAX", 2)
        talk.say("why?")
        talk.answer("r1.0", "so")
        commands = [talk.add("chat.regenerate", {"message_id": "r1.0"}) for _ in range(3)]
        talk.answer("r2.0", "and so", meta={"correlation": commands[0]})
        assert talk.texts == ["why?", "so", "and so"]

        talk.answer("r3.0", "otherwise", meta={"causation": commands[2]})
        assert talk.texts == ["why?", "otherwise"]

    def test_commands_about_what_is_forgotten_change_nothing(self, talk: History) -> None:
        """They are in the log; no state shows what they are about."""
        first = talk.say("first")
        for number in range(500):
            talk.say(str(number))
        before = talk.shown["messages"]
        talk.add("chat.edit", {"message_id": first, "text": "x", "mode": "replace"})
        talk.add("chat.edit", {"message_id": first, "text": "x"})
        talk.add("chat.delete", {"message_id": first, "scope": "subtree"})
        talk.add("chat.react", {"message_id": first, "reaction": "x", "op": "add"})
        talk.add("chat.feedback", {"message_id": first, "rating": "up"})
        talk.add("chat.branch", {"leaf_id": first})
        talk.add("chat.regenerate", {"message_id": first})
        talk.add("assistant.message.reset", {"message_id": "r1.0", "run_id": "r1", "attempt": 2})

        assert before == talk.shown["messages"]


def test_text_of_every_script_is_shown_as_it_is(talk: History) -> None:
    """UTF-8 on the wire, and a lone surrogate that slipped in does not make the state unreadable."""
    talk.say("Grüße 👋 \u0000")
    assert "Grüße 👋".encode() in talk.state.render()

    talk.say("\ud800")
    assert json.loads(talk.state.render())["messages"][1]["text"] == "\ud800"
