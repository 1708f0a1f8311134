"""One subscription from request to live: look, decide, tell, replay, receipt, join (PROTOCOL 3).

The order on the wire: `channel.subscribed`, the replayed events, `channel.resumed`, live events. The fence is the head named in
`channel.subscribed`: what is after it is live. Where the state is included it stands exactly at that head.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from hub.catch_up import read_on, send_page
from hub.errors import HubError
from hub.fanout import Fanout, Sub
from hub.frames import reply, to_json
from hub.states import StateAt
from hub.subscription import Phase, Subscription
from hub.transports.frame_codec import encode_text
from streams.channel import Channel
from streams.cursor import LIVE, Cursor, Gap, Look, Position, Resumable, judge, limit_replay
from streams.redis.replay import PAGE_EVENTS

if TYPE_CHECKING:
    from hub.connection import Connection
    from hub.hub import Hub

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
class Opening:
    """What was decided: from where the replay starts, where the fence is, and what is missing."""

    look: Look
    start: Position
    head: Position
    gap: Gap | None
    state: StateAt | None


async def subscribe_all(hub: Hub, connection: Connection, wishes: Iterable[Wish | RefusedChannel]) -> None:
    """Subscribe to several channels, in order; each is answered for itself."""
    for wish in wishes:
        if isinstance(wish, RefusedChannel):
            connection.refuse(wish.error, wish.re, wish.name)
            continue
        try:
            _check(hub, connection, wish)
            await subscribe(hub, connection, wish)
        except Exception as error:
            connection.refuse(hub.as_hub_error(error), wish.re, wish.channel.wire)


def _check(hub: Hub, connection: Connection, wish: Wish) -> None:
    wire = wish.channel.wire
    if not connection.session.principal.grants.allows(wire, "read"):
        raise HubError(4003, "your token does not allow read in this channel")
    if wire not in connection.subscriptions and len(connection.subscriptions) >= hub.settings.max_subscriptions:
        raise HubError(4015, f"a connection follows {hub.settings.max_subscriptions} channels at most; leave some")


async def subscribe(hub: Hub, connection: Connection, wish: Wish) -> None:
    """Subscribe a connection to one channel, from the cursor it has. Subscribing again starts over.

    Raises:
        LogUnavailable: Redis is away; the connection is not subscribed.
    """
    connection_left(connection, wish.channel)
    look, start, gap = await _decide(hub, wish)
    fanout = hub.follow(wish.channel, look)
    sub: Sub = Subscription(connection, wish.wants_presence)
    fanout.subscribers.add(sub)
    connection.subscriptions[wish.channel.wire] = (fanout, sub)
    try:
        opening = await _open(hub, wish, look, start, gap)
        if sub.phase is Phase.ENDED:
            return
        await _replay(hub, fanout, sub, wish, opening)
    except BaseException:
        if sub.phase is not Phase.LIVE:
            connection_left(connection, wish.channel)
        raise
    hub.presence.joined(connection, wish.channel)


async def _decide(hub: Hub, wish: Wish) -> tuple[Look, Position | None, Gap | None]:
    """The look, where a replay starts (None: at the head), and the gap if the cursor cannot be resumed."""
    if wish.rewind is not None:
        newest = await hub.log.replay.page_back(wish.channel, limit=wish.rewind + 1) if wish.rewind else []
        look = await hub.log.look(wish.channel)
        if not wish.rewind:
            return look, look.head, None
        if len(newest) > wish.rewind:
            return look, Position(newest[-1].id.decode(), newest[-1].seq), None
        return look, look.floor, None
    if wish.cursor.after == LIVE:
        return await hub.log.look(wish.channel), None, None
    look = await hub.log.look(wish.channel, wish.cursor.after)
    verdict = limit_replay(judge(wish.cursor, look), look.head, REPLAY_EVENTS_MAX)
    hub.meters.resumes += 1
    if isinstance(verdict, Resumable):
        return look, verdict.after, None
    hub.meters.gaps[verdict.reason.value] += 1
    return look, None, verdict


async def _open(hub: Hub, wish: Wish, look: Look, start: Position | None, gap: Gap | None) -> Opening:
    state = await hub.states.read(wish.channel, look) if wish.wants_state or gap else None
    head = max(look.head, state.position, key=lambda p: p.seq) if state else look.head
    return Opening(look, start or head, head, gap, state)


async def _replay(hub: Hub, fanout: Fanout, sub: Sub, wish: Wish, opening: Opening) -> None:
    connection, head = sub.connection, opening.head
    sub.begin(opening.start.id, opening.start.seq)
    connection.push(subscribed_frame(wish.channel, opening, wish.re))
    _release_signals(sub)
    while sub.phase is Phase.CATCHING_UP and sub.seq < head.seq:
        await connection.drained()
        page = await hub.log.page(fanout.channel, sub.after, PAGE_EVENTS, head.id)
        if sub.phase is Phase.CATCHING_UP and not send_page(sub, fanout, page):
            fanout.broken()
            break
    if wish.is_resume and sub.phase is not Phase.ENDED:
        connection.push(_resumed_frame(wish.channel, opening))
    await read_on(sub, fanout, hub.log.replay)


def _release_signals(sub: Sub) -> None:
    held, sub.held_signals = sub.held_signals, None
    if held:
        sub.connection.push(b"".join(held))


def subscribed_frame(channel: Channel, opening: Opening, re: str | None) -> bytes:
    """`channel.subscribed`. The state is JSON already and joined in as bytes."""
    look, state = opening.look, opening.state
    fields = to_json(
        {
            "epoch": look.epoch, "head": opening.head._asdict(), "floor": look.floor._asdict(),
            "recovered": opening.gap is None, "replay": opening.head.seq - opening.start.seq, "gap": gap_json(opening.gap),
            "state_at": opening.head.seq,
        }
    )  # fmt: skip
    if state is not None:
        fields = b'%b,"state":%b}' % (fields[:-1], state.json)
    return encode_text(reply("channel.subscribed", re, channel.wire, fields))


def _resumed_frame(channel: Channel, opening: Opening) -> bytes:
    count = opening.head.seq - opening.start.seq
    receipt = {
        "from_seq": opening.start.seq + 1 if count else None, "to_seq": opening.head.seq if count else None,
        "count": count, "gap": gap_json(opening.gap),
    }  # fmt: skip
    return encode_text(reply("channel.resumed", None, channel.wire, to_json(receipt)))


def gap_json(gap: Gap | None) -> dict[str, object] | None:
    """A gap as the wire writes it."""
    return None if gap is None else {"reason": gap.reason.value, "from_seq": gap.from_seq, "to_seq": gap.to_seq}


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


async def tell_break(hub: Hub, fanout: Fanout) -> None:
    """The tail lost its place: hold it against the log again, and tell every subscriber when it broke.

    Raises:
        LogUnavailable: Redis is away again; the tail speaks up when it is back.
    """
    position = fanout.position
    look = await hub.log.look(fanout.channel, position.id)
    verdict = judge(Cursor(position.id, position.seq, fanout.epoch), look)
    if isinstance(verdict, Resumable):
        fanout.go_on(look)
        return
    state = await hub.states.read(fanout.channel, look)
    fanout.move(look)
    hub.meters.gaps[verdict.reason.value] += len(fanout.subscribers)
    head = max(look.head, state.position, key=lambda p: p.seq)
    for sub in list(fanout.subscribers):
        if sub.phase is not Phase.OPENING:
            sub.begin(head.id, head.seq)
            sub.connection.push(subscribed_frame(fanout.channel, Opening(look, head, head, verdict, state), None))
            hub.note_behind(fanout, sub)
