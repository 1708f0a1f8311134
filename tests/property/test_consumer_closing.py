"""The law of closing: wherever a run was left, what `closing` plans leaves nothing open, and plans the same twice."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from consumers.runs.journal import Journal
from consumers.runs.transitions import RunEnding, closing, failure
from streams.channel import parse_channel
from streams.events import CATALOGUE
from streams.json_bytes import JsonObject
from streams.records.runs import RunView
from support.payloads import read

CHANNEL = parse_channel("t", "conversation:c")
RUN = RunView("r", "running", "agent", "alice", "1-0", attempt=2)
IDS = st.integers(0, 3).map(str)
EVENTS = st.lists(
    st.one_of(
        IDS.map(lambda n: ("assistant.message.start", {"message_id": f"r.{n}", "attempt": 1})),
        IDS.map(lambda n: ("assistant.message.end", {"message_id": f"r.{n}"})),
        IDS.map(lambda n: ("tool.call.start", {"tool_call_id": n, "name": "n", "executor": "server"})),
        IDS.map(lambda n: ("tool.call.complete", {"tool_call_id": n, "outcome": "ok", "output": 1})),
        IDS.map(lambda n: ("tool.call.request", {"request_id": f"r.q{n}", "kind": "input"})),
        IDS.map(lambda n: ("tool.call.resolved", {"request_id": f"r.q{n}", "resolution": "answered"})),
    ),
    max_size=20,
)
ENDINGS = st.sampled_from([
    RunEnding("success", 1), RunEnding("cancelled", 1), RunEnding("expired", 1, "timeout", text="so far"),
    RunEnding("failed", 1, "worker_lost", failure("worker_lost", "m", is_retryable=True), text="so far", reasoning="hm"),
])  # fmt: skip # a table


def left_at(events: list[tuple[str, JsonObject]]) -> Journal:
    journal = Journal("r")
    for type_, payload in events:
        journal.apply(type_, {"run_id": "r"} | payload)
    return journal


@given(EVENTS, ENDINGS)
def test_nothing_is_left_open(events: list[tuple[str, JsonObject]], ending: RunEnding) -> None:
    """Every planned event is valid by the catalogue; applied, they close all calls, questions, the message and the run."""
    journal = left_at(events)
    planned = closing(CHANNEL, journal, RUN, ending)
    for one in planned:
        read(CATALOGUE[one.type], one.payload)
        journal.apply(one.type, one.payload)

    assert (journal.open_calls, journal.open_requests, journal.open_message) == ([], [], None)
    assert journal.is_complete
    assert [one.type for one in planned].index("agent.complete") == len(planned) - 1
    assert len({one.key for one in planned}) == len(planned)


@given(EVENTS, ENDINGS)
def test_two_who_close_plan_the_same(events: list[tuple[str, JsonObject]], ending: RunEnding) -> None:
    """The same journal gives the same events under the same keys, so whoever comes second writes nothing."""
    first, second = (closing(CHANNEL, left_at(events), RUN, ending) for _ in range(2))

    assert first == second
