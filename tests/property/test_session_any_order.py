"""The session's state machine under any order of frames: it ends READY or CLOSED by a documented code, each id taken once."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from hub.auth.permissions import compile_grants
from hub.auth.tokens import Principal
from hub.errors import ERROR_CODES, HubError
from hub.limits.rates import DEFAULT_RATES, RateClass, RateLimiter
from hub.protocol.commands import Caller, Command
from hub.protocol.session import Dropped, Refused, Session, SessionState
from streams.events import CATALOGUE
from support.examples import examples
from support.payload_strategies import payloads

TYPES = sorted(CATALOGUE)
INBOUND = [name for name in TYPES if CATALOGUE[name].is_inbound and CATALOGUE[name].is_served]
CHANNELS = ["conversation:1", "team:1", "document:1", "agent:1", "user:a", "room:1", "conversation:", "", "team:a b"]
TIGHT = dict.fromkeys(DEFAULT_RATES, RateClass(0.5, 4))
"""Limits that a short run meets."""
ALICE = Caller(Principal("alice", "acme", compile_grants({"conversation:*": ["*"], "team:*": ["read"]}, "alice"), 1e12))
FOLLOWS = {
    SessionState.OPENING: {SessionState.OPENING, SessionState.AUTHENTICATING, SessionState.CLOSED},
    SessionState.AUTHENTICATING: {SessionState.READY, SessionState.CLOSED},
    SessionState.READY: {SessionState.READY, SessionState.CLOSED},
    SessionState.CLOSED: {SessionState.CLOSED},
}
"""The drawing at the head of `hub.protocol.session`, as data."""

valid = st.sampled_from(INBOUND).flatmap(lambda name: st.tuples(st.just(name), payloads(CATALOGUE[name])))
anything = st.tuples(
    st.sampled_from([*TYPES, "", "chat.nothing"]), st.dictionaries(st.sampled_from(["text", "token", "x"]), st.none())
)
unreadable = st.sampled_from([b"", b"{", b"[]", b"null", b"1", b"[" * 3_000, b'{"id":"u1"', b"[1]", b'["x",{}]'])


class SessionMachine(RuleBasedStateMachine):
    """A client that sends what it likes to a session; the caller does what the module's docstring asks of it."""

    def __init__(self) -> None:
        super().__init__()
        self.session = Session(RateLimiter(TIGHT))
        self.now, self.count = 0.0, 0
        self.owed: list[str] = []
        self.answered: Counter[str] = Counter()
        self.closing: HubError | None = None
        self.before = SessionState.OPENING

    def may_take(self) -> bool:
        """The caller hands nothing in while authenticating, and nothing after the end."""
        return self.session.state in {SessionState.OPENING, SessionState.READY}

    def note(self, received: Any) -> None:
        """Count an answer; a command is one, since whoever carries it out answers it."""
        assert isinstance(received, Command | Refused | Dropped)
        id_ = received.id if isinstance(received, Command) else received.re
        if id_ is not None:
            self.answered[id_] += 1
        if isinstance(received, Refused):
            assert received.error.row.code in ERROR_CODES
            if received.error.closes:
                self.closing = received.error
        if isinstance(received, Command):
            assert self.closing is None
            assert received.event.is_inbound

    def take(self, frames: list[dict[str, Any]], *, is_array: bool) -> None:
        """Hand a message in, as a connection would."""
        data = json.dumps(frames if is_array else frames[0]).encode()
        values = self.session.read(data)
        if isinstance(values, Refused):
            self.note(values)
            return
        for value, frame in zip(values, frames, strict=True):
            if not self.may_take():
                break
            if "id" in frame:
                self.owed.append(frame["id"])
            self.note(self.session.take(value, self.now))
            self.follow()

    def follow(self) -> None:
        """Only the drawn transitions happen."""
        assert self.session.state in FOLLOWS[self.before]
        self.before = self.session.state

    def frame(self, drawn: tuple[str, dict[str, Any]], channel: str | None, *, has_id: bool) -> dict[str, Any]:
        """A frame with an id of its own."""
        self.count += 1
        frame: dict[str, Any] = {"type": drawn[0], "payload": drawn[1]}
        if has_id:
            frame["id"] = f"f{self.count}"
        if channel is not None:
            frame["channel"] = channel
        return frame

    @precondition(may_take)
    @rule(
        drawn=st.lists(
            st.tuples(valid | anything, st.none() | st.sampled_from(CHANNELS), st.booleans()), min_size=1, max_size=5
        ),
        is_array=st.booleans(),
    )
    def send(self, drawn: list[tuple[tuple[str, dict[str, Any]], str | None, bool]], is_array: bool) -> None:
        """Frames near enough to what is valid, one or several in a message."""
        frames = [self.frame(one, channel, has_id=has_id) for one, channel, has_id in drawn]
        self.take(frames if is_array else frames[:1], is_array=is_array)

    @precondition(may_take)
    @rule(kind=st.sampled_from(["connection.init", "connection.reconnect"]))
    def shake(self, kind: str) -> None:
        """A good handshake, at the right time or again."""
        payload: dict[str, Any] = {"token": "t", "versions": [1]}
        payload |= {"cursors": {}} if kind == "connection.reconnect" else {}
        self.take([self.frame((kind, payload), None, has_id=True)], is_array=False)

    @precondition(may_take)
    @rule(data=unreadable)
    def send_garbage(self, data: bytes) -> None:
        """Three messages in a row that are no frame close."""
        values = self.session.read(data)
        if isinstance(values, Refused):
            self.note(values)
        for value in [] if isinstance(values, Refused) else values:
            if self.may_take():
                self.note(self.session.take(value, self.now))
        self.follow()

    @precondition(lambda self: self.session.state is SessionState.AUTHENTICATING)
    @rule(is_good=st.booleans())
    def authenticate(self, is_good: bool) -> None:
        """The token was looked at."""
        if is_good:
            self.session.established("s", ALICE)
        else:
            self.closing = HubError(4001, "no")
            self.session.closed()
        self.follow()

    @rule(seconds=st.floats(0, 30))
    def wait(self, seconds: float) -> None:
        """Time passes: buckets fill."""
        self.now += seconds

    @invariant()
    def each_id_is_answered_once(self) -> None:
        """Never twice, never not: what was taken was answered."""
        assert all(self.answered[id_] == 1 for id_ in self.owed)

    @invariant()
    def closed_means_told_why(self) -> None:
        """A session ends by an error that closes, and only by one."""
        assert (self.session.state is SessionState.CLOSED) == (self.closing is not None)

    def teardown(self) -> None:
        """However it went: READY, or CLOSED with a documented code, or still waiting for the handshake's deadline."""
        if self.session.state is SessionState.AUTHENTICATING:
            self.session.established("s", ALICE)
        if self.session.state is SessionState.CLOSED:
            assert self.closing is not None
            assert self.closing.row.code in ERROR_CODES
        else:
            assert self.session.state in {SessionState.READY, SessionState.OPENING}
        super().teardown()


SessionMachine.TestCase.settings = settings(examples(60), stateful_step_count=30)
TestSessionMachine = SessionMachine.TestCase
