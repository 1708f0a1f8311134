"""Run ids and guards that the edge and the consumers share."""

from __future__ import annotations

from streams.channel import parse_channel
from streams.events import CATALOGUE
from streams.records.runs import (
    Invitation,
    answering,
    cancelling,
    event_of_run,
    message_id_of,
    opening,
    read_request,
    read_run,
    request_id_of,
    run_guard_name,
    run_id_of,
    run_of_message,
)
from support.payloads import read

PLACE = parse_channel("acme", "conversation:42")
LONGEST = "9" * 15 + "-" + "9" * 10


def test_a_run_id_follows_from_tenant_channel_and_event() -> None:
    """The same event gives the same run; another tenant's or channel's gives another; the event can be read back."""
    run_id = run_id_of(PLACE, "1795-0")

    assert run_id == run_id_of(PLACE, "1795-0")
    assert run_id != run_id_of(parse_channel("other", "conversation:42"), "1795-0")
    assert run_id != run_id_of(parse_channel("acme", "agent:42"), "1795-0")
    assert event_of_run(PLACE, run_id) == "1795-0"
    assert event_of_run(PLACE, "mine") is None
    assert run_of_message(message_id_of(run_id, 3)) == run_id


def test_ids_fit_the_catalogue() -> None:
    """The longest event id still gives ids that events may carry."""
    run_id = run_id_of(PLACE, LONGEST)
    status = {"run_id": run_id, "agent": "a", "state": "queued", "attempt": 1, "segment": 1}
    asked = {"request_id": request_id_of(run_id, 999), "batch_id": f"{run_id}.s99", "run_id": run_id, "kind": "input"}

    read(CATALOGUE["agent.status"], status)
    read(CATALOGUE["tool.call.request"], asked | {"prompt": "?"})


def test_opening_counts_the_run_and_names_its_hash_by_the_new_event() -> None:
    """`reject` compares the count; a chosen run id names the hash itself."""
    home, run = opening(PLACE, Invitation("demo", "alice", 5, on_busy="reject"))
    _, chosen = opening(PLACE, Invitation("demo", "alice", 5, run_id="mine", deadline_ms=7))

    assert (home.checks, home.increments) == ((("open", "le", "0"),), ("open",))
    assert run.name == run_guard_name(PLACE, run_id_of(PLACE, "@id"))
    assert run.name.endswith("@id")
    assert chosen.name == "run:conversation:42:mine"
    assert ("limit_ms", "7") in chosen.sets
    assert opening(PLACE, Invitation("demo", "alice", 5))[0].checks == ()


def test_a_hash_is_read_as_a_run() -> None:
    """Empty is none; what is absent has its default."""
    assert read_run("r", {}) is None
    run = read_run("r", {"state": "waiting", "agent": "a", "by": "u", "cause": "1-0", "asked": "2", "cancel": "force"})
    assert run is not None
    assert (run.state, run.segment, run.asked, run.answered, run.cancel, run.is_final) == (
        "waiting",
        1,
        2,
        0,
        "force",
        False,
    )


def test_answers_and_cancels_compare_the_state() -> None:
    """The first answer closes the question; a final run takes no cancel."""
    assert answering(PLACE, "r.q0", "bob").checks == (("state", "eq", "open"),)
    assert cancelling(PLACE, "r").checks == (("state", "in", "queued,running,waiting,cancelling"),)
    request = read_request("r.q0", {"state": "open", "run_id": "r", "assignees": "amy,bob", "expires_ms": "9"})
    assert request is not None
    assert (request.assignees, request.expires_ms, request.may_edit) == (("amy", "bob"), 9, False)
