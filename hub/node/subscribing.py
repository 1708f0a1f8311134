"""Subscribes connections to channels, from the request to live delivery (docs/protocol.md#channels).

The order on the wire is `channel.subscribed`, the replayed events, `channel.resumed`, live events. The fence is the
head named in `channel.subscribed`: events after it are live. If the state is included, it is as of exactly that head.

While Redis is unreachable, a subscription is refused with 4013 and remembered as owed. Once Redis is back, it is made
up for: from the position requested, or from where its replay was cut off.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final

from hub.auth.tokens import Principal
from hub.errors import HubError
from hub.limits.slices import Slices
from hub.node.connection import Connection
from hub.node.fanout import Fanout, Sub
from hub.node.openings import Decision, Openings
from hub.node.presence import PresenceTracker
from hub.node.recovery import Recovery
from hub.node.turns import Turns
from hub.ports import NodePort, Subscriber
from hub.protocol.replies import Opening, resumed, subscribed
from hub.protocol.session import SessionState
from hub.protocol.subscription import Phase, RefusedChannel, SubscribeRequest, SubscriptionState
from streams.channel import Channel, Kind
from streams.cursor import Cursor, Look, Position
from streams.errors import LogUnavailable
from streams.redis.replay import PAGE_BYTES, PAGE_EVENTS
from streams.redis.sights import Sight

AT_ONCE: Final = 16
"""Channels of one connection that are read in shared round trips. More would let one client's resume crowd out others."""
OWED_AT_ONCE: Final = 256
"""Owed subscriptions that are read in shared round trips once Redis is back."""


@dataclass(slots=True)
class Prepared:
    """A subscription that is ready but not announced to its client yet; it holds back signals.

    Attributes:
        as_of: the number of changed access lists when the channel's own was read.
        moves: how often the channel's fan-out had moved to another head when the opening's was read.
    """

    sub: Sub
    opening: Opening
    began_s: float
    as_of: int
    moves: int

    @property
    def is_outdated(self) -> bool:
        """True if the log does not continue from the opening's head any more."""
        return self.sub.fanout.move_count != self.moves


def _left_of(request: SubscribeRequest, found: Prepared | BaseException) -> SubscribeRequest:
    """Returns what is left of a request that failed: all of it or, if it was answered, what follows the last event sent.

    Repeating the whole request would send events twice and, with `$`, leave out those that arrived meanwhile.
    """
    if not isinstance(found, Prepared) or not found.sub.is_told:
        return request
    sub = found.sub
    return request._replace(cursor=Cursor(sub.after, sub.seq, sub.fanout.epoch), rewind=None, re=None)


class Subscriptions:
    """Subscribes the connections of one node to channels, and unsubscribes them.

    Attributes:
        fanouts: the channels with a subscriber on this node.
    """

    def __init__(
        self, node: NodePort, presence: PresenceTracker, recovery: Recovery, turns: Turns, slices: Slices
    ) -> None:
        self.fanouts: dict[Channel, Fanout] = {}
        self._node = node
        self._presence = presence
        self._recovery = recovery
        self._turns = turns
        self._slices = slices
        self._openings = Openings(node)
        self._owed: dict[Connection, dict[Channel, SubscribeRequest]] = {}
        self._begun_owed: dict[Connection, set[asyncio.Task[None]]] = {}

    async def subscribe_all(
        self, connection: Connection, requests: Iterable[SubscribeRequest | RefusedChannel]
    ) -> None:
        """Subscribes to several channels, in groups; each gets its own answer. A channel named twice is subscribed anew."""
        group: dict[Channel, SubscribeRequest] = {}
        for request in requests:
            if isinstance(request, RefusedChannel):
                connection.refuse(request.error, request.re, request.name)
                continue
            self._disown(connection, request.channel)
            if request.channel in group or len(group) == AT_ONCE:
                await self._subscribe_group(connection, group)
                group = {}
            group[request.channel] = request
        await self._subscribe_group(connection, group)

    def unsubscribe(self, connection: Connection, channel: Channel) -> bool:
        """Ends a connection's subscription, even one still waiting for Redis; returns False if it had none."""
        self._disown(connection, channel)
        return self._leave(connection, channel)

    async def listen(self, channel: Channel, listener: Subscriber) -> tuple[Sub, Look]:
        """Follows a channel for the node itself, without a session; returns the subscription, and a look that it continues.

        Raises:
            LogUnavailable: Redis is unreachable.
        """
        look = await self._node.log.look(channel)
        fanout = self._fanout(channel, look)
        sub: Sub = SubscriptionState(listener, fanout, False)
        sub.begin(fanout.position.id, fanout.position.seq)
        sub.release_signals()
        sub.join()
        fanout.enter(sub)
        if sub.seq != look.head.seq:  # somebody else follows the channel, and has had events since
            try:
                look = await self._node.log.look(channel)
            except BaseException:
                self.stop_listening(sub)
                raise
        return sub, look

    def stop_listening(self, sub: Sub) -> None:
        """Ends a subscription of the node itself."""
        self._end(sub)
        self._recovery.drop(sub.connection)

    def _leave(self, connection: Connection, channel: Channel) -> bool:
        sub = connection.subscriptions.pop(channel.wire, None)
        if sub is None:
            return False
        self._end(sub)
        return True

    def drop(self, connection: Connection) -> None:
        """Ends all subscriptions of a closed connection. Its presence ends after the grace period."""
        for sub in connection.subscriptions.values():
            self._end(sub)
            self._presence.vanished(connection, sub.fanout.channel)
        connection.subscriptions.clear()
        self._owed.pop(connection, None)
        for task in self._begun_owed.pop(connection, ()):  # they may wait for a write buffer that never drains
            task.cancel()
        self._recovery.drop(connection)

    async def subscribe_owed(self) -> None:
        """Makes the subscriptions that were waiting for Redis, if it is back.

        Raises:
            LogUnavailable: some of them are still waiting.
        """
        failure: LogUnavailable | None = None
        while failure is None:
            each = (
                (one, request)
                for one, requests in self._owed.items()
                for request in requests.values()
                if self._node.log.reaches(request.channel)
            )
            several = list(islice(each, OWED_AT_ONCE))
            if not several:
                return
            found = await asyncio.gather(
                *(self._prepare(connection, request, has_room=True) for connection, request in several),
                return_exceptions=True,
            )
            begun: dict[Connection, list[tuple[SubscribeRequest, Prepared | BaseException]]] = {}
            for (connection, request), outcome in zip(several, found, strict=True):
                if (
                    self._owed.get(connection, {}).get(request.channel) is not request
                ):  # requested anew, cancelled, or disconnected
                    if isinstance(outcome, Prepared):
                        self._end(outcome.sub)
                elif isinstance(outcome, LogUnavailable):
                    failure = outcome
                    self._owe_last(connection, request)
                else:
                    self._disown(connection, request.channel)
                    begun.setdefault(connection, []).append((request, outcome))
            for connection, those in begun.items():
                self._begin_owed(connection, those)
        if failure is not None:
            raise failure

    def _begin_owed(
        self, connection: Connection, prepared: Sequence[tuple[SubscribeRequest, Prepared | BaseException]]
    ) -> None:
        """Announces subscriptions in a task, which ends with the connection."""
        task = self._node.spawn(self._begin_each(connection, prepared))
        tasks = self._begun_owed.setdefault(connection, set())
        tasks.add(task)

        def ended(task: asyncio.Task[None]) -> None:
            tasks.discard(task)
            if not tasks and self._begun_owed.get(connection) is tasks:
                del self._begun_owed[connection]
            for _, found in prepared:  # it may have been cancelled before it began
                if isinstance(found, Prepared) and found.sub.phase is Phase.OPENING:
                    self._end(found.sub)

        task.add_done_callback(ended)

    def _owe_last(self, connection: Connection, request: SubscribeRequest) -> None:
        """Moves an owed subscription behind the others, which the next round would otherwise not come to."""
        requests = self._owed.pop(connection)
        requests[request.channel] = requests.pop(request.channel)
        self._owed[connection] = requests

    def _disown(self, connection: Connection, channel: Channel) -> None:
        requests = self._owed.get(connection)
        if requests is not None and requests.pop(channel, None) is not None and not requests:
            del self._owed[connection]

    def _refuse(self, connection: Connection, request: SubscribeRequest, error: Exception) -> None:
        connection.refuse(self._node.as_hub_error(error), request.re, request.channel.wire)
        if isinstance(error, LogUnavailable) and connection.session.state is not SessionState.CLOSED:
            self._owed.setdefault(connection, {})[request.channel] = request._replace(re=None)

    def _end(self, sub: Sub) -> None:
        """Ends a subscription; the last one of a channel ends its fan-out."""
        fanout = sub.fanout
        sub.end()
        fanout.leave(sub)
        if sub.wants_presence:
            self._look_at_presence(fanout.channel)
        self._recovery.ended(sub)
        if not fanout.subscribers and self.fanouts.get(fanout.channel) is fanout:
            fanout.close()
            del self.fanouts[fanout.channel]
            self._node.access.unfollowed(fanout.channel)
            if fanout.channel.kind is not Kind.SYSTEM:
                self._node.admission.unfollow(fanout.channel.tenant)

    def _look_at_presence(self, channel: Channel) -> None:
        """Stops having the presence in a channel told if no subscription wants it."""
        fanout = self.fanouts.get(channel)
        if fanout is None or not fanout.wants_presence:
            self._presence.unfollow(channel)

    async def _subscribe_group(self, connection: Connection, group: Mapping[Channel, SubscribeRequest]) -> None:
        inbox = f"user:{connection.session.principal.user}"  # subscribed automatically, so it does not count
        owed = sum(one.wire not in connection.subscriptions for one in self._owed.get(connection, ()))
        room = (
            self._node.settings.max_subscriptions
            - len(connection.subscriptions)
            - owed
            + (inbox in connection.subscriptions)
        )
        questions: list[tuple[SubscribeRequest, bool]] = []
        for request in group.values():
            wire = request.channel.wire
            room -= wire != inbox and wire not in connection.subscriptions
            questions.append((request, wire == inbox or room >= 0))
        async with self._turns:
            prepared = await self._prepare_all(connection, questions)
        await self._begin_each(connection, list(zip(group.values(), prepared, strict=True)))

    async def _prepare_all(
        self, connection: Connection, questions: Sequence[tuple[SubscribeRequest, bool]]
    ) -> list[Prepared | BaseException]:
        """Prepares several subscriptions in one round trip; those that need another one are prepared each in a task.

        After an outage all clients come back at once, and nearly every channel needs one round trip. A task for each
        channel would be a quarter of its price.
        """
        began_s, as_of = self._node.clock.monotonic(), self._node.access.change_count
        asked = [self._ask_early(connection, request, has_room=has_room) for request, has_room in questions]
        decided = await self._decide_all(questions, asked)
        await self._slices.turn()
        prepared: list[Prepared | BaseException | None] = []
        for (request, _), decision in zip(questions, decided, strict=True):  # no await: nothing is sent in between
            if not isinstance(decision, Decision):
                prepared.append(decision)
                continue
            try:
                prepared.append(self._prepare_now(connection, request, decision, began_s=began_s, as_of=as_of))
            except Exception as error:
                prepared.append(error)
        if None in prepared:
            await self._prepare_rest(connection, questions, prepared, decided, as_of)
        return [one for one in prepared if one is not None]

    def _ask_early(
        self, connection: Connection, request: SubscribeRequest, *, has_room: bool
    ) -> asyncio.Future[Sight] | HubError | None:
        """Requests a look; None if that is not enough: for `rewind`, for a followed channel, for presence not told here yet."""
        try:
            self._refuse_early(connection, request, has_room=has_room)
        except HubError as error:
            return error
        if request.rewind is not None or request.channel.wire in connection.subscriptions:
            return None
        if request.wants_presence and not self._presence.is_followed(request.channel):
            return None
        return self._openings.ask(connection, request)

    async def _decide_all(
        self,
        questions: Sequence[tuple[SubscribeRequest, bool]],
        asked: Sequence[asyncio.Future[Sight] | HubError | None],
    ) -> list[Decision | Exception | None]:
        """Decides by each look how its subscription starts. Errors and None stay as they are."""
        decided: list[Decision | Exception | None] = []
        try:
            for (request, _), one in zip(questions, asked, strict=True):
                if not isinstance(one, asyncio.Future):
                    decided.append(one)
                    continue
                try:
                    decided.append(await self._openings.decide_by(request, one))
                except Exception as error:
                    decided.append(error)
        except BaseException:  # the socket has closed
            for one in asked:
                if isinstance(one, asyncio.Future) and not one.cancel() and not one.cancelled():
                    one.exception()  # retrieved, so that asyncio does not report it
            raise
        return decided

    async def _prepare_rest(
        self,
        connection: Connection,
        questions: Sequence[tuple[SubscribeRequest, bool]],
        prepared: list[Prepared | BaseException | None],
        decided: Sequence[Decision | Exception | None],
        as_of: int,
    ) -> None:
        """Fills the gaps in `prepared`. If it is cancelled, all that was prepared ends."""
        rest = [number for number, one in enumerate(prepared) if one is None]
        tasks = [
            asyncio.ensure_future(
                self._prepare(
                    connection,
                    questions[number][0],
                    has_room=questions[number][1],
                    first=(decision, as_of) if isinstance(decision := decided[number], Decision) else None,
                )
            )
            for number in rest
        ]
        try:
            found = await asyncio.gather(*tasks, return_exceptions=True)
        except BaseException:
            done = [task.result() for task in tasks if task.done() and not task.cancelled() and not task.exception()]
            for one in (*prepared, *done):
                if isinstance(one, Prepared):
                    self._end(one.sub)
            raise
        for number, one in zip(rest, found, strict=True):
            prepared[number] = one

    def _prepare_now(
        self, connection: Connection, request: SubscribeRequest, decision: Decision, *, began_s: float, as_of: int
    ) -> Prepared | None:
        """Prepares a subscription from one look, as `_prepare` does; None if that takes another round trip.

        Raises:
            HubError: 4003, 4004, 4015.
        """
        channel, look = request.channel, decision.look
        fanout = self.fanouts.get(channel)
        if fanout is not None and (fanout.epoch != look.epoch or fanout.has_told_after(look)):
            return None
        opening = self._openings.read_now(connection, request, decision)
        if opening is None:
            return None
        if fanout is None:
            self._charge_unwritten(request, look, connection.session.principal)
            fanout = self._fanout(channel, look)
        sub = self._enter(connection, request, fanout)
        try:
            lists = self._node.access.learn(channel, decision.sight, as_of)
            self._node.access.refuse(lists, connection.session.principal, "read")
        except BaseException:
            self._end(sub)
            raise
        return Prepared(sub, opening, began_s, as_of, fanout.move_count)

    async def _begin_each(
        self, connection: Connection, prepared: Sequence[tuple[SubscribeRequest, Prepared | BaseException]]
    ) -> None:
        try:
            for request, found in prepared:
                try:
                    if isinstance(found, BaseException):
                        raise found
                    while found.is_outdated:  # those before it may have taken long
                        self._end(found.sub)
                        found = await self._prepare(connection, request, has_room=True)  # noqa: PLW2901 - the same anew
                    await self._begin(connection, request, found)
                except Exception as error:
                    self._refuse(connection, _left_of(request, found), error)
        finally:  # the socket may have closed before all have begun
            for _, found in prepared:
                if isinstance(found, Prepared) and found.sub.phase is Phase.OPENING:
                    self._end(found.sub)

    def _refuse_early(self, connection: Connection, request: SubscribeRequest, *, has_room: bool) -> None:
        if not connection.session.principal.grants.allows(request.channel.wire, "read"):
            raise HubError(4003, "your token does not grant `read` on this channel")
        if not has_room:
            raise HubError(
                4015,
                f"a connection may follow at most {self._node.settings.max_subscriptions} channels; unsubscribe from some",
            )

    async def _prepare(
        self,
        connection: Connection,
        request: SubscribeRequest,
        *,
        has_room: bool,
        first: tuple[Decision, int] | None = None,
    ) -> Prepared:
        """Adds a subscription to the channel's fan-out and decides how it starts; an existing one of the connection is paused.

        Args:
            connection: the subscriber.
            request: its request.
            has_room: False if the connection follows as many channels as it may.
            first: a decision that was made just now, and the number of changed access lists before it.

        Raises:
            HubError: 4003, 4015.
            LogUnavailable: Redis is unreachable; the connection follows the same channels as before.
        """
        self._refuse_early(connection, request, has_room=has_room)
        began_s = self._node.clock.monotonic()
        former = connection.subscriptions.get(request.channel.wire)
        if former is not None:
            former.rest()
        try:
            if request.wants_presence and not self._presence.is_followed(request.channel):
                await self._presence.follow(request.channel)
                first = None  # made before the presence was told
            sub, decision, as_of = await self._follow(connection, request, first)
            moves = sub.fanout.move_count
            try:
                lists = self._node.access.learn(request.channel, decision.sight, as_of)
                self._node.access.refuse(lists, connection.session.principal, "read")
                opening = await self._openings.read(connection, request, sub.fanout, decision)
                return Prepared(sub, opening, began_s, as_of, moves)
            except BaseException:
                self._end(sub)
                raise
        except BaseException:
            if request.wants_presence:
                self._look_at_presence(request.channel)
            if former is not None and former.go_on():
                self._recovery.note_behind(former)
            raise

    async def _begin(self, connection: Connection, request: SubscribeRequest, prepared: Prepared) -> None:
        """Announces the subscription to the client, replays, and goes live. It replaces an existing one."""
        sub = prepared.sub
        self._leave(connection, request.channel)
        connection.subscriptions[request.channel.wire] = sub
        try:
            # The access list may have changed since `_prepare`; from here on, a change ends this subscription.
            if self._node.access.change_count != prepared.as_of:
                await self._node.access.require(request.channel, connection.session.principal, "read")
            await self._replay(sub, request, prepared.opening, connection.session.principal)
        except BaseException:
            if sub.phase is not Phase.LIVE and self._leave(connection, request.channel):
                # The subscription that it replaces was present; who is still owed one may be back within the grace period.
                self._presence.vanished(connection, request.channel)
            raise
        times = self._node.metrics.resumed if request.is_resume else self._node.metrics.subscribed
        times.observe(self._node.clock.monotonic() - prepared.began_s)
        self._presence.joined(connection, request.channel)

    async def _follow(
        self, connection: Connection, request: SubscribeRequest, first: tuple[Decision, int] | None
    ) -> tuple[Sub, Decision, int]:
        """Adds a subscription to the channel's fan-out, and decides how it starts, both for the same epoch of the log.

        The third result is the number of changed access lists when the decision's look was requested.

        No signal is missed: the state contains those before the decision's look, and later ones reach the
        subscription. If the tail had already sent newer ones, the decision is made again.

        Raises:
            HubError: 4015: the tenant follows too many channels; 4004: the user has started too many channels.
        """
        sub: Sub | None = None
        try:
            while True:
                if first is not None:
                    (decision, as_of), first = first, None
                else:
                    as_of = self._node.access.change_count
                    decision = await self._openings.decide(connection, request)
                if sub is None and request.channel not in self.fanouts:
                    self._charge_unwritten(request, decision.look, connection.session.principal)
                fanout = sub.fanout if sub is not None else self._fanout(request.channel, decision.look)
                if fanout.epoch != decision.look.epoch:
                    await self._recovery.tell_break(fanout)
                elif sub is not None:
                    return sub, decision, as_of
                else:
                    sub = self._enter(connection, request, fanout)
                    if not fanout.has_told_after(decision.look):
                        return sub, decision, as_of
        except BaseException:
            if sub is not None:
                self._end(sub)
            raise

    def _enter(self, connection: Connection, request: SubscribeRequest, fanout: Fanout) -> Sub:
        """Adds a subscription to a fan-out."""
        sub: Sub = SubscriptionState(connection, fanout, request.wants_presence)
        fanout.enter(sub)
        if request.wants_presence:
            self._presence.followed(request.channel)
        return sub

    def _charge_unwritten(self, request: SubscribeRequest, look: Look, principal: Principal) -> None:
        """Charges for following a channel without events, since its presence needs keys in Redis.

        A handshake is charged but never refused.
        """
        is_inbox = request.channel.kind is Kind.USER and request.channel.name == principal.user
        if look.head.seq or is_inbox:
            return
        refusal = self._node.new_channels.refusal(principal)
        if refusal is not None and request.re is not None:
            raise refusal
        self._node.new_channels.note(principal)

    def _fanout(self, channel: Channel, look: Look) -> Fanout:
        fanout = self.fanouts.get(channel)
        if fanout is None:
            if channel.kind is not Kind.SYSTEM:  # the node itself follows one for each tenant
                self._node.admission.follow(channel.tenant)
            node, tail = self._node, self._node.log.tail_of(channel)
            fanout = Fanout(channel, look, tail, node.metrics, self._recovery, node.tracing)
            self.fanouts[channel] = fanout
        return fanout

    async def _replay(self, sub: Sub, request: SubscribeRequest, opening: Opening, principal: Principal) -> None:
        connection, head = sub.connection, opening.head
        sub.replay(opening.start.id, opening.start.seq, owes_receipt=request.is_resume)
        connection.tell(
            request.channel, subscribed(request.channel, opening, request.re, tells_scope=connection.holds_state)
        )
        if held := sub.release_signals():
            connection.push(b"".join(held))
        while sub.phase is Phase.REPLAYING and sub.seq < head.seq:
            await connection.drained()
            await self._node.delay(principal, "replay")
            async with self._turns:
                place = Position(sub.after, sub.seq)
                page = await self._recovery.pages.read(sub.fanout, place.id, head.id)
                await self._slices.turn()
                pages_read = max(page.events.read_count / PAGE_EVENTS, page.size_bytes / PAGE_BYTES)
                self._node.charge(principal, "replay", pages_read)
                is_sent = sub.phase is not Phase.REPLAYING or self._recovery.send_page(sub, page, place)
            if not is_sent:
                await self._recovery.tell_lost(sub)
        if sub.phase is Phase.REPLAYING:
            if sub.owes_receipt:
                connection.send(resumed(request.channel, opening))
            sub.follow()
        await self._recovery.read_on(sub)
