"""The client's side of the protocol for one user. Sockets are replaced; subscriptions and commands outlive them. Pure.

No I/O, no clock, no randomness: the driver passes in the time, ids and jitter, and sends what `flush` returns. It
must call, in this order: `open` when a socket is open, `receive` for each message, `tick` no later than `next_due`,
and `lost` once the socket is closed. It must close the socket as soon as `broken` is set.

    OFFLINE ──open──▶ HANDSHAKE ──connection.ack──▶ READY ──lost──▶ OFFLINE …
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, auto
from typing import Final

from hub.client.errors import ClientError, HubClosed, HubError, Retry, Wait
from hub.client.feed import Feed, Taken
from hub.client.feeds import Feeds, Identity, first_message
from hub.client.items import Payload, Reply
from hub.client.outbox import Command, Outbox
from hub.client.recovery import Heartbeat, Over, Recovery, Verdict
from hub.client.wire import Frame, MalformedMessage, encode, split

_HANDSHAKE_S: Final = 10.0
"""Seconds from the open socket to `connection.ack`; the hub allows as much (4008)."""
_DEFAULT_LIMIT_BYTES: Final = 1_048_576
"""Message limit in bytes, the hub's default, until `connection.ack` gives the real one."""
_HEARTBEAT: Final = encode({"type": "connection.heartbeat", "payload": {}})


class SocketState(Enum):
    """The state of the current socket."""

    OFFLINE = auto()
    HANDSHAKE = auto()
    READY = auto()


class Core:
    """The complete protocol state of one client.

    Attributes:
        outgoing: messages to send, oldest first; the driver takes them with `flush`.
        next_due: latest time for the next call of `tick`.
        broken: the reason why the current socket must be closed; None while it works.
        wants_token: True after the hub announced that the token will expire; the driver answers with `refresh`.
        welcome: the payload of the newest `connection.ack`.
        hole_count: how often the hub left out events without a gap; each time they were requested again.
        repeat_count: events that the hub sent twice on one subscription; the second copy was dropped.
        waits: waits of refused commands since `take_waits` was last called, each with True if no other command was waiting
            for the same reason.
        over: the reason why the client has ended for good; None while it runs.
        waiting: number of readers that wait for items; maintained by the subscriptions.
    """

    def __init__(
        self, identity: Identity, *, new_id: Callable[[], str], jitter: Callable[[], float], can_refresh: bool
    ) -> None:
        self.outgoing: list[bytes] = []
        self.socket_state = SocketState.OFFLINE
        self.broken: str | None = None
        self.hole_count = self.repeat_count = 0
        self.over: ClientError | None = None
        self.waits: list[tuple[Wait, bool]] = []
        self.wants_token = False
        self.welcome: Payload | None = None
        self.next_due = float("inf")
        self.waiting = 0
        self.outbox = Outbox()
        self._identity = identity.to_wire()
        self._new_id = new_id
        self._heartbeat = Heartbeat()
        self._recovery = Recovery(jitter, can_refresh=can_refresh)
        self.feeds = Feeds(self._send, new_id, self._recovery.pause_s)
        self._handshake_id = self._refresh_id = ""

    # --- calls of the user ---

    def subscribe(self, feed: Feed) -> None:
        """Follows a channel.

        Raises:
            ClientError: the client has ended.
            ValueError: the channel is followed already.
        """
        self._check_alive()
        self.feeds.follow(feed)

    def submit(self, command: Command) -> None:
        """Sends a command, now or once connected; `command.done` receives the outcome.

        Raises:
            ClientError: the client has ended, or the command exceeds the hub's message limit (4011).
            ValueError: another unanswered command has its id.
        """
        self._check_alive()
        if len(command.wire) > self.limit_bytes:
            raise self._too_large()
        if self.outbox.add(command) and self.socket_state is SocketState.READY:
            self.outgoing.append(command.wire)

    def signal(self, wire: bytes) -> bool:
        """Sends a message without an id if connected; it is never sent again. Returns True if it was sent."""
        if self.socket_state is SocketState.READY:
            self.outgoing.append(wire)
        return self.socket_state is SocketState.READY

    def token_request_seen(self) -> None:
        """Clears `wants_token`: the driver is getting a new token."""
        self.wants_token = False

    def refresh(self, token: str) -> None:
        """Sends a new token on the open socket."""
        if self.socket_state is SocketState.READY:
            self._refresh_id = self._new_id()
            self._send({"type": "connection.refresh", "id": self._refresh_id, "payload": {"token": token}})

    def close(self) -> None:
        """Ends the client on the user's request: iterators stop where they are, unanswered commands fail."""
        self.socket_state, self.next_due = SocketState.OFFLINE, float("inf")
        self.outgoing.clear()
        self.feeds.drop_buffers()
        self.feeds.end(None)
        self.fail(HubClosed("the client was closed; whether the command was stored is unknown"))

    @property
    def limit_bytes(self) -> int:
        """The largest message that this hub accepts, in bytes."""
        return _DEFAULT_LIMIT_BYTES if self.welcome is None else int(self.welcome["message_size_limit_bytes"])

    # --- the life of a socket ---

    @property
    def paused(self) -> bool:
        """True while the socket should not be read: a buffer is full, no reader waits, and no command is unanswered."""
        return bool(self.feeds.full) and not self.waiting and not self.outbox

    def flush(self) -> list[bytes]:
        """Takes the messages to send."""
        frames, self.outgoing = self.outgoing, []
        return frames

    def take_waits(self) -> list[tuple[Wait, bool]]:
        """Takes the waits of commands that have not been reported yet."""
        waits, self.waits = self.waits, []
        return waits

    def open(self, token: str, now: float) -> None:
        """Starts the handshake on a new socket."""
        self.socket_state, self.broken, self.wants_token = SocketState.HANDSHAKE, None, False
        self._handshake_id = self._new_id()
        session_id = None if self.welcome is None else self.welcome["session_id"]
        self._send(first_message(self._handshake_id, token, self._identity, session_id, self.feeds))
        self._heartbeat.expect_within(now, _HANDSHAKE_S)
        self._reckon()

    def receive(self, text: str, now: float) -> None:
        """Handles one message. A malformed message ends the socket, not the client."""
        self._heartbeat.heard(now)
        try:
            for frame, start, end in split(text):
                if "seq" in frame:
                    self._on_event(frame, text, start, end)
                elif "re" in frame and frame["re"] in self.outbox:
                    self._on_reply(frame, text[start:end], now)
                else:
                    self._on_control(frame, text, start, end, now)
                if self.broken is not None:
                    return
        except (MalformedMessage, KeyError, TypeError, ValueError, AttributeError) as problem:
            self.broken = f"the hub sent a message this client cannot read: {problem!r}"

    def listen(self, now: float, *, listening: bool) -> None:
        """Records that the driver stopped or resumed reading the socket."""
        self._heartbeat.listen(now, listening=listening)
        self._reckon()

    def tick(self, now: float) -> None:
        """Sends due heartbeats, checks that the hub still sends, and sends delayed commands and subscriptions again."""
        if self._heartbeat.silent(now):
            self.broken = "the hub sent nothing for two heartbeat intervals"
        elif self.socket_state is SocketState.READY:
            if self._heartbeat.beat(now):
                self.outgoing.append(_HEARTBEAT)
            self.outgoing += self.outbox.released(now)
            self.feeds.tick(now)
        self._reckon()

    def lost(self, code: int | None, now: float) -> Verdict:
        """Handles the end of a socket, or a failed attempt to open one. `code` is the received close code, if any."""
        self.socket_state, self.next_due = SocketState.OFFLINE, float("inf")
        self.outgoing.clear()
        self.feeds.lost()
        verdict = self._recovery.lost(code, now)
        if isinstance(verdict, Over):
            self.fail(verdict.error)
        return verdict

    def fail(self, error: ClientError) -> None:
        """Ends every subscription and command with `error`. Buffered items are still delivered first."""
        self.over = self.over or error
        self.feeds.end(error)
        self.outbox.fail(error)

    # --- frames ---

    def _on_event(self, frame: Frame, text: str, start: int, end: int) -> None:
        taken = self.feeds.on_event(frame, text, start, end)
        if taken is Taken.YES:
            self._recovery.progressed()
        elif taken is Taken.HOLE:
            self._on_hole(frame)
        elif taken is Taken.REPEATED:
            self.repeat_count += 1

    def _on_hole(self, frame: Frame) -> None:
        self.hole_count += 1
        self.broken = f"{frame['channel']}: the hub skipped events without reporting a gap"

    def _on_reply(self, frame: Frame, text: str, now: float) -> None:
        re, payload, channel = frame["re"], frame["payload"], frame.get("channel")
        if frame["type"] == "connection.error":
            error = HubError(payload, channel)
            held = self.outbox.refuse(re, error, now + self._recovery.pause_s(self.outbox.attempts(re), error))
            if held is not None:
                self.waits.append((Wait(re, held.command.channel, held.due - now, error), held.is_new))
        else:
            self._recovery.progressed()
            self.outbox.settle(re, Reply(frame["type"], re, channel, payload, text.encode()))
        if self.outbox.due < float("inf"):
            self.outgoing += self.outbox.released(now)
            self._reckon()

    def _on_control(self, frame: Frame, text: str, start: int, end: int, now: float) -> None:
        kind = frame["type"]
        if kind.startswith("connection."):
            self._on_connection(kind, frame, now)
        elif kind == "channel.subscribed":
            self.feeds.on_subscribed(frame, self._handshake_id)
        elif kind == "channel.resumed":
            if self.feeds.on_resumed(frame) is Taken.HOLE:
                self._on_hole(frame)
        elif kind == "channel.unsubscribed":
            self.feeds.on_unsubscribed(frame)
        elif "re" not in frame and "channel" in frame:
            self.feeds.on_signal(frame, text, start, end)

    def _on_connection(self, kind: str, frame: Frame, now: float) -> None:
        match kind:
            case "connection.heartbeat":
                self._recovery.progressed()
            case "connection.ack":
                self._on_ack(frame, now)
            case "connection.error":
                self._on_error(frame, now)
            case "connection.expiring":
                self.wants_token = True
            case "connection.drain":
                self._recovery.drained(now, frame["payload"]["reconnect_after_ms"])

    def _on_ack(self, frame: Frame, now: float) -> None:
        if self.socket_state is not SocketState.HANDSHAKE:
            return
        self.socket_state, self.welcome = SocketState.READY, frame["payload"]
        self._recovery.acknowledged(self.welcome.get("reconnect"))
        self._identity["client_id"] = self.welcome["client_id"]
        self._heartbeat.start(now, self.welcome["heartbeat_interval_ms"])
        self.feeds.connected()
        for command_id in self.outbox.oversized(self.limit_bytes):
            self.outbox.settle(command_id, self._too_large())
        self.outgoing += self.outbox.resend()
        self._reckon()

    def _on_error(self, frame: Frame, now: float) -> None:
        """Handles an error that answers no command, of the connection or of a channel; a refused token refresh needs no action."""
        re = frame.get("re")
        if "channel" not in frame and re in (None, self._handshake_id):
            self._recovery.refused(frame["payload"])
        elif re != self._refresh_id:
            self.feeds.on_refused(frame, self._handshake_id, now)
            self._reckon()

    # --- sending and timing ---

    def _send(self, frame: Frame) -> None:
        self.outgoing.append(encode(frame))

    def _check_alive(self) -> None:
        if self.over is not None:
            raise self.over

    def _too_large(self) -> HubError:
        message = f"this hub takes messages of up to {self.limit_bytes} bytes; send less at once"
        return HubError({"code": 4011, "name": "message_too_large", "message": message, "retry": Retry.NO})

    def _reckon(self) -> None:
        """Computes the latest time for the next `tick`."""
        self.next_due = min(self._heartbeat.due, self.feeds.due, self.outbox.due)
