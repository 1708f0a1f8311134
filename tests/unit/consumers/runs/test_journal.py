"""The journal of a run: what is folded from its events."""

from __future__ import annotations

from consumers.runs.journal import Journal
from streams.json_bytes import JsonObject

RUN = "r1"


def journal(*events: tuple[str, JsonObject]) -> Journal:
    made = Journal(RUN)
    for type_, payload in events:
        made.apply(type_, {"run_id": RUN} | payload)
    return made


def start(number: int, attempt: int = 1) -> tuple[str, JsonObject]:
    return "assistant.message.start", {"message_id": f"{RUN}.{number}", "attempt": attempt, "agent": "a"}


def end(number: int) -> tuple[str, JsonObject]:
    return "assistant.message.end", {"message_id": f"{RUN}.{number}", "finish_reason": "stop", "text": ""}


def step(key: str, index: int, **where: JsonObject | str | int) -> tuple[str, JsonObject]:
    return "agent.output", {"index": index, "kind": "log", "name": f"step:{key}", "value": {"result": key, **where}}


def test_events_of_other_runs_change_nothing() -> None:
    """A channel holds many runs; each journal is of one."""
    made = Journal(RUN)

    made.apply("assistant.message.start", {"run_id": "r2", "message_id": "r2.0"})

    assert made == Journal(RUN)


def test_an_ended_message_is_not_open() -> None:
    """Only the last message can be open."""
    assert journal(start(0)).open_message is not None
    assert journal(start(0), end(0)).open_message is None
    assert journal(start(0), end(0), start(1)).message_ids == ["r1.0", "r1.1"]


def test_a_step_marks_the_place_in_its_open_message() -> None:
    """Text before the last recorded step stays after a lost worker."""
    made = journal(start(0), step("a", 0, message_id="r1.0", kept=5), step("b", 1, message_id="r1.0", kept=9))

    assert made.open_message is not None
    assert (made.open_message.kept, made.open_message.last_step) == (9, "b")
    assert made.steps == {"a": "a", "b": "b"}


def test_a_step_between_messages_marks_nothing() -> None:
    """It was recorded when no message was open; a later message begins without a mark."""
    made = journal(step("a", 0), start(0))

    assert made.open_message is not None
    assert made.open_message.last_step is None


def test_outputs_are_counted_with_and_without_steps() -> None:
    """The index is shared; a replayed agent counts only what it yielded itself."""
    made = journal(step("a", 0), ("agent.output", {"index": 1, "kind": "log", "name": "other", "value": 1}))

    assert (made.output_count, made.agent_output_count) == (2, 1)


def test_a_call_is_open_until_its_result() -> None:
    """complete and error close it, and keep what the agent gets in a replay."""
    call: tuple[str, JsonObject] = ("tool.call.start", {"tool_call_id": "c", "name": "n", "executor": "server"})

    assert [one.name for one in journal(call).open_calls] == ["n"]
    done = journal(call, ("tool.call.complete", {"tool_call_id": "c", "outcome": "ok", "output": 3}))
    assert (done.open_calls, done.calls["c"].output) == ([], 3)
    failed = journal(call, ("tool.call.error", {"tool_call_id": "c", "reason": "timeout", "message": "m"}))
    assert (failed.open_calls, failed.calls["c"].error) == ([], "timeout")


def test_a_question_is_open_until_it_is_resolved_and_only_then_has_an_answer() -> None:
    """The stored response alone is not the answer: what it amounts to is said by the resolution. The first one counts."""
    asked: tuple[str, JsonObject] = ("tool.call.request", {"request_id": "q", "kind": "input", "prompt": "?"})
    said: tuple[str, JsonObject] = ("tool.call.response", {"request_id": "q", "result": "yes", "reason": "why"})
    late: tuple[str, JsonObject] = ("tool.call.response", {"request_id": "q", "result": "no"})
    resolved: tuple[str, JsonObject] = (
        "tool.call.resolved",
        {"request_id": "q", "resolution": "answered", "by": "bob"},
    )

    assert journal(asked, said).requests["q"].answer() is None
    answer = journal(asked, said, late, resolved).requests["q"].answer()
    assert answer is not None
    assert (answer.resolution, answer.by, answer.value, answer.reason) == ("answered", "bob", "yes", "why")
    assert not answer.is_approved


def test_an_approval_whose_edited_arguments_were_erased_is_a_denial() -> None:
    """The call must not run with the original ones."""
    asked = ("tool.call.request", {"request_id": "q", "kind": "approval", "tool_call_id": "c"})
    answered = ("tool.call.response", {"request_id": "q", "decision": "approve", "edited_args": {"amount": 1}})
    resolved = ("tool.call.resolved", {"request_id": "q", "resolution": "approved", "by": "al", "edited": True})

    whole, erased = journal(asked, answered, resolved), journal(asked, ("tool.call.response", {}), resolved)

    answers = [made.requests["q"].answer() for made in (whole, erased)]
    assert [answer and (answer.is_approved, answer.edited_args) for answer in answers] == [
        (True, {"amount": 1}),
        (False, None),
    ]
