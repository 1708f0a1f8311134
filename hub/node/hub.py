"""One node: its connections, the channels they follow, and the log behind them."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
import random
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass
from time import monotonic, time
from typing import Any, Final

from hub.auth.permissions import Lists
from hub.auth.revocations import Revocation
from hub.auth.tokens import Principal
from hub.auth.verifier import Verifier
from hub.config import Settings
from hub.error_tracking import fault_id
from hub.errors import HubError
from hub.handlers.conversations import Conversations
from hub.handlers.router import EVENT_HANDLERS, build_handlers
from hub.limits.admission import Admission
from hub.limits.edge import Edge
from hub.limits.new_channels import NewChannels
from hub.limits.slices import Slices
from hub.metrics import NodeMetrics
from hub.node.access import ChannelAccess
from hub.node.archive_access import ArchiveAccess, ChannelAudits, Verify
from hub.node.connection import Connection, FlushQueue
from hub.node.deadlines import Deadlines
from hub.node.fanout import Fanout
from hub.node.late_cursors import LateCursors
from hub.node.operator_calls import OperatorCalls
from hub.node.presence import PresenceTracker
from hub.node.recovery import Recovery
from hub.node.rollouts import LOOK_S as ROLLOUTS_LOOK_S
from hub.node.rollouts import Rollouts
from hub.node.sessions import LiveSessions
from hub.node.states import StateReader
from hub.node.subscribing import Subscriptions
from hub.node.turns import Turns
from hub.ports import ServedAgents
from hub.protocol.commands import Append, Caller, Command, Outcome
from hub.protocol.replies import append_error, asked_for, log_error, passed_over, unless_stored, unsubscribed
from hub.protocol.subscription import RefusedChannel, SubscribeRequest
from hub.rollout import FeatureFlags
from hub.sockets import SocketTransport
from hub.uploads.requests import UploadRequests
from streams.archive.objects import ArchiveObjects
from streams.channel import Channel, Kind
from streams.envelope import SYSTEM, Actor, Appended, Draft
from streams.errors import GuardRefused, IdempotencyConflict, LogUnavailable, StreamsError
from streams.events.custom import ANY_OWN, OwnEvents
from streams.events.references import references
from streams.events.validation import appendable, refuse_problems
from streams.log_context import CURRENT, PROCESS
from streams.loops import Loop
from streams.records.presence import MemberStatus
from streams.records.references import problems_of
from streams.redis.log import Log
from streams.slow_paths import SLOW_S, LoopWatch, tell_slow
from streams.tracing import Tracing, traced

COMES_BACK_MS: Final = 2
"""Milliseconds that another node needs to accept one reconnecting client, with a margin."""
LIMITS_LOOK_S: Final = 0.25
"""Seconds between two looks at Redis's memory: a flood may fill a small Redis within a second."""
OWED_LOOK_S: Final = 0.25
"""Seconds between attempts to make up for subscriptions that failed while Redis was unreachable."""

DELAY_S_MAX: Final = 5.0
"""Maximum seconds to wait for a user's debt. If a handshake took longer, its client would give up and connect again."""
KEYS_EVERY_S: Final = 60.0
"""Seconds between fetches of the issuer's keys: a client whose key was removed is disconnected within this time."""
_log: Final = logging.getLogger(__name__)
_NARROW_AGAIN_S: Final = 0.5
"""Seconds until changed access lists that could not be read are read again."""


@dataclass(slots=True)
class NodeClock:
    """A node's clocks."""

    monotonic: Callable[[], float] = monotonic
    now: Callable[[], float] = time


@dataclass(frozen=True, slots=True)
class NodeParts:
    """The parts of a hub, built by the composition root.

    Attributes:
        edge: limits, quotas and revocations, shared with the other nodes.
        admission: counts connections against them.
        uploads: authorises uploads; None on a node that accepts no files.
        own_events: the event types beside the catalogue.
        flags: who may use WebSocket, and who has which variant.
        tracing: records traces; None where that is off.
        archive: the archive, for proofs; None if there is none.
        verify: verifies a channel.
        slices: grants the time for long work.
    """

    edge: Edge
    admission: Admission
    verifier: Verifier
    states: StateReader
    agents: ServedAgents
    uploads: UploadRequests | None
    clock: NodeClock
    flags: FeatureFlags
    verify: Verify
    slices: Slices
    own_events: OwnEvents = ANY_OWN
    tracing: Tracing | None = None
    archive: ArchiveObjects | None = None


class Hub:
    """One node: accepts connections, routes their commands, and fans events out to them.

    Everything runs in one event loop; no method may be called from another thread.
    """

    def __init__(self, settings: Settings, log: Log, parts: NodeParts) -> None:
        self.settings = settings
        self.log = log
        self.name = parts.edge.node
        self.edge = parts.edge
        self.limiter = parts.edge.limiter
        self.admission = parts.admission
        self.new_channels = NewChannels(self.limiter, parts.clock.monotonic)
        self.verifier = parts.verifier
        self.own_events = parts.own_events
        self.states = parts.states
        self.agents = parts.agents
        self.uploads = parts.uploads
        self.clock = parts.clock
        self.tracing = parts.tracing
        self.archive = ArchiveAccess(parts.archive)
        self.audits = ChannelAudits(parts.verify)
        self.metrics = NodeMetrics()
        self.connections: set[Connection] = set()
        self.streams: Counter[tuple[str, str]] = Counter()
        """Open streams and long polls on this node, by tenant and user."""
        self.is_draining = False
        self._loop = asyncio.get_running_loop()
        self.flush_soon = FlushQueue(self._loop).add
        self._tasks: set[asyncio.Task[None]] = set()
        self._loops: list[Loop] = []
        self._loop_watch = LoopWatch()
        self.sessions = LiveSessions(parts.edge.store.claims)
        self.late_cursors = LateCursors(self.limiter, self.clock)
        self.presence = PresenceTracker(log, self.name)
        self.access = ChannelAccess(log, self.clock)
        self.operator_calls = OperatorCalls(self.limiter, self.clock, self.broadcast)
        self.deadlines = Deadlines(settings, self.verifier, self.clock, self.connections)
        self.turns = Turns()
        self.slices = parts.slices
        self.recovery = Recovery(self, self.channel_configured, self._channel_deleted, self.turns, self.slices)
        self.subscriptions = Subscriptions(self, self.presence, self.recovery, self.turns, self.slices)
        self.fanouts = self.subscriptions.fanouts
        self.rollouts = Rollouts(self, self.subscriptions, parts.flags, self.connections)
        self._conversations = Conversations(self)
        self.handlers, self._take_binary = build_handlers(self, EVENT_HANDLERS)

    async def start(self) -> None:
        """Starts watching deadlines and reporting presence."""
        PROCESS["node"] = self.name
        self._loop_watch.start()
        if self.log.seals is not None:
            self.log.seals.on_erasure(self._forget_opened)
        self._loops.append(self.log.loops.every("deadlines", self.deadlines.look, self.deadlines.tick_s))
        self._loops.append(self.log.loops.every("owed_subscriptions", self.subscriptions.subscribe_owed, OWED_LOOK_S))
        if self.settings.jwks_url is not None:
            self._loops.append(self.log.loops.every("keys", self.look_at_keys, KEYS_EVERY_S))
        self._loops.append(self.log.loops.every("limits", self._look_at_limits, LIMITS_LOOK_S, first_after_s=0))
        await self.rollouts.start()
        self._loops.append(self.log.loops.every("rollouts", self.rollouts.look, ROLLOUTS_LOOK_S))
        await self.presence.start()

    def _forget_opened(self) -> None:
        """Drops what is kept of sealed payloads in plain text: a person was erased."""
        self.states.forget_opened()
        for fanout in self.fanouts.values():
            fanout.forget_held()
            self.recovery.pages.forget(fanout)

    async def _look_at_limits(self) -> None:
        self.new_channels.forget_paid()
        if self.admission.is_nearly_full and self.log.is_available:
            with contextlib.suppress(LogUnavailable):  # the next round tries again
                await self.log.read_memory()
        used_bytes, max_bytes = self.log.memory
        if not self.admission.look_at_memory(used_bytes, max_bytes):
            return
        if self.admission.is_reserve_open:
            _log.warning(
                "Redis is %d %% full: the rest is now a reserve, of which each tenant may use a share",
                used_bytes * 100 // max_bytes,
            )
        else:
            _log.warning("Redis has enough free memory again")

    def drain(self) -> None:
        """Stops accepting connections, and ends streams and long polls.

        Like sockets, they are told when to reconnect, and then closed.
        """
        self.is_draining = True
        for connection in [connection for connection in self.connections if connection.is_listener]:
            connection.draining()

    async def stop(self) -> None:
        """Stops the background work and hands presence over to other nodes. The log is closed by its owner."""
        self.is_draining = True
        self.late_cursors.close()
        await self.log.loops.stop(*self._loops)
        await self.presence.stop()
        self.rollouts.close()
        self._loop_watch.close()
        if self.tracing is not None:
            self.tracing.write()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # Connections

    def connect(self) -> Connection:
        """Returns the receiver of a new socket."""
        return Connection(self)

    def opened(self, connection: Connection) -> None:
        """Counts a new connection and sets its first deadline."""
        self.connections.add(connection)
        self.deadlines.add(connection)
        try:
            self._refuse_when_full()
            self.admission.opened(connection)
        except HubError as error:
            connection.fail(error)

    def open_stream(self, transport: SocketTransport, caller: Caller) -> Connection:
        """Opens a connection without a socket, for the caller of an HTTP request.

        It ends when the token expires, like any other.

        Raises:
            HubError: 4004 or 4010; 4013: the node is shutting down.
        """
        if self.is_draining:
            raise HubError(4013, "the node is stopping; try another one", retry_after_ms=self.drain_delay_ms())
        self._refuse_when_full()
        connection = Connection(self, is_listener=True)
        connection.attach(transport)
        self.admission.entered(connection, caller.principal)
        connection.established("", caller)
        self.connections.add(connection)
        self.token_changed(connection)
        return connection

    def establish(self, connection: Connection, caller: Caller, wanted_session: str | None) -> None:
        """Counts an authenticated connection and assigns its session; an older socket of that session is closed.

        Raises:
            HubError: 4004 or 4010.
        """
        self.admission.entered(connection, caller.principal)
        self.sessions.adopt(connection, caller, wanted_session)
        self.metrics.variants.enter(caller.variant)
        self.token_changed(connection)

    def disconnect(self, connection: Connection) -> None:
        """Removes a connection whose socket has closed. Its accepted commands are still stored, but not answered."""
        self.connections.discard(connection)
        if connection.session.caller is not None:
            self.metrics.variants.leave(connection.session.caller.variant)
        self.admission.left(connection)
        self.sessions.drop(connection)
        self.late_cursors.drop(connection)
        self.subscriptions.drop(connection)

    def token_changed(self, connection: Connection) -> None:
        """Checks a connection's deadlines soon, because its token has changed."""
        self.deadlines.look_soon(connection)

    async def subscribe_all(
        self, connection: Connection, requests: Iterable[SubscribeRequest | RefusedChannel]
    ) -> None:
        """Subscribes a connection to channels; each gets its own answer."""
        await self.subscriptions.subscribe_all(connection, requests)

    def unsubscribe(self, connection: Connection, channel: Channel, *, is_asked: bool) -> bool:
        """Ends a connection's subscription; returns False if it had none.

        `is_asked` is False if the client did not ask for it: then its presence ends only after the grace
        period.
        """
        was_followed = self.subscriptions.unsubscribe(connection, channel)
        if not is_asked:
            self.presence.vanished(connection, channel)
        elif was_followed:
            self.presence.left(connection, channel)
        self.late_cursors.outdated(connection, channel.wire)
        return was_followed

    def catch_up(self, connection: Connection) -> None:
        """Continues sending a connection the events that it lags behind, because its write buffer has room again."""
        self.recovery.catch_up(connection)

    def tell_status(self, connection: Connection, channel: Channel, status: str) -> None:
        """Sends a user's status to the channel's subscribers."""
        self.presence.changed(connection, channel, status)

    async def tell_member(self, connection: Connection, channel: Channel, status: MemberStatus) -> None:
        """Stores a user's status as a member of a team, and sends it to the team's subscribers.

        Raises:
            LogUnavailable: Redis is unreachable; the status is sent once it is back.
        """
        await self.presence.member_changed(connection, channel, status)

    def revoked(self, revocation: Revocation) -> None:
        """Closes every connection whose token the revocation covers."""
        for connection in list(self.connections):
            caller = connection.session.caller
            if caller is not None and revocation.hits(caller.principal):
                connection.fail(HubError(4019, "the token was revoked; sign in again"))

    async def look_at_keys(self) -> None:
        """Fetches the issuer's keys, and closes connections whose key is no longer among them."""
        await self.verifier.renew(self.clock.now())
        for connection in list(self.connections):
            caller = connection.session.caller
            if caller is not None and self.verifier.is_withdrawn(caller.principal):
                message = "the key that signed your token is no longer published; connect again with a new token"
                connection.fail(HubError(4002, message))

    def _refuse_when_full(self) -> None:
        if len(self.connections) > self.settings.max_connections:
            raise HubError(4010, "this node is full; try another node")

    # Commands

    def route_message(self, connection: Connection, command: Command) -> None:
        """Handles a command of a connection, in order with its other commands."""
        connection.route(command)

    def channel_configured(self, channel: Channel) -> None:
        """Handles a change of a channel's settings: ends the subscriptions of users who may no longer read it."""
        self.access.forget(channel)
        self.spawn(self._narrow(channel))

    def _channel_deleted(self, fanout: Fanout) -> None:
        """Ends all subscriptions of a channel that was deleted."""
        channel = fanout.channel
        self.access.forget(channel)
        for connection in [sub.connection for sub in fanout.subscribers]:
            if not isinstance(connection, Connection):  # the node itself, which follows system channels only
                continue
            if connection.unsubscribe(channel, is_asked=False):
                connection.send(unsubscribed(channel, "deleted"))
            if not connection.session.id:  # a stream over HTTP follows no other channel
                connection.fail(HubError(4018, "the channel was deleted"))

    async def _narrow(self, channel: Channel) -> None:
        lists: Lists | None = None
        while lists is None:
            try:
                lists = await self.access.lists(channel)
            except LogUnavailable:  # whoever was removed must not go on reading because Redis was lost just then
                await asyncio.sleep(_NARROW_AGAIN_S)
        if "read" not in lists:
            return
        for connection in list(self.connections):
            sub = connection.subscriptions.get(channel.wire)
            if sub is None or sub.fanout.channel != channel or connection.session.principal.user in lists["read"]:
                continue
            if connection.session.principal.grants.reads_all:
                continue
            connection.unsubscribe(channel, is_asked=False)
            connection.send(unsubscribed(channel, "permission_denied"))
            if not connection.session.id:  # a stream over HTTP follows no other channel
                connection.fail(HubError(4003, "you are not on this channel's access list for `read`"))

    async def execute(self, command: Command) -> tuple[Outcome, Appended | None]:
        """Handles a command that came over HTTP, and waits until it is stored.

        Raises:
            HubError: the command was refused.
        """
        self.metrics.commands_in[command.event.row] += 1
        CURRENT.set((command,))
        began_s = self.clock.monotonic()
        try:
            return await self._execute(command)
        finally:
            took_s = self.clock.monotonic() - began_s
            if took_s >= SLOW_S:
                tell_slow("command", command.event.name, took_s)

    async def _execute(self, command: Command) -> tuple[Outcome, Appended | None]:
        try:
            answer = self.access.decide(self.handlers[command.event.row], command, None)
            outcome = await answer if inspect.isawaitable(answer) else answer
        except HubError as refusal:
            outcome = unless_stored(command, refusal)
        except StreamsError as error:
            raise log_error(error) from error
        if not isinstance(outcome, Append):
            return outcome, None
        principal = command.caller.principal
        if self.new_channels.has_debtors:
            await self.require_written(outcome.draft.channel, principal)
        outcome, is_charged = self.charged(outcome)
        draft, span = outcome.draft, None
        if self.tracing is not None and self.tracing.takes(draft.traceparent):
            draft, span = traced(self.tracing, draft)
        try:
            result = await self._append(draft, is_charged=is_charged)
        except StreamsError as error:
            if (passed := passed_over(outcome, error)) is not None:
                return passed, None
            raise append_error(outcome, error) from error
        finally:
            if span is not None:
                span.end()
        if result.is_first:
            self.new_channels.note(principal)
        return outcome, result

    async def _append(self, draft: Draft, *, is_charged: bool) -> Appended:
        """Appends an event; if it is not stored, its charge is refunded."""
        result: Appended | None = None
        try:
            result = await self.log.append(draft)
        finally:
            if is_charged:
                self.admission.settle(draft, result)
        return result

    def charged(self, append: Append) -> tuple[Append, bool]:
        """Charges an event that is about to be stored; returns what to append, and True if it was charged.

        If the tenant has no room for it, the result appends nothing, but still answers a command that was
        stored before.

        Raises:
            HubError: 4004.
        """
        if not self.admission.is_metered:
            return append, False
        try:
            self.admission.charge(append.draft)
        except HubError as refusal:
            if refusal.row.name != "message_too_large":
                raise
            return asked_for(append, refusal), False
        return append, True

    async def require_written(self, channel: Channel, principal: Principal) -> None:
        """Refuses to start a channel for a user who has recently started too many.

        Raises:
            HubError: 4004: the channel has no events yet, and the user has recently started too many channels.
            LogUnavailable: Redis is unreachable.
        """
        refusal = self.new_channels.refusal(principal)
        if refusal is not None and not (await self.log.look(channel)).head.seq:
            raise refusal

    def charge(self, principal: Principal, class_: str, cost: float) -> None:
        """Charges the additional cost of a command, known only afterwards: the user's next commands of this class wait for it."""
        if cost > 0:
            self.limiter.spend(principal.payer, class_, self.clock.monotonic(), cost)

    async def delay(self, principal: Principal, class_: str) -> None:
        """Waits until a user is out of debt in a rate class, at most 5 s."""
        debt_s = self.limiter.debt_s(principal.payer, class_, self.clock.monotonic())
        if debt_s > 0:
            await asyncio.sleep(min(debt_s, DELAY_S_MAX))

    def as_hub_error(self, error: Exception) -> HubError:
        """Converts an exception to the error for the client.

        A fault of the hub is logged under an id that the client gets too, the same for equal faults.
        """
        if isinstance(error, HubError):
            return error
        if isinstance(error, StreamsError):
            return log_error(error)
        fault = fault_id(error)
        _log.error("internal error", exc_info=error, extra={"code": 4030, "fault": fault, "error_class": fault})
        return HubError(4030, f"internal error, logged as {fault}; retry later")

    def take_binary(self, connection: Connection, data: bytes) -> bool:
        """Passes a binary message to the uploads; returns False if this client may send none."""
        return self._take_binary(connection, data)

    def keep_cursor(self, connection: Connection, command: Command) -> None:
        """Delays a document cursor that exceeded its rate: it is sent a moment later, unless a newer one is sent first."""
        self.late_cursors.keep(connection, command)

    def cursor_moved(self, connection: Connection, wire: str) -> None:
        """Discards the client's delayed cursor in the document with this wire name, because a newer one was sent."""
        self.late_cursors.outdated(connection, wire)

    # Sending

    async def broadcast(
        self,
        channel: Channel,
        type_: str,
        payload: Mapping[str, Any],
        actor: Actor = SYSTEM,
        command: str | None = None,
        traceparent: str | None = None,
    ) -> Appended:
        """Appends an event of the catalogue; every subscriber on every node receives it. The tenant is charged.

        Files, messages and runs that it names must exist, as for a client's command.

        Args:
            channel: of a kind that the event is for.
            type_: the event type.
            payload: the payload as subscribers get it.
            actor: the author that subscribers are shown.
            command: an idempotency key; None skips the duplicate check.
            traceparent: the trace that the event belongs to.

        Raises:
            InvalidPayload: the catalogue has no such event, or not with this payload or in this kind of channel.
            HubError: 4004 or 4011: the tenant has used up its quota; 4009: the key was used for another event.
            LogUnavailable: the append was not confirmed.
        """
        event, value, data = appendable(channel, type_, payload, self.own_events)
        named = references(event, value)
        refuse_problems(await problems_of(self.log, channel, named))
        refuse_problems(await self._conversations.unknown_messages(channel, named))
        draft = Draft(
            channel,
            type_,
            data,
            actor,
            event.lane,
            event.version,
            command=command,
            is_wanted=event.is_wanted,
            traceparent=traceparent,
        )
        append, is_charged = self.charged(Append(draft))
        try:
            return await self._append(append.draft, is_charged=is_charged)
        except (GuardRefused, IdempotencyConflict) as error:
            raise append_error(append, error) from error

    async def send_to_user(
        self, tenant: str, user: str, type_: str, payload: Mapping[str, Any], actor: Actor = SYSTEM
    ) -> Appended:
        """Appends an event to a user's inbox; all their devices receive it, now or after reconnecting.

        Raises:
            InvalidPayload: as in `broadcast`.
            LogUnavailable: as in `broadcast`.
        """
        return await self.broadcast(Channel(tenant, Kind.USER, user), type_, payload, actor)

    # Time

    def drain_delay_ms(self) -> int:
        """Returns a random pause after which a disconnected client should reconnect; with more connections it may be longer."""
        return random.randint(0, min(int(self.settings.drain_s * 1000), len(self.connections) * COMES_BACK_MS))

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Runs a background task that ends with the hub at the latest."""
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("background work failed: %s", task.get_name(), exc_info=error)
