"""One socket: the thin shell around a `Session`. It writes what the hub decides and hands in what the client sends.

An idle connection has no task, queue or timer of its own. Frames are taken one after another; while a command needs the log
(subscribe, history, the handshake) the following ones wait, which also is the back-pressure against a client that floods.
"""

from __future__ import annotations

import asyncio
import math
import sys
from collections import deque
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

from hub.errors import CLOSE_RESTART, CLOSE_UNSUPPORTED_DATA, HubError
from hub.limits.admission import address_of
from hub.node import connection_limits as limits
from hub.ports import SocketTransport, Upgrade
from hub.protocol.commands import Append, Caller, Command, Outcome
from hub.protocol.messages import error_frame, reply, reply_frame
from hub.protocol.repeats import unless_stored
from hub.protocol.replies import append_error, stored_payload
from hub.protocol.session import Dropped, Received, Refused, Session, State
from hub.protocol.subscription import Subscription
from hub.websocket.codec import encode_text
from streams.envelope import Appended
from streams.errors import StreamsError

if TYPE_CHECKING:
    from hub.node.fanout import Fanout
    from hub.node.hub import Hub


class Connection:
    """The receiver of one socket (see `hub.ports.Receiver`).

    Attributes:
        address: whom failed attempts count against.
        adopted_at: seconds of Redis's clock; when this socket got its session.
        is_writable: false while the write buffer is full: events then stay in the log.
        heard_at: monotonic seconds of the last sign of life.
        look_at: monotonic seconds at which its deadlines are looked at next; infinity before they are watched.
    """

    __slots__ = (
        "_all_settled", "_backlog", "_backlog_bytes", "_closing", "_drained", "_is_busy", "_out", "_task",
        "_transport", "_unread_bytes", "_unsettled_count", "address", "adopted_at", "behind", "catching_up",
        "heard_at", "held_tenant", "hub", "is_batch", "is_expiry_told", "is_pending", "is_writable",
        "look_at", "opened_at", "session", "subscriptions", "upgrade", "wants_reasoning",
    )  # fmt: skip

    def __init__(self, hub: Hub) -> None:
        self.hub = hub
        self.session = Session(hub.limiter)
        self.subscriptions: dict[str, tuple[Fanout, Subscription[Connection]]] = {}
        self.behind: dict[Subscription[Connection], Fanout] | None = None
        self.catching_up: asyncio.Task[None] | None = None
        self.upgrade: Upgrade | None = None
        self.address = ""
        self.held_tenant: str | None = None
        self.adopted_at = 0.0
        self.is_batch = self.wants_reasoning = self.is_expiry_told = self.is_pending = False
        self.is_writable = True
        self.opened_at = self.heard_at = hub.monotonic()
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

    # What the wire calls

    def opened(self, transport: SocketTransport, upgrade: Upgrade) -> None:
        """The socket is open; the client must say who it is within the handshake timeout."""
        self.attach(transport)
        self.upgrade = upgrade
        self.address = sys.intern(address_of(upgrade.client, upgrade.headers))
        self.hub.opened(self)

    def text(self, data: bytes) -> None:
        """One text message."""
        self.heard_at = now = self.hub.monotonic()
        if self.session.state is State.CLOSED:
            return  # before a byte of it is parsed
        if self._must_wait(now):
            self._wait_behind(data)
        else:
            self._take_message(data, now)

    def binary(self, data: bytes) -> None:
        """A binary message is for clients that announced `binary_chunks`; anybody else is on the wrong protocol."""
        self.heard_at = self.hub.monotonic()
        if not self.hub.take_binary(self, data):
            self.close(CLOSE_UNSUPPORTED_DATA, "binary messages need the capability binary_chunks")

    def heard(self) -> None:
        """A ping or pong."""
        self.heard_at = self.hub.monotonic()

    def writable(self, is_writable: bool) -> None:
        """The write buffer passed its mark, or drained."""
        self.is_writable = is_writable
        if is_writable:
            self._unread_bytes = 0
            if self._drained is not None:
                self._drained.set()
                self._drained = None
            self.hub.catch_up(self)
            if self._backlog is not None and not self._is_busy:
                self._take_backlog()

    def draining(self) -> None:
        """The node goes down: tell the client when to come back, answer what was accepted, then close."""
        self.push(reply_frame("connection.drain", None, None, {"reconnect_after_ms": self.hub.drain_delay_ms()}))
        if self._task is None:
            self.close(CLOSE_RESTART, "the node restarts")
        else:
            self.session.closed()
            self.hub.spawn(self._close_after(self._task))

    def closed(self, code: int) -> None:  # noqa: ARG002  # the port's signature
        """The socket is gone."""
        self.session.closed()
        self._transport = None
        self._backlog = None
        for task in (self._task, self.catching_up):  # they may wait for a buffer that never drains
            if task is not None:
                task.cancel()
        self.hub.disconnect(self)
        # The deadlines hold it until it is due for a look, a minute perhaps: what it leaves behind must be small.
        self._task = self.catching_up = self.upgrade = self._out = self.session.caller = None

    # What the hub calls

    def attach(self, transport: SocketTransport) -> None:
        """Write here from now on."""
        self._transport = transport

    def push(self, frames: bytes) -> None:
        """Write whole frames with the next flush; what one tick brings for one socket goes out in one write."""
        if not self.is_writable:
            self._unread_bytes += len(frames)
        if self._out is None:
            self._out = frames
            self.hub.flush_soon(self)
        else:
            self._out += frames
            if len(self._out) > limits.JOIN_BYTES_MAX:
                self.flush()
                self._out = b""  # the flush that is due finds it

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

    def refuse(self, error: HubError, re: str | None = None, channel: str | None = None) -> None:
        """Answer with an error, and close if it closes."""
        if self.session.caller is None:
            error = self.hub.door.refusal(self.address, error)
        elif error.closes and error.row.name == "rate_limited":
            self.hub.door.punish(self.session.principal)
        self.hub.meters.errors[error.row.code] += 1
        if not error.closes:
            self.push(error_frame(error, re, channel))
            return
        if re is not None:
            self.push(error_frame(error, re, channel))
        self.fail(error, is_told=re is not None)

    def fail(self, error: HubError, *, is_told: bool = False) -> None:
        """Close with the error's code; the client is told before."""
        self.session.closed()
        if not is_told:
            self.push(error_frame(error))
        self.close(error.row.code, error.row.name)

    def close(self, code: int, reason: str) -> None:
        """Close once everything accepted was answered."""
        self.session.closed()
        if self._closing is None:
            self._closing = (code, reason)
            self._close_if_settled()

    def abort(self) -> None:
        """Cut the socket."""
        if self._transport is not None:
            self._transport.abort()

    def established(self, session_id: str, caller: Caller) -> None:
        """The handshake was accepted."""
        self.session.established(session_id, caller)
        self.is_batch = "batch" in caller.capabilities
        self.wants_reasoning = "reasoning" in caller.capabilities
        self.upgrade = None
        if self._backlog is not None and not self._is_backlog_full() and self._transport is not None:
            self._transport.resume_reading()  # a stranger's socket rested; see `_wait_behind`

    def run(self, command: Command, work: Coroutine[Any, Any, Outcome]) -> None:
        """Carry out a command that needs the log; the client's next frames wait for it."""
        self._is_busy = True
        if self.session.state is State.AUTHENTICATING and self._transport is not None:
            self._transport.trust()
        self._task = asyncio.get_running_loop().create_task(self._run(command, work))
        self._task.add_done_callback(lambda _: work.close())  # the socket may be gone before the work began

    def append(self, command: Command, append: Append) -> None:
        """Append what a command asks for, and answer when it is in the stream."""
        self._unsettled_count += 1
        self.hub.log.submit(append.draft, lambda result: self._stored(command, append, result))

    # Inside

    def _handle(self, received: Received) -> None:
        if isinstance(received, Command):
            self.hub.route_message(self, received)
        elif isinstance(received, Refused):
            self.refuse(received.error, received.re, received.channel)
        elif isinstance(received, Dropped):
            if received.late is not None:
                self.hub.late_cursors.keep(self, received.late)
            if received.re:
                self.push(reply_frame("ack", received.re, received.channel, {"dropped": True}))

    def _must_wait(self, now: float) -> bool:
        """Whether the next frame waits: for a command under way, for a client that does not read its answers, or for its pace."""
        return self._is_busy or self._unread_bytes > limits.UNREAD_BYTES_MAX or self._is_too_fast(now)

    def _is_too_fast(self, now: float) -> bool:
        """Whether this user's frames, of whatever kind, come too fast; then nothing is taken for a moment.

        Frames that are no commands are refused, and cost what a refusal costs: without a pace one socket full of them would
        hold up all others.
        """
        caller = self.session.caller
        if caller is None or self.hub.limiter.is_in_pace((caller.principal.tenant, caller.principal.user), now):
            return False
        self._is_busy = True
        asyncio.get_running_loop().call_later(limits.PACE_REST_S, self._rested)
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
            if self.session.state is State.CLOSED:
                return
            if self._is_busy or not (is_first or not self._must_wait(now)):
                self._wait_behind(value)
            else:
                self._handle(self.session.take(value, now))
            is_first = False

    def _wait_behind(self, message: object) -> None:
        """Keep it for later. Of a stranger, who can wait for keys to be fetched, no more is read meanwhile."""
        if self._backlog is None:
            self._backlog = deque()
        self._backlog.append(message)
        if isinstance(message, bytes):
            self._backlog_bytes += len(message)
        is_stranger = self.session.state is State.AUTHENTICATING
        if (is_stranger or self._is_backlog_full()) and self._transport is not None:
            self._transport.pause_reading()

    def _is_backlog_full(self) -> bool:
        return len(self._backlog or ()) >= limits.BACKLOG_MAX or self._backlog_bytes >= limits.BACKLOG_BYTES_MAX

    async def _run(self, command: Command, work: Coroutine[Any, Any, Outcome]) -> None:
        try:
            await self._settled()
            try:
                outcome = await work
            except HubError as refusal:
                outcome = unless_stored(command, refusal)
            self.hub.carry_out(self, command, outcome)
        except Exception as error:
            self.refuse(self.hub.as_hub_error(error), command.id, command.channel.wire if command.channel else None)
        self._is_busy = False
        self._task = None
        self._take_backlog()

    async def _settled(self) -> None:
        """Wait for the appends under way: who writes and then reads finds what they wrote."""
        while self._unsettled_count:
            self._all_settled = asyncio.get_running_loop().create_future()
            await self._all_settled

    def _take_backlog(self) -> None:
        backlog, self._backlog = self._backlog, None
        while backlog and self.session.state is not State.CLOSED and not self._must_wait(self.hub.monotonic()):
            message = backlog.popleft()
            if isinstance(message, bytes):
                self._backlog_bytes -= len(message)
                self._take_message(message, self.hub.monotonic())
            else:
                self._handle(self.session.take(message, self.hub.monotonic()))
        if self.session.state is State.CLOSED:
            self._backlog, self._backlog_bytes = None, 0
        elif backlog:
            self._backlog = backlog if self._backlog is None else self._backlog + backlog
        if self._backlog is None and self._transport is not None:
            self._transport.resume_reading()

    def _stored(self, command: Command, append: Append, result: Appended | StreamsError) -> None:
        self._unsettled_count -= 1
        if self.hub.door.is_metered:
            self.hub.door.settle(append.draft, result)
        channel = append.draft.channel.wire
        if isinstance(result, StreamsError):
            if command.id is not None:
                self.refuse(append_error(append, result), command.id, channel)
        elif command.id is not None:
            payload = stored_payload(command.event, append, result)
            self.push(encode_text(reply(command.event.reply or "ack", command.id, channel, payload)))
        if self._unsettled_count == 0 and self._all_settled is not None and not self._all_settled.done():
            self._all_settled.set_result(None)
        if self._closing is not None:
            self._close_if_settled()

    async def _close_after(self, task: asyncio.Task[None]) -> None:
        await asyncio.wait({task}, timeout=limits.ANSWER_BEFORE_RESTART_S)
        self.close(CLOSE_RESTART, "the node restarts")

    def _close_if_settled(self) -> None:
        if self._unsettled_count == 0 and self._closing is not None and self._transport is not None:
            self.flush()
            self._transport.close(*self._closing)
