"""One socket: the thin shell around a `Session`. It writes the hub's messages and hands in the client's.

An idle connection has no task, queue or timer of its own. Messages are taken one after another; while a command needs the log
(subscribe, history, the handshake) the following ones wait, which also is the back-pressure against a client that floods.
"""

from __future__ import annotations

import asyncio
import inspect
import math
import sys
from collections import deque
from collections.abc import Coroutine, Iterable
from typing import Any, Final

from hub.errors import CLOSE_RESTART, CLOSE_UNSUPPORTED_DATA, HubError
from hub.node.fanout import Sub, may_deflate
from hub.ports import ConnectionOwner, Encoding, SocketTransport, Upgrade
from hub.protocol.commands import Append, Caller, Command, Outcome, Reply
from hub.protocol.replies import append_error, error_message, passed_over, reply, stored_payload, unless_stored
from hub.protocol.session import Dropped, Received, Refused, Session, SessionState
from hub.protocol.subscription import RefusedChannel, SubscribeRequest
from hub.websocket.codec import encode_text
from hub.websocket.deflate import deflate_text
from streams.channel import Channel
from streams.envelope import Appended
from streams.errors import StreamsError
from streams.json_bytes import to_json
from streams.records.presence import MemberStatus

BACKLOG_MAX: Final = 100
"""Values waiting behind a command that needs the log; beyond it the socket is not read. One array may go over it."""
BACKLOG_BYTES_MAX: Final = 2_097_152
"""The same in bytes: more than the window of an upload over text (4 chunks of 350 KB), so that no polite client meets it. Without
it a hundred messages of the size limit would be 100 MB a socket."""
JOIN_BYTES_MAX: Final = 16_384
"""The writes of one tick are joined into some of about this size; with larger ones a thousand short answers would each copy all
before it."""
UNREAD_BYTES_MAX: Final = 1_048_576
"""Answers written to a client that does not read, beyond a full write buffer, before nothing more is taken of it. One may go over
it. Without it fifty questions for history cost fifty pages of memory."""
PACE_REST_S: Final = 0.05
"""The pause of a user whose messages come faster than all limits together allow (`RateLimiter.is_in_pace`)."""
_CONTENTS: Final = frozenset({"channel.history", "channel.state"})
"""The answers that tell what is in a channel. No other is compressed: some hold signed URLs (SECURITY.md)."""
ANSWER_BEFORE_RESTART_S: Final = 1.0
"""The time a restart waits for a command under way. A replay may take longer: its client comes back with its cursor."""


class FlushQueue:
    """The connections of a node that have something to write at the end of this tick."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: list[Connection] = []
        self._is_scheduled = False

    def add(self, connection: Connection) -> None:
        """Write what was pushed to a connection at the end of this tick."""
        self._waiting.append(connection)
        if not self._is_scheduled:
            self._is_scheduled = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._is_scheduled = False
        waiting, self._waiting = self._waiting, []
        for connection in waiting:
            connection.flush()


class Connection:
    """The receiver of one socket (see `hub.ports.SocketReceiver`).

    Args:
        owner: the node it is on.
        is_listener: it only listens and sends no sign of life: the writing end notices when it is gone.

    Attributes:
        address: the address failed attempts count against.
        encoding: the way it is sent events.
        adopted_at: seconds of Redis's clock; when this socket got its session.
        is_writable: false while the write buffer is full: events then stay in the log.
        heard_at: monotonic seconds of the last sign of life.
        look_at: monotonic seconds at which its deadlines are looked at next; infinity before they are watched.
    """

    __slots__ = (
        "_all_settled",
        "_backlog",
        "_backlog_bytes",
        "_closing",
        "_drained",
        "_is_busy",
        "_out",
        "_owner",
        "_task",
        "_transport",
        "_unread_bytes",
        "_unsettled_count",
        "address",
        "adopted_at",
        "encoding",
        "heard_at",
        "held_tenant",
        "holds_state",
        "is_expiry_told",
        "is_listener",
        "is_pending",
        "is_writable",
        "look_at",
        "opened_at",
        "session",
        "subscriptions",
        "upgrade",
        "wants_reasoning",
    )

    def __init__(self, owner: ConnectionOwner[Connection], *, is_listener: bool = False) -> None:
        self._owner = owner
        self.session = Session(owner.limiter)
        self.subscriptions: dict[str, Sub] = {}
        self.upgrade: Upgrade | None = None
        self.address = ""
        self.held_tenant: str | None = None
        self.adopted_at = 0.0
        self.encoding: int = Encoding.PLAIN
        self.holds_state = self.wants_reasoning = self.is_expiry_told = self.is_pending = False
        self.is_writable = True
        self.opened_at = self.heard_at = owner.clock.monotonic()
        self.is_listener = is_listener
        if is_listener:
            self.heard_at = math.inf
        self.look_at = math.inf
        self._transport: SocketTransport | None = None
        self._backlog: deque[object] | None = None
        self._backlog_bytes = 0
        self._unread_bytes = 0
        self._out: bytes | None = None
        self._task: asyncio.Task[None] | None = None
        self._drained: asyncio.Event | None = None
        self._all_settled: asyncio.Future[None] | None = None
        self._is_busy = False
        self._unsettled_count = 0
        self._closing: tuple[int, str] | None = None

    # For the wire

    def opened(self, transport: SocketTransport, upgrade: Upgrade) -> None:
        """The socket is open; the client must say who it is within the handshake timeout."""
        self.attach(transport)
        if transport.is_deflate:
            self.encoding = Encoding.DEFLATE
        self.upgrade = upgrade
        self.address = sys.intern(self._owner.admission.address_of(upgrade.client, upgrade.headers))
        self._owner.opened(self)

    def text(self, data: bytes) -> None:
        """One text message."""
        self.heard_at = now = self._owner.clock.monotonic()
        if self.session.state is SessionState.CLOSED:
            return  # before a byte of it is parsed
        if self._must_wait(now):
            self._wait_behind(data)
        else:
            self._take_message(data, now)

    def binary(self, data: bytes) -> None:
        """A binary message is for clients that announced `binary_chunks`; anybody else is on the wrong protocol."""
        self.heard_at = self._owner.clock.monotonic()
        if not self._owner.take_binary(self, data):
            self.close(CLOSE_UNSUPPORTED_DATA, "binary messages need the capability binary_chunks")

    def heard(self) -> None:
        """A ping or pong."""
        self.heard_at = self._owner.clock.monotonic()

    def writable(self, is_writable: bool) -> None:
        """The write buffer passed its mark, or drained."""
        self.is_writable = is_writable
        if is_writable:
            self._unread_bytes = 0
            if self._drained is not None:
                self._drained.set()
                self._drained = None
            self._owner.catch_up(self)
            if self._backlog is not None and not self._is_busy:
                self._take_backlog()

    def draining(self) -> None:
        """The node goes down: tell the client when to come back, answer the accepted commands, then close."""
        pause = {"reconnect_after_ms": self._owner.drain_delay_ms()}
        self.send(reply("connection.drain", None, None, to_json(pause)))
        if self._task is None:
            self.close(CLOSE_RESTART, "the node is restarting")
        else:
            self.session.closed()
            self._owner.spawn(self._close_after(self._task))

    def closed(self, code: int) -> None:  # noqa: ARG002  # the port's signature
        """The socket is gone."""
        self.session.closed()
        self._transport = None
        self._backlog = None
        if self._task is not None:  # it may wait for a buffer that never drains
            self._task.cancel()
        self._owner.disconnect(self)
        # The wheel of deadlines holds it until its next check, perhaps for a minute: it must be small by then.
        self._task = self.upgrade = self._out = None
        self.session.forget_caller()

    # For subscriptions and the node

    def attach(self, transport: SocketTransport) -> None:
        """Write here from now on."""
        self._transport = transport

    def push(self, frames: bytes) -> None:
        """Write whole frames with the next flush; all of one tick for one socket go out in one write."""
        if not self.is_writable:
            self._unread_bytes += len(frames)
        if self._out is None:
            self._out = frames
            self._owner.flush_soon(self)
        else:
            self._out += frames
            if len(self._out) > JOIN_BYTES_MAX:
                self.flush()
                self._out = b""  # the flush that is due finds it

    def send(self, message: bytes) -> None:
        """Write a message with the next flush."""
        self.push(encode_text(message))

    def tell(self, channel: Channel, message: bytes) -> None:
        """Write a message of a channel's contents with the next flush, compressed where that was agreed on."""
        is_deflate = bool(self.encoding & Encoding.DEFLATE) and may_deflate(channel)
        self.push(deflate_text(message) if is_deflate else encode_text(message))

    def flush(self) -> None:
        """Write what was pushed."""
        out, self._out = self._out, None
        if out and self._transport is not None:
            self._transport.write(out)

    async def drained(self) -> None:
        """Wait until the write buffer takes more. Several may wait: a command's replay and a catch-up."""
        while not self.is_writable:
            self._drained = self._drained or asyncio.Event()
            await self._drained.wait()

    def fail(self, error: HubError, *, is_told: bool = False) -> None:
        """Close with the error's code; the client is told before."""
        self.session.closed()
        if not is_told:
            self.send(error_message(error))
        self.close(error.row.code, error.row.name)

    def close(self, code: int, reason: str) -> None:
        """Close once every accepted command was answered."""
        self.session.closed()
        if self._closing is None:
            self._closing = (code, reason)
            self._close_if_settled()

    def abort(self) -> None:
        """Cut the socket."""
        if self._transport is not None:
            self._transport.abort()

    def look_next(self, at_s: float) -> None:
        """Have its deadlines checked at this time, instead of the one set before."""
        self.look_at = at_s

    def expiry_told(self, is_told: bool) -> None:
        """`connection.expiring` was sent, or a newer token makes it due again."""
        self.is_expiry_told = is_told

    def counted(self, *, is_pending: bool, held_tenant: str | None) -> None:
        """Keep what admission counts for it, to be given back when it is gone."""
        self.is_pending, self.held_tenant = is_pending, held_tenant

    def established(self, session_id: str, caller: Caller, adopted_at: float = 0.0) -> None:
        """The handshake was accepted."""
        self.session.established(session_id, caller)
        self.adopted_at = adopted_at
        if "batch" in caller.capabilities:
            self.encoding |= Encoding.BATCH
        self.holds_state = "live_state" in caller.capabilities
        self.wants_reasoning = "reasoning" in caller.capabilities
        self.upgrade = None
        if self._backlog is not None and not self._is_backlog_full() and self._transport is not None:
            self._transport.resume_reading()  # paused while the token was verified; see `_wait_behind`

    def route(self, command: Command) -> None:
        """Have the command's handler decide, and carry it out in order with the others of this connection."""
        owner, name = self._owner, command.event.name
        owner.metrics.commands_in[name] += 1
        try:
            try:
                outcome = owner.access.decide(owner.handlers[name], command, self)
            except HubError as refusal:
                outcome = unless_stored(command, refusal)
            if inspect.iscoroutine(outcome):
                self.run(command, outcome)
            elif (
                owner.new_channels.has_debtors
                and isinstance(outcome, Append)
                and owner.new_channels.owes(command.caller.principal)
            ):
                self.run(command, _decided(outcome))
            else:
                self.carry_out(command, outcome)  # type: ignore[arg-type]  # a handler returns either
        except Exception as error:
            self.refuse(owner.as_hub_error(error), command.id, command.channel.wire if command.channel else None)

    def carry_out(self, command: Command, outcome: Outcome) -> None:
        """Do what a handler decided: append and answer when it is in the stream, answer at once, or nothing."""
        if isinstance(outcome, Append):
            append, is_charged = self._owner.charged(outcome) if self._owner.admission.is_metered else (outcome, False)
            self._unsettled_count += 1
            self._owner.log.submit(
                append.draft, lambda result: self._stored(command, append, result, is_charged=is_charged)
            )
        elif isinstance(outcome, Reply):
            channel = command.channel
            message = reply(outcome.type, command.id, channel.wire if channel else None, outcome.data)
            if channel is not None and outcome.type in _CONTENTS:
                self.tell(channel, message)
            else:
                self.send(message)

    def run(self, command: Command, work: Coroutine[Any, Any, Outcome]) -> None:
        """Carry out a command that needs the log; the client's next messages wait for it."""
        self._is_busy = True
        if self.session.state is SessionState.AUTHENTICATING and self._transport is not None:
            self._transport.trust()
        self._task = asyncio.get_running_loop().create_task(self._run(command, work))
        self._task.add_done_callback(lambda _: work.close())  # the socket may be gone before the work began

    # For handlers

    def refuse(self, error: HubError, re: str | None = None, channel: str | None = None) -> None:
        """Answer with an error, and close if it closes."""
        if self.session.caller is None:
            error = self._owner.admission.refusal(self.address, error)
        elif error.closes and error.row.name == "rate_limited":
            self._owner.admission.punish(self.session.principal)
        self._owner.metrics.errors[error.row.code] += 1
        if not error.closes:
            self.push(encode_text(error_message(error, re, channel)))
            return
        if re is not None:
            self.send(error_message(error, re, channel))
        self.fail(error, is_told=re is not None)

    def establish(self, caller: Caller, wanted_session: str | None) -> None:
        """Accept the handshake: count the connection, take the session over, watch the token's end.

        Raises:
            HubError: 4004 or 4010.
        """
        self._owner.establish(self, caller, wanted_session)

    def refresh(self, caller: Caller) -> None:
        """Go on with the same person's newer token."""
        self.session.refreshed(caller)
        self._owner.token_changed(self)

    def followed(self) -> list[Channel]:
        """The channels it follows."""
        return [sub.fanout.channel for sub in self.subscriptions.values()]

    async def subscribe(self, requests: Iterable[SubscribeRequest | RefusedChannel]) -> None:
        """Follow channels; each is answered for itself."""
        await self._owner.subscribe_all(self, requests)

    def unsubscribe(self, channel: Channel, *, is_asked: bool = True) -> bool:
        """Leave a channel; false when it was not followed. Unasked, its presence there ends only after a while."""
        return self._owner.unsubscribe(self, channel, is_asked=is_asked)

    def tell_status(self, channel: Channel, status: str) -> None:
        """Tell the followers of a channel the person's status."""
        self._owner.tell_status(self, channel, status)

    async def tell_member(self, channel: Channel, status: MemberStatus) -> None:
        """Keep the person's status in a team, and tell its followers."""
        await self._owner.tell_member(self, channel, status)

    def cursor_moved(self, wire: str) -> None:
        """A newer cursor is told in a document: drop the one that waits."""
        self._owner.cursor_moved(self, wire)

    # Inside

    def _handle(self, received: Received) -> None:
        if isinstance(received, Command):
            self.route(received)
        elif isinstance(received, Refused):
            self.refuse(received.error, received.re, received.channel)
        elif isinstance(received, Dropped):
            if received.late is not None:
                self._owner.keep_cursor(self, received.late)
            if received.re:
                self.send(reply("ack", received.re, received.channel, b'{"dropped":true}'))

    def _must_wait(self, now: float) -> bool:
        """True when the next message waits: for a command under way, a client that does not read its answers, or its pace."""
        return self._is_busy or self._unread_bytes > UNREAD_BYTES_MAX or self._is_too_fast(now)

    def _is_too_fast(self, now: float) -> bool:
        """True when this user's messages, of whatever kind, come too fast; then nothing is taken for a moment.

        Messages that are no commands are refused, and cost as much as a refusal: without a pace one socket full of them would
        hold up all others.
        """
        caller = self.session.caller
        if caller is None or self._owner.limiter.is_in_pace((caller.principal.tenant, caller.principal.user), now):
            return False
        self._is_busy = True
        asyncio.get_running_loop().call_later(PACE_REST_S, self._rested)
        return True

    def _rested(self) -> None:
        self._is_busy = False
        self._take_backlog()

    def _take_message(self, data: bytes, now: float) -> None:
        values = self.session.read(data)
        if isinstance(values, Refused):
            self._handle(values)
            return
        is_first = True
        for value in values:
            if self.session.state is SessionState.CLOSED:
                return
            if self._is_busy or not (is_first or not self._must_wait(now)):
                self._wait_behind(value)
            else:
                self._handle(self.session.take(value, now))
            is_first = False

    def _wait_behind(self, message: object) -> None:
        """Keep it for later. Nothing more is read meanwhile from a client whose token is still being verified."""
        if self._backlog is None:
            self._backlog = deque()
        self._backlog.append(message)
        if isinstance(message, bytes):
            self._backlog_bytes += len(message)
        is_unverified = self.session.state is SessionState.AUTHENTICATING
        if (is_unverified or self._is_backlog_full()) and self._transport is not None:
            self._transport.pause_reading()

    def _is_backlog_full(self) -> bool:
        return len(self._backlog or ()) >= BACKLOG_MAX or self._backlog_bytes >= BACKLOG_BYTES_MAX

    async def _run(self, command: Command, work: Coroutine[Any, Any, Outcome]) -> None:
        try:
            await self._settled()
            try:
                outcome = await work
            except HubError as refusal:
                outcome = unless_stored(command, refusal)
            if self._owner.new_channels.has_debtors and isinstance(outcome, Append):
                await self._owner.require_written(outcome.draft.channel, self.session.principal)
            self.carry_out(command, outcome)
        except Exception as error:
            wire = command.channel.wire if command.channel else None
            self.refuse(self._owner.as_hub_error(error), command.id, wire)
        self._is_busy = False
        self._task = None
        self._take_backlog()

    async def _settled(self) -> None:
        """Wait for the appends under way, so that a client that writes and then reads finds what it wrote."""
        while self._unsettled_count:
            self._all_settled = asyncio.get_running_loop().create_future()
            await self._all_settled

    def _take_backlog(self) -> None:
        clock = self._owner.clock
        backlog, self._backlog = self._backlog, None
        while backlog and self.session.state is not SessionState.CLOSED and not self._must_wait(clock.monotonic()):
            message = backlog.popleft()
            if isinstance(message, bytes):
                self._backlog_bytes -= len(message)
                self._take_message(message, clock.monotonic())
            else:
                self._handle(self.session.take(message, clock.monotonic()))
        if self.session.state is SessionState.CLOSED:
            self._backlog, self._backlog_bytes = None, 0
        elif backlog:
            self._backlog = backlog if self._backlog is None else self._backlog + backlog
        if self._backlog is None and self._transport is not None:
            self._transport.resume_reading()

    def _stored(self, command: Command, append: Append, result: Appended | StreamsError, *, is_charged: bool) -> None:
        self._unsettled_count -= 1
        if is_charged:
            self._owner.admission.settle(append.draft, result)
        channel = append.draft.channel.wire
        if isinstance(result, StreamsError):
            if command.id is not None:
                if (answer := passed_over(append, result)) is not None:
                    self.push(encode_text(reply(answer.type, command.id, channel, answer.data)))
                else:
                    self.refuse(append_error(append, result), command.id, channel)
        elif command.id is not None:
            payload = stored_payload(command.event, append, result)
            self.push(encode_text(reply(command.event.reply or "ack", command.id, channel, payload)))
        if isinstance(result, Appended) and result.is_first:
            self._owner.new_channels.note(command.caller.principal)
        if self._unsettled_count == 0 and self._all_settled is not None and not self._all_settled.done():
            self._all_settled.set_result(None)
        if self._closing is not None:
            self._close_if_settled()

    async def _close_after(self, task: asyncio.Task[None]) -> None:
        await asyncio.wait({task}, timeout=ANSWER_BEFORE_RESTART_S)
        self.close(CLOSE_RESTART, "the node is restarting")

    def _close_if_settled(self) -> None:
        if self._unsettled_count == 0 and self._closing is not None and self._transport is not None:
            self.flush()
            self._transport.close(*self._closing)


async def _decided(outcome: Outcome) -> Outcome:
    return outcome
