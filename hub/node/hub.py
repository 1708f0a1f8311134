"""One node: its connections, the channels they follow, and the log behind them."""

from __future__ import annotations

import asyncio
import inspect
import logging
import math
import random
import secrets
import time
from collections import Counter
from collections.abc import Coroutine, Iterable, Mapping
from typing import Any

from hub.auth.revocations import Revocation
from hub.auth.tokens import Principal
from hub.config import Settings
from hub.errors import HubError
from hub.handlers.router import EVENT_HANDLERS, Handler, build_handlers
from hub.limits.rates import RateLimiter
from hub.metrics import Meters
from hub.node.catch_up import catch_up
from hub.node.connection import Connection
from hub.node.deadlines import Deadlines
from hub.node.fanout import Fanout, Sub
from hub.node.late_cursors import LateCursors
from hub.node.presence import PresenceTracker
from hub.node.recovery import tell_break
from hub.node.services import Services
from hub.node.sessions import LiveSessions
from hub.node.states import StateReader
from hub.node.subscribing import RefusedChannel, Wish, subscribe_all
from hub.protocol.commands import Answer, Append, Caller, Command, Outcome
from hub.protocol.messages import reply
from hub.protocol.repeats import unless_stored
from hub.protocol.replies import append_error, log_error
from hub.protocol.subscription import Phase
from hub.websocket.codec import encode_text
from streams.channel import Channel, Kind
from streams.cursor import Look
from streams.envelope import SYSTEM, Actor, Appended, Draft
from streams.errors import StreamsError
from streams.json_bytes import to_json
from streams.redis.log import Log

_log = logging.getLogger(__name__)


class Hub:
    """Accepts connections, routes their commands, fans events out to them.

    Everything runs on one event loop; no method may be called from another thread.
    """

    def __init__(self, settings: Settings, log: Log, services: Services) -> None:
        self.settings = settings
        self.log = log
        self.services = services
        self.node = services.node
        self.limiter: RateLimiter = services.edge.limiter
        self.door = services.door
        self.meters = Meters()
        self.connections: set[Connection] = set()
        self.streams: Counter[tuple[str, str]] = Counter()
        """Streams and long polls open here, by tenant and user."""
        self.sessions = LiveSessions(services.edge.store.claims)
        self.fanouts: dict[Channel, Fanout] = {}
        self.late_cursors = LateCursors(self)
        self.states: StateReader = services.states
        self.presence = PresenceTracker(log, self.node)
        self.monotonic = time.monotonic
        self.handlers: Mapping[str, Handler] = build_handlers(self, EVENT_HANDLERS)
        self.is_draining = False
        self._dirty: list[Connection] = []
        self._is_flush_scheduled = False
        self.deadlines = Deadlines(self)
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Begin to watch deadlines and presence."""
        self.spawn(self.deadlines.watch())
        await self.presence.start()

    async def stop(self) -> None:
        """Let go: presence leaves are handed over, background work ends. The log is closed by whoever opened it."""
        self.is_draining = True
        await self.presence.stop()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # Connections

    def connect(self) -> Connection:
        """A receiver for a new socket."""
        return Connection(self)

    def opened(self, connection: Connection) -> None:
        """The socket of a connection is open: count it, and give it its first deadline."""
        self.connections.add(connection)
        self.deadlines.add(connection)
        try:
            self.refuse_when_full()
            self.door.opened(connection, connection.address)
        except HubError as error:
            connection.fail(error)

    def opened_stream(self, connection: Connection, caller: Caller) -> None:
        """A reader without a socket, for whom an HTTP request's token speaks; it ends with the token like any other.

        Raises:
            HubError: 4004 or 4010.
        """
        self.refuse_when_full()
        self.door.entered(connection, caller.principal)
        connection.established("", caller)
        connection.heard_at = math.inf  # it sends nothing: the writing end notices when it is gone
        self.connections.add(connection)
        self.watch(connection)

    def refuse_when_full(self) -> None:
        """Raise 4010 when this node has more connections than it takes."""
        if len(self.connections) > self.settings.max_connections:
            raise HubError(4010, "this node has as many connections as it takes; another may have room")

    def disconnect(self, connection: Connection) -> None:
        """The socket of a connection is gone. What it had accepted is still stored and answered to nobody."""
        self.connections.discard(connection)
        self.door.left(connection)
        self.sessions.drop(connection)
        self.late_cursors.drop(connection)
        for fanout, sub in connection.subscriptions.values():
            sub.end()
            fanout.subscribers.discard(sub)
            self.left(fanout)
            self.presence.vanished(connection, fanout.channel)
        connection.subscriptions.clear()
        connection.behind = None
        self.services.uploads_closed(connection)

    async def subscribe_all(self, connection: Connection, wishes: Iterable[Wish | RefusedChannel]) -> None:
        """Subscribe a connection to channels; each is answered for itself."""
        await subscribe_all(self, connection, wishes)

    def devices_of(self, principal: Principal) -> int:
        """How many sockets a person has on this node."""
        inbox = self.fanouts.get(Channel(principal.tenant, Kind.USER, principal.user))
        return 0 if inbox is None else len(inbox.subscribers)

    def revoked(self, revocation: Revocation) -> None:
        """Tokens were revoked: whoever is here by one of them is closed."""
        for connection in list(self.connections):
            caller = connection.session.caller
            if caller is not None and revocation.hits(caller.principal):
                connection.fail(HubError(4019, "the token was revoked: sign in again"))

    # Commands

    def route_message(self, connection: Connection, command: Command) -> None:
        """Carry out a command of a connection, in order with its others."""
        self.meters.commands_in[command.event.name] += 1
        try:
            try:
                outcome = self.handlers[command.event.name](command, connection)
            except HubError as refusal:
                outcome = unless_stored(command, refusal)
            if inspect.iscoroutine(outcome):
                connection.run(command, outcome)
            else:
                self.carry_out(connection, command, outcome)  # type: ignore[arg-type]  # a handler returns either
        except Exception as error:
            connection.refuse(self.as_hub_error(error), command.id, command.channel.wire if command.channel else None)

    def carry_out(self, connection: Connection, command: Command, outcome: Outcome) -> None:
        """Do what a handler decided: append, answer, or nothing."""
        if isinstance(outcome, Append):
            if self.door.is_metered:
                self.door.charge(outcome.draft)
            connection.append(command, outcome)
        elif isinstance(outcome, Answer):
            place = command.channel.wire if command.channel else None
            connection.push(encode_text(reply(outcome.type, command.id, place, outcome.data)))

    async def execute(self, command: Command) -> tuple[Outcome, Appended | None]:
        """Carry out a command that came without a socket, and wait until it is stored.

        Raises:
            HubError: it was refused.
        """
        self.meters.commands_in[command.event.name] += 1
        try:
            answer = self.handlers[command.event.name](command, None)
            outcome = await answer if inspect.isawaitable(answer) else answer
        except HubError as refusal:
            outcome = unless_stored(command, refusal)
        except StreamsError as error:
            raise log_error(error) from error
        if not isinstance(outcome, Append):
            return outcome, None
        if self.door.is_metered:
            self.door.charge(outcome.draft)
        result: Appended | StreamsError | None = None
        try:
            result = await self.log.append(outcome.draft)
        except StreamsError as error:
            raise append_error(outcome, error) from error
        finally:
            self.door.settle(outcome.draft, result)
        return outcome, result

    def as_hub_error(self, error: Exception) -> HubError:
        """What a client is told of an exception. What is our fault is logged under the id it is told."""
        if isinstance(error, HubError):
            return error
        if isinstance(error, StreamsError):
            return log_error(error)
        correlation = secrets.token_hex(8)
        _log.error("internal error %s", correlation, exc_info=error)
        return HubError(4030, f"our fault; it is logged under {correlation}")

    def take_binary(self, connection: Connection, data: bytes) -> bool:
        """Hand a binary message to the uploads; false when this client may not send any."""
        return self.services.take_binary(connection, data)

    # Sending

    async def broadcast(
        self, channel: Channel, type_: str, payload: Mapping[str, Any], actor: Actor = SYSTEM
    ) -> Appended:
        """Append an event; every subscriber on every node receives it.

        Raises:
            LogUnavailable: not confirmed.
        """
        return await self.log.append(Draft(channel, type_, to_json(payload), actor))

    async def send_to_user(
        self, tenant: str, user: str, type_: str, payload: Mapping[str, Any], actor: Actor = SYSTEM
    ) -> Appended:
        """Append an event to a person's inbox; every device of theirs receives it, now or when it comes back.

        Raises:
            LogUnavailable: not confirmed.
        """
        return await self.broadcast(Channel(tenant, Kind.USER, user), type_, payload, actor)

    def flush_soon(self, connection: Connection) -> None:
        """Write what was pushed to a connection at the end of this tick."""
        self._dirty.append(connection)
        if not self._is_flush_scheduled:
            self._is_flush_scheduled = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._is_flush_scheduled = False
        dirty, self._dirty = self._dirty, []
        for connection in dirty:
            connection.flush()

    # Channels

    def follow(self, channel: Channel, look: Look) -> Fanout:
        """The channel's fan-out, begun at the look's head when nobody here followed it.

        Raises:
            HubError: 4015, the tenant follows as many as it may.
        """
        fanout = self.fanouts.get(channel)
        if fanout is None:
            self.door.follow(channel.tenant)
            fanout = Fanout(channel, look, self.log.tail, self.meters, self.note_behind, self._on_broken)
            self.fanouts[channel] = fanout
        return fanout

    def left(self, fanout: Fanout) -> None:
        """A subscriber left; the last one ends the channel's tail."""
        if not fanout.subscribers and self.fanouts.get(fanout.channel) is fanout:
            fanout.close()
            del self.fanouts[fanout.channel]
            self.door.unfollow(fanout.channel.tenant)

    def note_behind(self, fanout: Fanout, sub: Sub) -> None:
        """A subscription stands behind the tail: catch it up when its socket takes more, or give it up."""
        connection = sub.connection
        if fanout.position.seq - sub.seq > self.settings.max_lag_events:
            self.meters.slow_closes += 1
            connection.fail(HubError(4012, "too far behind; come back with your cursor"))
            return
        if connection.behind is None:
            connection.behind = {}
        connection.behind[sub] = fanout
        self.catch_up(connection)  # also when it was noted: a catch-up that lost Redis left it so

    def catch_up(self, connection: Connection) -> None:
        """Begin to catch a connection up, if it is behind, can take more, and nobody is at it."""
        if connection.behind and connection.is_writable and connection.catching_up is None:
            connection.catching_up = self.spawn(self._catch_up(connection))

    async def _catch_up(self, connection: Connection) -> None:
        try:
            await catch_up(connection, self.log.replay)
        except Exception as error:
            connection.fail(self.as_hub_error(error))
        finally:
            connection.catching_up = None

    def _on_broken(self, fanout: Fanout) -> None:
        self.spawn(self._mend(fanout))

    async def _mend(self, fanout: Fanout) -> None:
        try:
            await tell_break(self, fanout)
        except StreamsError:
            return  # Redis is away again: the tail says so anew when it is back
        for sub in list(fanout.subscribers):
            if sub.phase is Phase.CATCHING_UP:
                self.note_behind(fanout, sub)

    # Time

    def drain_delay_ms(self) -> int:
        """When a client that is sent away should come back: spread, so that they do not come at once."""
        return random.randint(0, int(self.settings.drain_s * 1000))

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run something owned by the hub: it ends with it at the latest."""
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def watch(self, connection: Connection) -> None:
        """Look at a connection's deadlines soon: its token has changed."""
        self.deadlines.look_soon(connection)
