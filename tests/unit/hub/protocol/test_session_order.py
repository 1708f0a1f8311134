"""Two rules of the frame that meet: which comes first, and what begins a row of unreadable messages anew."""

from __future__ import annotations

import json
import math

import pytest

from hub.auth.permissions import compile_grants
from hub.auth.tokens import Principal
from hub.limits.rates import RateLimiter
from hub.protocol.commands import Caller
from hub.protocol.session import Refused, Session, SessionState

INIT = {"type": "connection.init", "id": "i1", "payload": {"token": "t", "versions": [1]}}
SAY = {"type": "chat.message", "id": "m1", "channel": "conversation:1", "payload": {"text": "hi"}}


def ready() -> Session:
    session = Session(RateLimiter(None))
    session.take(INIT, 0.0)
    session.established("s-1", Caller(Principal("a", "acme", compile_grants({"*": ["*"]}, "a"), math.inf), "c-1"))
    return session


def send(session: Session, text: str) -> Refused | None:
    """The refusal of the only value in a message, or of the whole."""
    values = session.read(text.encode())
    taken = values if isinstance(values, Refused) else session.take(values[0], 1.0)
    return taken if isinstance(taken, Refused) else None


@pytest.mark.parametrize("broken", [{"id": "q"}, SAY | {"id": "x" * 65}, SAY | {"extra": 1}, SAY | {"payload": 5}])
def test_an_object_that_is_no_frame_ends_a_row_of_unreadable_messages(broken: dict[str, object]) -> None:
    """Three in a row close: what is JSON and an object is refused too, but the client speaks our protocol."""
    session = ready()

    refusals = [send(session, text) for text in ("x", "x", json.dumps(broken), "x", "x")]

    last = send(session, "x")

    assert [refusal is not None and refusal.error.row.code for refusal in refusals] == [4005] * 5
    assert [refusal is not None and refusal.error.closes for refusal in [*refusals, last]] == [False] * 5 + [True]


@pytest.mark.parametrize(
    ("frame", "code", "state"),
    [
        (SAY | {"extra": 1}, 4005, SessionState.OPENING),
        (SAY | {"id": "x" * 65}, 4005, SessionState.OPENING),
        (SAY, 4001, SessionState.CLOSED),
    ],
)
def test_a_frame_is_looked_at_before_its_turn(frame: dict[str, object], code: int, state: SessionState) -> None:
    """The frame's own fields come first, then whether it is the one that opens (EVENTS 15)."""
    session = Session(RateLimiter(None))

    refused = session.take(frame, 0.0)

    assert isinstance(refused, Refused)
    assert (refused.error.row.code, session.state) == (code, state)


def test_a_second_handshake_of_a_newer_client_is_one_too_many() -> None:
    """Unknown fields of a handshake are passed over, so it is refused for coming twice."""
    refused = ready().take(INIT | {"extra": 1}, 1.0)

    assert isinstance(refused, Refused)
    assert refused.error.row.code == 4023
