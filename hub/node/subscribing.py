"""One subscription from request to live: look, decide, tell, replay, receipt, join (PROTOCOL 3).

The order on the wire: `channel.subscribed`, the replayed events, `channel.resumed`, live events. The fence is the head named in
`channel.subscribed`: what is after it is live. Where the state is included it stands exactly at that head.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from hub.errors import HubError
from hub.node.catch_up import read_on, send_page
from hub.node.fanout import Fanout, Sub
from hub.node.recovery import tell_break, tell_lost
from hub.protocol.receipts import Opening, resumed_frame, subscribed_frame
from hub.protocol.subscription import Phase, Subscription
from streams.channel import Channel
from streams.cursor import LIVE, Cursor, Gap, Look, Position, Resumable, judge, limit_replay
from streams.redis.replay import PAGE_EVENTS

if TYPE_CHECKING:
    from hub.node.connection import Connection
    from hub.node.hub import Hub

AT_ONCE: Final = 16
"""Channels of one connection whose questions share round trips. More would let one client's resume crowd out others'."""
REPLAY_EVENTS_MAX: Final = 1_000_000
"""Events one resume may replay; more is a gap (`too_far`), since reading them would hold up everybody."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What a client asked for in one channel. `re` is None for channels of the handshake."""

    channel: Channel
    cursor: Cursor
    rewind: int | None = None
    wants_state: bool = True
    wants_presence: bool = False
    re: str | None = None

    @property
    def is_resume(self) -> bool:
        """Whether a replay was asked for, so that a receipt is due."""
        return self.rewind is not None or self.cursor.after != LIVE


@dataclass(frozen=True, slots=True)
class RefusedChannel:
    """A channel that is refused before anything is looked up."""

    name: str
    error: HubError
    re: str | None


@dataclass(frozen=True, slots=True)
class Decision:
    """What a look says about a wish: where its replay starts (None: at the head), and the gap if it cannot be resumed."""

    look: Look
    start: Position | None = None
    gap: Gap | None = None


async def subscribe_all(hub: Hub, connection: Connection, wishes: Iterable[Wish | RefusedChannel]) -> None:
    """Subscribe to several channels, some at a time; each is answered for itself. A channel named twice starts over."""
    group: dict[Channel, Wish] = {}
    for wish in wishes:
        if isinstance(wish, RefusedChannel):
            connection.refuse(wish.error, wish.re, wish.name)
            continue
        if wish.channel in group or len(group) == AT_ONCE:
            await _subscribe_group(hub, connection, group)
            group = {}
        group[wish.channel] = wish
    await _subscribe_group(hub, connection, group)


async def _subscribe_group(hub: Hub, connection: Connection, group: Mapping[Channel, Wish]) -> None:
    """Different channels: what is asked of the log shares round trips, what is told keeps the order of the wishes."""
    room = hub.settings.max_subscriptions - len(connection.subscriptions)
    questions = []
    for wish in group.values():
        room -= wish.channel.wire not in connection.subscriptions
        questions.append(_prepare(hub, connection, wish, has_room=room >= 0))
    prepared = await asyncio.gather(*questions, return_exceptions=True)
    try:
        for wish, found in zip(group.values(), prepared, strict=True):
            try:
                if isinstance(found, BaseException):
                    raise found
                await _begin(hub, connection, wish, found)
            except Exception as error:
                connection.refuse(hub.as_hub_error(error), wish.re, wish.channel.wire)
    finally:  # the socket may be gone before all have begun
        for found in prepared:
            if isinstance(found, Prepared) and found.sub.phase is Phase.OPENING:
                _withdraw(hub, found.fanout, found.sub)


@dataclass(frozen=True, slots=True)
class Prepared:
    """A subscription about which nothing was told yet: it holds back signals, and its opening is decided."""

    fanout: Fanout
    sub: Sub
    opening: Opening


async def _prepare(hub: Hub, connection: Connection, wish: Wish, *, has_room: bool) -> Prepared:
    """Take a place in the channel and decide how it opens. A place the connection has there rests meanwhile.

    Raises:
        HubError: 4003, 4015.
        LogUnavailable: Redis is away; what the connection follows is as it was.
    """
    if not connection.session.principal.grants.allows(wish.channel.wire, "read"):
        raise HubError(4003, "your token does not allow read in this channel")
    if not has_room:
        raise HubError(4015, f"a connection follows {hub.settings.max_subscriptions} channels at most; leave some")
    former = connection.subscriptions.get(wish.channel.wire)
    if former is not None:
        former[1].rest()
    try:
        fanout, decision = await _follow(hub, wish)
        sub: Sub = Subscription(connection, wish.wants_presence)
        fanout.subscribers.add(sub)
        try:
            return Prepared(fanout, sub, await _open(hub, wish, fanout, decision))
        except BaseException:
            _withdraw(hub, fanout, sub)
            raise
    except BaseException:
        if former is not None and former[1].go_on():
            hub.note_behind(*former)
        raise


def _withdraw(hub: Hub, fanout: Fanout, sub: Sub) -> None:
    """Give up a place of which nothing was told."""
    sub.end()
    fanout.subscribers.discard(sub)
    hub.left(fanout)


async def _begin(hub: Hub, connection: Connection, wish: Wish, prepared: Prepared) -> None:
    """Tell how it opens, replay, and go live. Subscribing again starts over."""
    sub = prepared.sub
    connection_left(connection, wish.channel)
    connection.subscriptions[wish.channel.wire] = (prepared.fanout, sub)
    try:
        await _replay(hub, prepared.fanout, sub, wish, prepared.opening)
    except BaseException:
        if sub.phase is not Phase.LIVE:
            connection_left(connection, wish.channel)
        raise
    hub.presence.joined(connection, wish.channel)


async def _follow(hub: Hub, wish: Wish) -> tuple[Fanout, Decision]:
    """The channel's fan-out, and what was decided about the same life of the log that it tells of."""
    while True:
        decision = await _decide(hub, wish)
        fanout = hub.follow(wish.channel, decision.look)
        if fanout.epoch == decision.look.epoch:
            return fanout, decision
        await tell_break(hub, fanout)


async def _decide(hub: Hub, wish: Wish) -> Decision:
    if wish.rewind is not None:
        newest = await hub.log.replay.page_back(wish.channel, limit=wish.rewind + 1) if wish.rewind else []
        look = await hub.log.look(wish.channel)
        if not wish.rewind:
            return Decision(look, look.head)
        if len(newest) > wish.rewind:
            return Decision(look, Position(newest[-1].id.decode(), newest[-1].seq))
        return Decision(look, look.floor)
    if wish.cursor.after == LIVE:
        return Decision(await hub.log.look(wish.channel))
    look = await hub.log.look(wish.channel, wish.cursor.after)
    verdict = limit_replay(judge(wish.cursor, look), look.head, REPLAY_EVENTS_MAX)
    hub.meters.resumes += 1
    if isinstance(verdict, Resumable):
        return Decision(look, verdict.after)
    hub.meters.gaps[verdict.reason.value] += 1
    return Decision(look, gap=verdict)


async def _open(hub: Hub, wish: Wish, fanout: Fanout, decision: Decision) -> Opening:
    while True:
        look, moves = decision.look, fanout.move_count
        state = await hub.states.read(wish.channel, look) if wish.wants_state or decision.gap else None
        if fanout.move_count == moves:
            head = max(look.head, state.position, key=lambda p: p.seq) if state else look.head
            return Opening(look, decision.start or head, head, decision.gap, state.json if state else None)
        decision = await _decide(hub, wish)  # the log broke meanwhile: what was decided is about another one


async def _replay(hub: Hub, fanout: Fanout, sub: Sub, wish: Wish, opening: Opening) -> None:
    connection, head = sub.connection, opening.head
    sub.replay(opening.start.id, opening.start.seq, owes_receipt=wish.is_resume)
    connection.push(subscribed_frame(wish.channel, opening, wish.re))
    _release_signals(sub)
    while sub.phase is Phase.REPLAYING and sub.seq < head.seq:
        await connection.drained()
        seq = sub.seq
        page = await hub.log.page(fanout.channel, sub.after, PAGE_EVENTS, head.id)
        if sub.phase is Phase.REPLAYING and not send_page(sub, fanout, page, seq):
            await tell_lost(hub, fanout, sub)
    if sub.phase is Phase.REPLAYING:
        if sub.owes_receipt:
            connection.push(resumed_frame(wish.channel, opening))
        sub.follow()
    await read_on(sub, fanout, hub.log.replay)


def _release_signals(sub: Sub) -> None:
    held, sub.held_signals = sub.held_signals, None
    if held:
        sub.connection.push(b"".join(held))


def connection_left(connection: Connection, channel: Channel) -> bool:
    """End a connection's subscription; false when it had none."""
    found = connection.subscriptions.pop(channel.wire, None)
    if found is None:
        return False
    fanout, sub = found
    sub.end()
    fanout.subscribers.discard(sub)
    if connection.behind is not None:
        connection.behind.pop(sub, None)
    connection.hub.left(fanout)
    return True
