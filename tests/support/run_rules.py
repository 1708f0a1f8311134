"""Rules for one run, from docs/protocol.md#stream-rules 7, 8, 10, 11: states, messages, calls, questions, outputs. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from streams.run_states import FINAL_STATES, OUTCOMES, TRANSITIONS, RunState

Json = dict[str, Any]


class Violation(NamedTuple):
    """A broken rule of docs/protocol.md#stream-rules, by number, and the problem."""

    rule: int
    problem: str


def run_violations(run_id: str, events: Sequence[Json], *, is_quiet: bool) -> Iterator[Violation]:
    """The rules that a run's events break.

    Args:
        run_id: the run.
        events: its events in log order: those whose payload names it, and the answers to its questions.
        is_quiet: no more events will follow, so everything that began must have ended.
    """
    yield from _states(run_id, events, is_quiet=is_quiet)
    yield from _messages(run_id, events, is_quiet=is_quiet)
    yield from _pairs(events, "tool.call.start", ("tool.call.complete", "tool.call.error"), "tool_call_id", is_quiet)
    yield from _pairs(events, "tool.call.request", ("tool.call.resolved",), "request_id", is_quiet)
    yield from _answers(events)
    indexes = [event["payload"]["index"] for event in events if event["type"] == "agent.output"]
    if indexes != list(range(len(indexes))):
        yield Violation(11, f"outputs of {run_id} are numbered {indexes}")


def may(previous: RunState | None, following: RunState) -> bool:
    """True if a run in state `previous` may enter `following`; None is a run that does not exist yet."""
    return following == "queued" if previous is None else following in TRANSITIONS[previous]


def _states(run_id: str, events: Sequence[Json], *, is_quiet: bool) -> Iterator[Violation]:
    """A run begins as queued, then follows `run_states`, and has one end, after which nothing follows."""
    state: RunState | None = None
    ends = 0
    for event in events:
        if ends and event["actor"]["kind"] != "user" and event["type"] != "message.status":
            yield Violation(7, f"{event['type']} of {run_id} after its agent.complete")
        if event["type"] == "agent.status":
            following: RunState = event["payload"]["state"]
            if following in FINAL_STATES or not may(state, following):
                yield Violation(7, f"{run_id} went from {state} to {following}")
            if event["payload"].get("previous", state) != state:
                yield Violation(7, f"{run_id} was {state} and not {event['payload']['previous']}")
            state = following
        if event["type"] == "agent.complete":
            ends += 1
            if state is None or not may(state, OUTCOMES[event["payload"]["outcome"]]):
                yield Violation(7, f"{run_id} ended as {event['payload']['outcome']} out of {state}")
    if ends > 1 or (is_quiet and not ends):
        yield Violation(7, f"{run_id} has {ends} agent.complete")
    places = [(e["payload"]["segment"], e["payload"]["attempt"]) for e in events if e["type"] == "agent.status"]
    if places != sorted(places):
        yield Violation(7, f"{run_id} fell back in {places}")


def _messages(run_id: str, events: Sequence[Json], *, is_quiet: bool) -> Iterator[Violation]:
    attempts: dict[str, int] = {}
    starts: Counter[str] = Counter()
    ends: Counter[str] = Counter()
    for event in events:
        payload, kind = event["payload"], event["type"]
        if kind == "agent.complete":
            yield from _message_ids(run_id, payload["message_ids"], starts, ends)
        if not kind.startswith("assistant."):
            continue
        message = payload["message_id"]
        starts[message] += kind == "assistant.message.start"
        if starts[message] == 0:
            yield Violation(8, f"{kind} of {message} before its start")
        if ends[message] and kind != "assistant.message.end":
            yield Violation(8, f"{kind} of {message} after its end")
        ends[message] += kind == "assistant.message.end"
        if payload["attempt"] < attempts.get(message, 0):
            yield Violation(8, f"{message} fell back to attempt {payload['attempt']}")
        attempts[message] = payload["attempt"]
    for message in attempts:
        if starts[message] > 1 or ends[message] > 1 or (is_quiet and not ends[message]):
            yield Violation(8, f"{message} has {starts[message]} starts and {ends[message]} ends")


def _message_ids(run_id: str, named: list[str], starts: Counter[str], ends: Counter[str]) -> Iterator[Violation]:
    """At the end of a run: it lists its messages, and each of them has ended."""
    if named != list(starts):
        yield Violation(8, f"{run_id} ended naming {named} and had {list(starts)}")
    for message in starts:
        if not ends[message]:
            yield Violation(8, f"{message} has no end before agent.complete")


def _pairs(
    events: Sequence[Json], opening: str, closing: tuple[str, ...], name: str, is_quiet: bool
) -> Iterator[Violation]:
    """Each item is opened once and closed once, in that order, before the run ends."""
    opened: Counter[str] = Counter()
    closed: Counter[str] = Counter()
    for event in events:
        key = event["payload"].get(name)
        if event["type"] == opening:
            opened[key] += 1
        elif event["type"] in closing:
            closed[key] += 1
            if not opened[key]:
                yield Violation(10, f"{event['type']} of {key} before {opening}")
        elif event["type"] == "agent.complete" and (left := [one for one in opened if not closed[one]]):
            yield Violation(10, f"{opening} of {left} is open at agent.complete")
    for key in opened:
        if opened[key] > 1 or closed[key] > 1 or (is_quiet and not closed[key]):
            yield Violation(10, f"{opening} of {key}: {opened[key]} times, closed {closed[key]} times")


def _answers(events: Sequence[Json]) -> Iterator[Violation]:
    """A question has at most one stored answer, and only while it is open."""
    asked: set[str] = set()
    closed: set[str] = set()
    for event in events:
        request = event["payload"].get("request_id")
        if event["type"] == "tool.call.request":
            asked.add(request)
        elif event["type"] == "tool.call.response":
            if request not in asked or request in closed:
                yield Violation(10, f"an answer to {request}, which is not open")
            closed.add(request)
        elif event["type"] == "tool.call.resolved":
            closed.add(request)
