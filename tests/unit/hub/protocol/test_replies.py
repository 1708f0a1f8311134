"""Replies to an append, and to everything that can go wrong with it."""

from __future__ import annotations

import json

import pytest

from hub.errors import HubError
from hub.protocol.commands import Append
from hub.protocol.replies import append_error, error_message, log_error, reply, stored_payload
from streams.channel import Channel, Kind
from streams.envelope import Actor, Appended, Draft, Durability
from streams.errors import (
    CommandIdsFull,
    GuardRefused,
    IdempotencyConflict,
    LogUnavailable,
    MalformedCursor,
    StreamsError,
)
from streams.events import CATALOGUE

DRAFT = Draft(Channel("acme", Kind.CONVERSATION, "1"), "chat.message", b"{}", Actor("user", "a"))
STORED = Appended("5-0", 7, is_duplicate=True, durability=Durability.FSYNC, results=(3,))
WHERE = {"id": "5-0", "seq": 7, "duplicate": True, "durability": "fsync"}


@pytest.mark.parametrize(
    ("results", "added"),
    [(None, {}), ({}, {}), ({"a": "ü"}, {"a": "ü"}), (b'"a":1', {"a": 1}), (lambda a: {"n": a.results[0]}, {"n": 3})],
)
def test_a_stored_event_is_answered_with_its_place(results: object, added: dict[str, object]) -> None:
    """The reply has the event's place, `duplicate`, its durability, and the fields that the handler adds."""
    payload = stored_payload(CATALOGUE["chat.message"], Append(DRAFT, results), STORED)  # type: ignore[arg-type]

    assert json.loads(payload) == WHERE | added


def test_a_live_event_has_no_place() -> None:
    """It cannot be resumed from, so no id is told."""
    assert json.loads(stored_payload(CATALOGUE["chat.typing"], Append(DRAFT), STORED)) == {}
    assert json.loads(stored_payload(CATALOGUE["chat.typing"], Append(DRAFT, {"a": 1}), STORED)) == {"a": 1}


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (LogUnavailable("x"), 4013), (IdempotencyConflict("x"), 4009), (CommandIdsFull("x"), 4004), (MalformedCursor("x"), 4005),
        (GuardRefused("state", "done"), 4021),
    ],
)  # fmt: skip # a case a row
def test_every_error_of_the_log_has_a_code(error: StreamsError, code: int) -> None:
    """Unavailable may be sent again, a conflict not; a guard says the present state."""
    assert append_error(Append(DRAFT), error).row.code == code


def test_a_guards_refusal_says_what_is_there() -> None:
    """By default 4021 with the field; a handler may say it in its own words."""
    default = append_error(Append(DRAFT), GuardRefused("state", "done"))
    unset = append_error(Append(DRAFT), GuardRefused("state", None))
    own = append_error(Append(DRAFT, refused=lambda g: HubError(4018, f"no {g.field}")), GuardRefused("run", None))

    assert default.to_payload()["details"] == [{"field": "state", "problem": "is done"}]
    assert unset.to_payload()["details"] == [{"field": "state", "problem": "is not set"}]
    assert (own.row.code, own.message) == (4018, "no run")


def test_unavailable_says_when_to_come_back() -> None:
    """4013 carries its pause."""
    assert log_error(LogUnavailable("x")).to_payload()["retry_after_ms"] == 500


def test_an_error_may_name_any_channel_a_client_wrote() -> None:
    """It is escaped; a reply to no command has no `re`."""
    message = json.loads(error_message(HubError(4006, "no"), None, 'a"}\n\x00'))

    assert message["channel"] == 'a"}\n\x00'
    assert "re" not in message
    assert reply("ack", None, None, b"{}") == b'{"type":"ack","payload":{}}'
