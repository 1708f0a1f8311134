"""One socket: the thin shell around a `Session`, which passes in the client's messages and writes the hub's.

An idle connection has no task, queue or timer of its own. Messages are handled one after another. While a command
needs the log (subscribe, history, the handshake), later messages wait; this is also the back-pressure on a client
that floods.
"""

from __future__ import annotations

import asyncio
import logging
import math
import sys
from collections import deque
from collections.abc import Coroutine, Iterable, Mapping
from typing import Any, Final

from hub.errors import CLOSE_RESTART, CLOSE_UNSUPPORTED_DATA, HubError
from hub.node.fanout import Sub, may_deflate
from hub.ports import ConnectionOwner, Encoding
from hub.protocol.commands import Append, Caller, Command, Nothing, Outcome, Reply
from hub.protocol.replies import append_error, error_message, passed_over, reply, stored_payload, unless_stored
from hub.protocol.session import Dropped, Received, Refused, Session, SessionState
from hub.protocol.subscription import RefusedChannel, SubscribeRequest
from hub.sockets import SocketTransport, Upgrade
from hub.websocket.codec import encode_text
from hub.websocket.deflate import deflate_text
from streams.channel import Channel
from streams.envelope import Appended
from streams.errors import StreamsError
from streams.json_bytes import to_json
from streams.log_context import CURRENT
from streams.records.presence import MemberStatus
from streams.slow_paths import SLOW_S, tell_slow
from streams.tracing import Span, traced

BACKLOG_MAX: Final = 100
"""Maximum messages that wait behind a command that needs the log; then the socket is not read. One array may exceed it."""
BACKLOG_BYTES_MAX: Final = 2_097_152
"""The same limit in bytes: more than an upload's window over text (4 chunks of 350 KB), so that no well-behaved client reaches
it. Without it a hundred messages of maximum size would take 100 MB per socket."""
JOIN_BYTES_MAX: Final = 16_384
"""Writes of one loop iteration are joined up to about this many bytes. With more, each of a thousand short answers would copy
all answers before it."""
UNREAD_BYTES_MAX: Final = 1_048_576
"""Maximum bytes of answers queued, beyond a full write buffer, for a client that does not read; then its messages wait. One
answer may exceed it. Without it fifty `channel.history` commands would cost the memory of fifty pages."""
MESSAGES_AT_ONCE: Final = 32
"""Messages of one socket that are handled in a row, about a millisecond; the next ones wait for the next iteration of the loop. An
array or a backlog may have a hundred, and the other sockets would wait for all of them."""
PACE_REST_S: Final = 0.05
"""Seconds to stop reading from a user who sends faster than all limits together allow (`RateLimiter.is_in_pace`)."""
_log: Final = logging.getLogger(__name__)
_CONTENTS: Final = frozenset({"channel.history", "channel.state"})
"""Replies with a channel's contents. No others are compressed, because some contain signed URLs (SECURITY.md)."""
ANSWER_BEFORE_RESTART_S: Final = 1.0
"""Seconds that a restart waits for a command in progress. A replay may take longer: its client resumes from its cursor."""


class FlushQueue:
    """The connections of a node with output to write at the end of this loop iteration."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: list[Connection] = []
        self._is_scheduled = False

    def add(self, connection: Connection) -> None:
        """Schedules writing a connection's queued output at the end of this loop iteration."""
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
        owner: the node that the connection belongs to.
        is_listener: True for a stream over HTTP, which sends no heartbeats: a failed write shows that its client has gone.

    Attributes:
        address: the client address that failed attempts count against.
        encoding: the encoding of events sent to this client.
        adopted_at: when this socket got its session, in seconds of Redis's clock.
        is_writable: False while the write buffer is full: events then stay in the log.
        heard_at: monotonic seconds of the last message, ping or pong.
        look_at: monotonic seconds of the next check of its deadlines; infinity until they are watched.
    """

    __slots__ = (
        "_all_settled",
        "_backlog",
        "_backlog_bytes",
        "_began_s",
        "_closing",
        "_drained",
        "_handled_count",
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
        self.session = Session(owner.limiter, owner.own_events)
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
        self._handled_count = 0
        self._unsettled_count = 0
        self._closing: tuple[int, str] | None = None
        self._began_s = self.opened_at

    @property
    def is_busy(self) -> bool:
        """True while messages wait: for a command in progress, or for a rest."""
        return self._is_busy

    # Called by the transport

    def opened(self, transport: SocketTransport, upgrade: Upgrade) -> None:
        """Handles the open socket: the client must authenticate within the handshake timeout."""
        self.attach(transport)
        if transport.is_deflate:
            self.encoding = Encoding.DEFLATE
        self.upgrade = upgrade
        self.address = sys.intern(self._owner.admission.address_of(upgrade.client, upgrade.headers))
        self._owner.opened(self)

    def text(self, data: bytes) -> None:
        """Handles one text message."""
        self.heard_at = self._began_s = now = self._owner.clock.monotonic()
        if self.session.state is SessionState.CLOSED:
            return  # before a byte of it is parsed
        if self._must_wait(now):
            self._wait_behind(data)
        else:
            self._take_message(data, now)

    def binary(self, data: bytes) -> None:
        """Handles a binary message. Without the capability `binary_chunks` the client is disconnected."""
        self.heard_at = self._owner.clock.monotonic()
        if not self._owner.take_binary(self, data):
            self.close(CLOSE_UNSUPPORTED_DATA, "binary messages need the capability binary_chunks")

    def heard(self) -> None:
        """Records a ping or pong."""
        self.heard_at = self._owner.clock.monotonic()

    def writable(self, is_writable: bool) -> None:
        """Handles the write buffer becoming full or writable again."""
        self.is_writable = is_writable
        if is_writable:
            self._unread_bytes = 0
            if self._drained is not None:
                self._drained.set()
                self._drained = None
            self._owner.catch_up(self)
            if self._backlog is not None and not self._is_busy:
                self._take_backlog()

    def draining(self, reason: str = "") -> None:
        """Handles the shutdown of the node: tells the client when to reconnect, answers the accepted commands, then closes.

        Args:
            reason: told to the client if the node goes on without this socket; empty if the node stops.
        """
        pause: dict[str, object] = {"reconnect_after_ms": self._owner.drain_delay_ms()}
        if reason:
            pause["reason"] = reason
        self.send(reply("connection.drain", None, None, to_json(pause)))
        why = reason or "the node is restarting"
        if self._task is None:
            self.close(CLOSE_RESTART, why)
        else:
            self.session.closed()
            self._owner.spawn(self._close_after(self._task, why))

    def closed(self, code: int) -> None:  # noqa: ARG002  # the port's signature
        """Handles the end of the socket."""
        self.session.closed()
        self._transport = None
        self._backlog = None
        if self._task is not None:  # it may be waiting for a write buffer that never drains
            self._task.cancel()
        self._owner.disconnect(self)
        # The deadline wheel references it until its next check, up to a minute later, so its memory is released now.
        self._task = self.upgrade = self._out = None
        self.session.forget_caller()

    # Called by subscriptions and the node

    def attach(self, transport: SocketTransport) -> None:
        """Sets the transport to write to."""
        self._transport = transport

    def push(self, frames: bytes) -> None:
        """Queues complete frames for the next flush; one socket's output of one loop iteration is written together."""
        if not self.is_writable:
            self._unread_bytes += len(frames)
        if self._out is None:
            self._out = frames
            self._owner.flush_soon(self)
        else:
            self._out += frames
            if len(self._out) > JOIN_BYTES_MAX:
                self.flush()
                self._out = b""  # the flush already scheduled writes the queue

    def send(self, message: bytes) -> None:
        """Queues a message for the next flush."""
        self.push(encode_text(message))

    def tell(self, channel: Channel, message: bytes) -> None:
        """Queues a message with a channel's contents for the next flush, compressed where that was negotiated."""
        is_deflate = bool(self.encoding & Encoding.DEFLATE) and may_deflate(channel)
        self.push(deflate_text(message) if is_deflate else encode_text(message))

    def flush(self) -> None:
        """Writes the queued output."""
        out, self._out = self._out, None
        if out and self._transport is not None:
            self._transport.write(out)

    async def drained(self) -> None:
        """Waits until the write buffer has room. A command's replay and a catch-up may both wait."""
        while not self.is_writable:
            self._drained = self._drained or asyncio.Event()
            await self._drained.wait()

    def fail(self, error: HubError, *, is_told: bool = False) -> None:
        """Closes with the error's code, after sending `connection.error` unless the client has had it."""
        self.session.closed()
        if not is_told:
            self.send(error_message(error))
        self.close(error.row.code, error.row.name)

    def close(self, code: int, reason: str) -> None:
        """Closes once every accepted command has been answered."""
        self.session.closed()
        if self._closing is None:
            self._closing = (code, reason)
            self._close_if_settled()

    def abort(self) -> None:
        """Resets the socket."""
        if self._transport is not None:
            self._transport.abort()

    def look_next(self, at_s: float) -> None:
        """Sets the time of the next check of its deadlines, replacing the previous one."""
        self.look_at = at_s

    def expiry_told(self, is_told: bool) -> None:
        """Records that `connection.expiring` was sent, or that a newer token makes it due again."""
        self.is_expiry_told = is_told

    def counted(self, *, is_pending: bool, held_tenant: str | None) -> None:
        """Stores what admission counted for this connection, so that it can be given back when it closes."""
        self.is_pending, self.held_tenant = is_pending, held_tenant

    def established(self, session_id: str, caller: Caller, adopted_at: float = 0.0) -> None:
        """Records that the handshake was accepted."""
        self.session.established(session_id, caller)
        self.adopted_at = adopted_at
        if "batch" in caller.capabilities:
            self.encoding |= Encoding.BATCH
        self.holds_state = "live_state" in caller.capabilities
        self.wants_reasoning = "reasoning" in caller.capabilities
        self.upgrade = None
        if self._backlog is not None and not self._is_backlog_full() and self._transport is not None:
            self._transport.resume_reading()  # reading was paused while the token was verified; see `_wait_behind`

    def route(self, command: Command) -> None:
        """Passes a command to its handler and carries out the outcome, in order with this connection's other commands."""
        owner, name = self._owner, command.event.row
        owner.metrics.commands_in[name] += 1
        lines = CURRENT.set((self, command))
        try:
            try:
                if self.session.caller is not None and self.session.caller.principal.scope is not None:
                    self.run(command, self._recorded(command))
                    return
                outcome = owner.access.decide(owner.handlers[name], command, self)
            except HubError as refusal:
                outcome = unless_stored(command, refusal)
            if not isinstance(outcome, (Append, Reply, Nothing)):
                self.run(command, outcome)
            elif (
                owner.new_channels.has_debtors
                and isinstance(outcome, Append)
                and owner.new_channels.owes(command.caller.principal)
            ):
                self.run(command, _decided(outcome))
            else:
                self.carry_out(command, outcome)
        except Exception as error:
            self.refuse(owner.as_hub_error(error), command.id, command.channel.wire if command.channel else None)
        finally:
            CURRENT.reset(lines)

    def log_fields(self) -> Mapping[str, object]:
        """Returns the fields of a log line about this connection."""
        caller, own = self.session.caller, {"node": self._owner.name, "session": self.session.id}
        return {**own, **caller.log_fields()} if caller is not None else {**own, "address": self.address}

    async def _recorded(self, command: Command) -> Outcome:
        """Handles a command of a token with a scope, once its use is recorded."""
        await self._owner.operator_calls.record_command(command)
        answer = self._owner.access.decide(self._owner.handlers[command.event.row], command, self)
        return answer if isinstance(answer, (Append, Reply, Nothing)) else await answer

    def carry_out(self, command: Command, outcome: Outcome) -> None:
        """Carries out a handler's outcome: appends and replies once stored, replies at once, or does nothing."""
        if isinstance(outcome, Append):
            append, is_charged = self._owner.charged(outcome) if self._owner.admission.is_metered else (outcome, False)
            self._unsettled_count += 1
            began_s, draft, span = self._began_s, append.draft, None
            if self._owner.tracing is not None and self._owner.tracing.takes(draft.traceparent):
                draft, span = traced(self._owner.tracing, draft, self._owner.clock.monotonic() - began_s)
            self._owner.log.submit(
                draft, lambda result: self._stored(command, append, result, began_s, span, is_charged=is_charged)
            )
        elif isinstance(outcome, Reply):
            channel = command.channel
            message = reply(outcome.type, command.id, channel.wire if channel else None, outcome.data)
            if channel is not None and outcome.type in _CONTENTS:
                self.tell(channel, message)
            else:
                self.send(message)

    def run(self, command: Command, work: Coroutine[Any, Any, Outcome]) -> None:
        """Runs a command that needs the log; the client's later messages wait for it."""
        self._is_busy = True
        if self.session.state is SessionState.AUTHENTICATING and self._transport is not None:
            self._transport.trust()
        unbegun = [work]
        self._task = asyncio.get_running_loop().create_task(self._run(command, unbegun))
        self._task.add_done_callback(lambda _: _close(unbegun))  # the socket may have closed before the work began

    # Called by handlers

    def refuse(self, error: HubError, re: str | None = None, channel: str | None = None) -> None:
        """Answers with an error, and closes the socket if the error says so."""
        if self.session.caller is not None:
            self._owner.metrics.variants.refuse(self.session.caller.variant)
        if self.session.caller is None:
            error = self._owner.admission.refusal(self.address, error)
        elif error.closes and error.row.name == "rate_limited":
            self._owner.admission.punish(self.session.principal)
        self._owner.metrics.errors[error.row.code] += 1
        if _log.isEnabledFor(logging.DEBUG):
            _log.debug("refused: %s", error.message, extra={"code": error.row.code, "re": re})
        if not error.closes:
            self.push(encode_text(error_message(error, re, channel)))
            return
        if re is not None:
            self.send(error_message(error, re, channel))
        self.fail(error, is_told=re is not None)

    def establish(self, caller: Caller, wanted_session: str | None) -> None:
        """Accepts the handshake: counts the connection, takes over the session, and watches the token's expiry.

        Raises:
            HubError: 4004 or 4010.
        """
        self._owner.establish(self, caller, wanted_session)

    def refresh(self, caller: Caller) -> None:
        """Continues with a newer token of the same user."""
        self.session.refreshed(caller)
        self._owner.token_changed(self)

    def followed(self) -> list[Channel]:
        """Returns the channels that it follows."""
        return [sub.fanout.channel for sub in self.subscriptions.values()]

    async def subscribe(self, requests: Iterable[SubscribeRequest | RefusedChannel]) -> None:
        """Subscribes to channels; each gets its own answer."""
        await self._owner.subscribe_all(self, requests)

    def unsubscribe(self, channel: Channel, *, is_asked: bool = True) -> bool:
        """Unsubscribes from a channel; returns False if it was not followed.

        `is_asked` is False if the client did not ask for it: then its presence ends only after the grace
        period.
        """
        return self._owner.unsubscribe(self, channel, is_asked=is_asked)

    def tell_status(self, channel: Channel, status: str) -> None:
        """Sends the user's status to the channel's subscribers."""
        self._owner.tell_status(self, channel, status)

    async def tell_member(self, channel: Channel, status: MemberStatus) -> None:
        """Stores the user's status as a member of a team, and sends it to the team's subscribers."""
        await self._owner.tell_member(self, channel, status)

    def cursor_moved(self, wire: str) -> None:
        """Discards the client's delayed cursor in the document with this wire name, because a newer one was sent."""
        self._owner.cursor_moved(self, wire)

    # Inside

    def _handle(self, received: Received) -> None:
        if isinstance(received, Command):
            self.route(received)
        elif isinstance(received, Refused):
            lines = CURRENT.set((self,))
            self.refuse(received.error, received.re, received.channel)
            CURRENT.reset(lines)
        elif isinstance(received, Dropped):
            if received.late is not None:
                self._owner.keep_cursor(self, received.late)
            if received.re:
                self.send(reply("ack", received.re, received.channel, b'{"dropped":true}'))
        self._handled_count += 1
        if self._handled_count == MESSAGES_AT_ONCE:
            self._handled_count = 0
            if not self._is_busy:
                self._is_busy = True
                asyncio.get_running_loop().call_soon(self._rested)

    def _must_wait(self, now: float) -> bool:
        """True if the next message must wait: for a command in progress, for the client to read its answers, or for its pace."""
        return self._is_busy or self._unread_bytes > UNREAD_BYTES_MAX or self._is_too_fast(now)

    def _is_too_fast(self, now: float) -> bool:
        """True if this user's messages of all kinds come too fast; then the socket is not read for a moment.

        Malformed messages cost as much to answer as any refusal; without this limit one socket full of them
        would slow all others down.
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
        """Queues a message for later. A client whose token is still being verified is not read meanwhile."""
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

    async def _run(self, command: Command, unbegun: list[Coroutine[Any, Any, Outcome]]) -> None:
        began_s = self._owner.clock.monotonic()
        try:
            await self._settled()
            try:
                outcome = await unbegun.pop()
            except HubError as refusal:
                outcome = unless_stored(command, refusal)
            if self._owner.new_channels.has_debtors and isinstance(outcome, Append):
                await self._owner.require_written(outcome.draft.channel, self.session.principal)
            self.carry_out(command, outcome)
        except Exception as error:
            wire = command.channel.wire if command.channel else None
            self.refuse(self._owner.as_hub_error(error), command.id, wire)
        took_s = self._owner.clock.monotonic() - began_s
        if took_s >= SLOW_S:
            tell_slow("command", command.event.name, took_s)
        self._is_busy = False
        self._task = None
        self._take_backlog()

    async def _settled(self) -> None:
        """Waits for the appends in progress, so that a client that writes and then reads gets what it wrote."""
        while self._unsettled_count:
            self._all_settled = asyncio.get_running_loop().create_future()
            await self._all_settled

    def _emptied_backlog(self) -> deque[object] | None:
        backlog, self._backlog = self._backlog, None
        return backlog

    def _take_backlog(self) -> None:
        clock = self._owner.clock
        backlog = self._emptied_backlog()  # not here: compiled, it would count as None to the end of the function
        while backlog and self.session.state is not SessionState.CLOSED and not self._must_wait(clock.monotonic()):
            message = backlog.popleft()
            self._began_s = clock.monotonic()  # what it waited for is another command's time
            if isinstance(message, bytes):
                self._backlog_bytes -= len(message)
                self._take_message(message, clock.monotonic())
            else:
                self._handle(self.session.take(message, clock.monotonic()))
        if self.session.state is SessionState.CLOSED:
            self._emptied_backlog()
            self._backlog_bytes = 0
        elif backlog:
            self._backlog = backlog if self._backlog is None else self._backlog + backlog
        if self._backlog is None and self._transport is not None:
            self._transport.resume_reading()

    def _stored(
        self,
        command: Command,
        append: Append,
        result: Appended | StreamsError,
        began_s: float,
        span: Span | None,
        *,
        is_charged: bool,
    ) -> None:
        self._unsettled_count -= 1
        if span is not None:
            span.end(str(result) if isinstance(result, StreamsError) else "")
        if is_charged:
            self._owner.admission.settle(append.draft, result)
        channel = append.draft.channel.wire
        if isinstance(result, StreamsError):
            if command.id is not None:
                if (answer := passed_over(append, result)) is not None:
                    self.push(encode_text(reply(answer.type, command.id, channel, answer.data)))
                else:
                    lines = CURRENT.set((self, command))
                    self.refuse(append_error(append, result), command.id, channel)
                    CURRENT.reset(lines)
        elif command.id is not None:
            payload = stored_payload(command.event, append, result)
            self.push(encode_text(reply(command.event.reply or "ack", command.id, channel, payload)))
            trace_id = "" if span is None else span.trace_id
            self._owner.metrics.acknowledged.observe(self._owner.clock.monotonic() - began_s, trace_id)
        if isinstance(result, Appended) and result.is_first:
            self._owner.new_channels.note(command.caller.principal)
        if self._unsettled_count == 0 and self._all_settled is not None and not self._all_settled.done():
            self._all_settled.set_result(None)
        if self._closing is not None:
            self._close_if_settled()

    async def _close_after(self, task: asyncio.Task[None], why: str) -> None:
        await asyncio.wait({task}, timeout=ANSWER_BEFORE_RESTART_S)
        self.close(CLOSE_RESTART, why)

    def _close_if_settled(self) -> None:
        if self._unsettled_count == 0 and self._closing is not None and self._transport is not None:
            self.flush()
            self._transport.close(*self._closing)


async def _decided(outcome: Outcome) -> Outcome:
    return outcome


def _close(unbegun: list[Coroutine[Any, Any, Outcome]]) -> None:
    """Closes what never began. A coroutine that has ended is not closed again: compiled ones raise an exception then."""
    for work in unbegun:
        work.close()
