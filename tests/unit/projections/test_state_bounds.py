"""A state is bounded in bytes, whatever its channel holds, and tells what it leaves out."""

from __future__ import annotations

import json

from projections.channel_state import ChannelState
from projections.projection import DURABLE_BYTES_MAX
from streams.channel import Kind
from support.channel_history import History

ANSWER_BYTES = 512 * 1024


def fresh(talk: History, size_bytes: int, count: int) -> list[str]:
    """Messages of this size; their IDs."""
    return [talk.say("x" * size_bytes) for _ in range(count)]


def test_fifty_large_answers_are_left_out_and_told() -> None:
    """No answer of 512 KiB fits: none is shown, and history before the ID told has all of them."""
    talk = History(Kind.CONVERSATION)
    for n in range(50):
        talk.answer(f"r{n}.0", "x" * ANSWER_BYTES)

    assert len(talk.state.render()) < 1_000
    assert talk.shown["messages"] == []
    assert talk.shown["truncated"] == {"messages": {"before": talk.state.id.replace("-0", "-1")}}


def test_the_newest_messages_that_fit_are_shown() -> None:
    """The oldest go; `before` is right after the newest that went, so that history goes on without a hole."""
    talk = History(Kind.CONVERSATION)
    ids = fresh(talk, 30_000, 20)

    kept = [message["message_id"] for message in talk.shown["messages"]]

    assert len(talk.state.render()) <= DURABLE_BYTES_MAX
    assert kept == ids[-len(kept) :]
    assert len(kept) == 7
    assert talk.shown["truncated"]["messages"]["before"] == ids[-len(kept) - 1].replace("-0", "-1")


def test_a_message_left_out_counts_by_its_newest_text() -> None:
    """One that was rewritten is in history where its new text is."""
    talk = History(Kind.CONVERSATION)
    first, *_ = fresh(talk, 30_000, 8)
    edit = talk.add("chat.edit", {"message_id": first, "text": "y" * 30_000, "mode": "replace"})

    assert talk.shown["truncated"]["messages"]["before"] == edit.replace("-0", "-1")


def test_a_snapshot_leaves_out_the_same() -> None:
    """A fold that began from a snapshot gives the same bytes."""
    talk = History(Kind.CONVERSATION)
    fresh(talk, 30_000, 20)

    assert ChannelState.load(talk.state.dump()).render() == talk.state.render()


def test_lists_of_other_channels_are_bounded_alike() -> None:
    """A team's activities, an inbox's notifications and an agent's outputs tell what they leave out."""
    team, inbox, agent = History(Kind.TEAM), History(Kind.USER), History(Kind.AGENT)
    for n in range(50):
        team.add("team.activity", {"verb": "made", "object": {"note": "x" * 30_000}})
        inbox.add("team.notification", {"title": "t", "body": "x" * 30_000})
        agent.add("agent.output", {"run_id": "r1", "data": "x" * 30_000})
        agent.answer(f"r{n}.0", "x" * 30_000)

    for history, names in ((team, {"activities"}), (inbox, {"notifications"}), (agent, {"outputs", "messages"})):
        shown = json.loads(history.state.render())
        assert len(history.state.render()) <= DURABLE_BYTES_MAX
        assert shown["truncated"].keys() == names
        assert all(shown[name] for name in names)


def test_a_small_state_says_nothing_of_it() -> None:
    """Nothing is left out, so nothing is told."""
    talk = History(Kind.CONVERSATION)
    talk.say("hello")

    assert "truncated" not in talk.shown
