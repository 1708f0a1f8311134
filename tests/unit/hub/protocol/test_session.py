"""One client's protocol without a socket: what each frame asks for, or with which error it is answered."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.auth.permissions import compile_grants
from hub.auth.tokens import Principal
from hub.errors import ERROR_CODES
from hub.limits.rates import RateLimiter
from hub.protocol.commands import Caller, Command
from hub.protocol.session import Dropped, Received, Refused, Session, SessionState

INIT = {"type": "connection.init", "id": "i1", "payload": {"token": "t", "versions": [1]}}
SAY = {"type": "chat.message", "id": "m1", "channel": "conversation:1", "payload": {"text": "hi"}}
ALL = {f"{kind}:*": ["*"] for kind in ("conversation", "team", "document", "agent", "user")}


def caller(grants: dict[str, list[str]] | None = None) -> Caller:
    return Caller(
        Principal("alice", "acme", compile_grants(ALL if grants is None else grants, "alice"), math.inf), "c-1"
    )


def opened(limiter: RateLimiter | None = None) -> Session:
    return Session(limiter or RateLimiter(None))


def ready(grants: dict[str, list[str]] | None = None, limiter: RateLimiter | None = None) -> Session:
    session = opened(limiter)
    session.take(INIT, 0.0)
    session.established("s-1", caller(grants))
    return session


def code_of(received: Received) -> int:
    assert isinstance(received, Refused)
    return received.error.row.code


def test_the_handshake_is_a_command_and_then_frames_are() -> None:
    """OPENING, AUTHENTICATING, READY, in this order."""
    session = opened()
    states = [session.state]
    shaken = session.take(INIT, 0.0)
    states.append(session.state)
    session.established("s-1", caller())
    said = session.take(SAY, 1.0)

    assert isinstance(shaken, Command)
    assert (shaken.id, shaken.event.name) == ("i1", "connection.init")
    assert isinstance(said, Command)
    assert (said.place.path, said.data, said.caller.actor) == (
        "acme:conversation:1",
        b'{"text":"hi"}',
        ("user", "alice", "c-1"),
    )
    assert [*states, session.state] == [SessionState.OPENING, SessionState.AUTHENTICATING, SessionState.READY]
    assert session.principal.user == "alice"


@pytest.mark.parametrize("frame", [SAY, {"type": "connection.heartbeat"}, {"type": "nonsense", "id": "x"}])
def test_anything_else_first_is_4001_and_closes(frame: dict[str, object]) -> None:
    """Nobody does anything before saying who they are."""
    session = opened()

    received = session.take(frame, 0.0)

    assert code_of(received) == 4001
    assert session.state is SessionState.CLOSED


def test_a_broken_handshake_may_be_tried_again() -> None:
    """4005 does not close; the next init is taken."""
    session = opened()
    without_id = session.take({"type": "connection.init", "payload": {"token": "t", "versions": [1]}}, 0.0)
    without_token = session.take({"type": "connection.init", "id": "i", "payload": {"versions": []}}, 0.0)

    assert (code_of(without_id), code_of(without_token), session.state) == (4005, 4005, SessionState.OPENING)
    assert isinstance(session.take(INIT, 0.0), Command)


def test_a_second_handshake_is_4023() -> None:
    """A socket has one identity."""
    session = ready()

    assert code_of(session.take(INIT | {"type": "connection.reconnect"}, 1.0)) == 4023
    assert session.state is SessionState.CLOSED


@pytest.mark.parametrize(
    ("frame", "code", "re"),
    [
        (SAY | {"type": "chat.nonsense"}, 4005, "m1"),
        (SAY | {"type": "chat.message", "id": None}, 4005, None),
        (SAY | {"id": "not an id!"}, 4005, None),
        (SAY | {"id": 5}, 4005, None),
        (SAY | {"type": 5}, 4005, "m1"),
        (SAY | {"channel": 5}, 4005, "m1"),
        (SAY | {"payload": []}, 4005, "m1"),
        (SAY | {"payload": None}, 4005, "m1"),
        (SAY | {"extra": 1}, 4005, "m1"),
        (SAY | {"payload": {}}, 4005, "m1"),
        (SAY | {"channel": "team:1"}, 4005, "m1"),
        ({"type": "chat.message", "id": "m1", "payload": {"text": "hi"}}, 4005, "m1"),
        (SAY | {"channel": "room:1"}, 4006, "m1"),
        (SAY | {"channel": "conversation:a b"}, 4006, "m1"),
        ({"type": "channel.subscribe", "id": "m1", "channel": "team:1", "payload": {"channels": ["team:1"]}}, 4005, "m1"),
        ({"type": "assistant.message.delta", "id": "m1", "channel": "conversation:1", "payload": {}}, 4005, "m1"),
        ("text", 4005, None),
        ([], 4005, None),
        (None, 4005, None),
    ],
)  # fmt: skip # a case a row
def test_each_fault_has_its_code_and_leaves_the_session_open(frame: object, code: int, re: str | None) -> None:
    """Answered under the frame's id where it has a readable one."""
    session = ready()

    received = session.take(frame, 1.0)

    assert isinstance(received, Refused)
    assert (received.error.row.code, received.re, session.state) == (code, re, SessionState.READY)


def test_permission_is_asked_before_the_payload() -> None:
    """A user who may not write learns nothing about the payload; one who may not even read is answered alike."""
    session = ready({"conversation:*": ["read"]})

    assert code_of(session.take(SAY | {"payload": {}}, 1.0)) == 4003


def test_three_unreadable_messages_in_a_row_close() -> None:
    """A good one in between begins the count anew."""
    session = ready()
    for data in (b"{", b"nonsense"):
        assert isinstance(session.read(data), Refused)
    session.take(SAY, 1.0)
    for data in (b"1", b"[]"):
        refused = session.read(data)
        values = [refused] if isinstance(refused, Refused) else [session.take(value, 1.0) for value in refused]
        assert all(isinstance(value, Refused) for value in values)
    open_still = session.state
    last = session.read(b'{"id": "m9", broken')

    assert open_still is SessionState.READY
    assert isinstance(last, Refused)
    assert (last.re, last.error.closes, session.state) == ("m9", True, SessionState.CLOSED)


def test_refusals_by_rate_close_when_they_persist() -> None:
    """4004 with the time to come back; twenty within ten seconds close the socket."""
    session = ready(limiter=RateLimiter())
    received = [session.take(SAY | {"id": f"m{n}"}, 1.0) for n in range(2_000)]
    refused = [r for r in received if isinstance(r, Refused)]

    assert {code_of(r) for r in refused[:20]} == {4004}
    assert all(r.error.retry_after_ms for r in refused[:20])
    assert [r.error.closes for r in refused[:20]] == [False] * 19 + [True]
    assert session.state is SessionState.CLOSED


def test_lossy_classes_are_dropped_not_refused() -> None:
    """Typing above its rate is passed over; one with an id is told so."""
    session = ready(limiter=RateLimiter())
    frame = {"type": "chat.typing", "channel": "conversation:1", "payload": {"is_typing": True}}
    received = [session.take(frame | {"id": f"t{n}"}, 1.0) for n in range(50)]
    dropped = [r for r in received if isinstance(r, Dropped)]

    assert dropped
    assert {(d.channel, bool(d.re)) for d in dropped} == {("conversation:1", True)}
    assert session.state is SessionState.READY


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)
FRAMES = st.one_of(
    st.just(INIT), st.just(SAY), JSON,
    st.fixed_dictionaries({}, optional={
        "type": st.sampled_from(["connection.init", "chat.message", "channel.subscribe", "x"]) | JSON,
        "id": st.text(max_size=70) | JSON, "channel": st.just("conversation:1") | JSON, "payload": JSON,
    }),
)  # fmt: skip # many arguments


@given(st.lists(FRAMES, max_size=12))
def test_whatever_comes_each_frame_has_one_answer(frames: list[object]) -> None:
    """Any values in any order: a command, or a refusal with a documented code that can be written as JSON."""
    session = opened(RateLimiter())
    for number, frame in enumerate(frames):
        if session.state is SessionState.CLOSED:
            break
        received = session.take(frame, float(number))
        if isinstance(received, Refused):
            assert received.error.row.code in ERROR_CODES
            json.dumps(received.error.to_payload())
        elif session.state is SessionState.AUTHENTICATING:
            session.established("s", caller())


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    """Nothing a client sends raises."""
    values = opened().read(data)

    assert isinstance(values, (list, Refused))


def test_a_session_without_a_caller_has_no_principal() -> None:
    """Asking too early is our fault, and said as such."""
    with pytest.raises(ValueError, match="not established"):
        _ = opened().principal


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
    """The frame's own fields come first, then whether it is the one that opens (docs/protocol.md#order-of-checks)."""
    session = opened()

    refused = session.take(frame, 0.0)

    assert isinstance(refused, Refused)
    assert (refused.error.row.code, session.state) == (code, state)


def test_a_second_handshake_of_a_newer_client_is_one_too_many() -> None:
    """Unknown fields of a handshake are passed over, so it is refused for coming twice."""
    refused = ready().take(INIT | {"extra": 1}, 1.0)

    assert isinstance(refused, Refused)
    assert refused.error.row.code == 4023
