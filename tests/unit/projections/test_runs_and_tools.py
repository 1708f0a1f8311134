"""Agent runs, and the questions that wait."""

from __future__ import annotations

from typing import Any

import pytest

from projections.agent_runs import AGENT_RUNS
from projections.errors import BrokenEvent
from streams.channel import Kind
from support.channel_history import History


@pytest.fixture
def talk() -> History:
    """An empty conversation."""
    return History(Kind.CONVERSATION)


def status(run_id: str, state: str, attempt: int = 1, segment: int = 1, **more: Any) -> dict[str, Any]:
    return {"run_id": run_id, "agent": "demo", "state": state, "attempt": attempt, "segment": segment, **more}


def complete(run_id: str, **more: Any) -> dict[str, Any]:
    return {
        "run_id": run_id, "agent": "demo", "outcome": "success", "message_ids": [], "duration_ms": 5, "attempts": 1, **more,
    }  # fmt: skip # a table


class TestRuns:
    """`active_runs`, `outputs` and `completed`."""

    def test_a_run_is_active_from_queued_to_complete(self, talk: History) -> None:
        """A run shows its newest status, the time since it has it, and the message it writes."""
        talk.add("agent.status", status("r1", "queued"))
        talk.add("agent.status", status("r1", "running", 2, 3))
        head = {"message_id": "r1.0", "run_id": "r1", "attempt": 2, "agent": "demo"}
        talk.add("assistant.message.start", head, "demo")

        assert talk.shown["active_runs"] == [{
            "run_id": "r1", "agent": "demo", "state": "running", "attempt": 2, "segment": 3, "message_id": "r1.0",
            "started_at": "2026-11-22T17:11:20.000Z",
        }]  # fmt: skip # a table

        talk.add("agent.complete", complete("r1"))
        assert talk.shown["active_runs"] == []

    def test_runs_stand_in_the_order_they_began(self, talk: History) -> None:
        """Whoever moves on keeps its place."""
        talk.add("agent.status", status("r1", "queued"))
        talk.add("agent.status", status("r2", "queued"))
        talk.add("agent.status", status("r1", "running"))

        assert [run["run_id"] for run in talk.shown["active_runs"]] == ["r1", "r2"]
        assert "message_id" not in talk.shown["active_runs"][0]

    def test_a_final_run_does_not_come_back(self, talk: History) -> None:
        """A status that comes late, of whatever state, brings nothing back."""
        talk.add("agent.status", status("r1", "running"))
        talk.add("agent.complete", complete("r1"))
        talk.add("agent.status", status("r1", "running"))
        talk.add("agent.status", status("r2", "expired"))

        assert talk.shown["active_runs"] == []

    def test_agents_show_their_newest_results(self) -> None:
        """The last twenty of each, oldest first, with the event and its author."""
        agent = History(Kind.AGENT)
        for number in range(25):
            agent.add("agent.output", {"run_id": "r1", "index": number, "kind": "json", "value": {"n": number}}, "demo")
            agent.add("agent.complete", complete(f"r{number}", result=number))

        assert [output["index"] for output in agent.shown["outputs"]] == list(range(5, 25))
        assert [done["result"] for done in agent.shown["completed"]] == list(range(5, 25))
        assert agent.shown["outputs"][0]["actor"]["id"] == "demo"

    def test_conversations_hold_no_results(self, talk: History) -> None:
        """They do not show them, so a snapshot does not carry them."""
        talk.add("agent.output", {"run_id": "r1", "index": 0, "kind": "json", "value": 1})
        talk.add("agent.complete", complete("r1"))

        assert "completed" not in talk.shown
        assert talk.state.of(AGENT_RUNS).completed == talk.state.of(AGENT_RUNS).outputs == []

    def test_an_unknown_state_is_broken(self, talk: History) -> None:
        """A run is in one of eight states."""
        with pytest.raises(BrokenEvent, match="state"):
            talk.add("agent.status", status("r1", "sleeping"))

    def test_a_message_of_no_run_is_no_run(self, talk: History) -> None:
        """An answer whose run is not held makes none."""
        talk.answer("r1.0")

        assert talk.shown["active_runs"] == []


class TestRequests:
    """`pending_requests`."""

    def test_a_question_is_open_until_it_is_resolved(self, talk: History) -> None:
        """An answer alone does not close it; what is shown is the payload as it was."""
        asked = {
            "request_id": "r1.q0",
            "run_id": "r1",
            "batch_id": "b",
            "kind": "approval",
            "prompt": "May I?",
            "new": 1,
        }
        talk.add("tool.call.request", asked)
        talk.add("tool.call.response", {"request_id": "r1.q0", "decision": "approve"})
        assert talk.shown["pending_requests"] == [asked]

        talk.add(
            "tool.call.resolved", {"request_id": "r1.q0", "run_id": "r1", "resolution": "approved", "edited": False}
        )
        assert talk.shown["pending_requests"] == []

    def test_what_is_open_ends_with_its_run(self, talk: History) -> None:
        """A lost worker leaves no question behind; other runs' stay."""
        for run_id in ("r1", "r2"):
            asked = {"request_id": f"{run_id}.q0", "run_id": run_id, "batch_id": "b", "kind": "input", "prompt": "?"}
            talk.add("tool.call.request", asked)
        talk.add("agent.complete", complete("r1"))

        assert [asked["run_id"] for asked in talk.shown["pending_requests"]] == ["r2"]
