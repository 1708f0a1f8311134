"""Where the log does not continue as it was known: each subscriber concerned is told what is missing, and where it stands now."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hub.node.fanout import Fanout, Sub
from hub.node.states import StateAt
from hub.protocol.receipts import Opening, resumed_frame, subscribed_frame
from hub.protocol.subscription import Phase
from streams.cursor import Cursor, Gap, GapReason, Look, Position, Resumable, judge

if TYPE_CHECKING:
    from hub.node.hub import Hub

_WITH_A_PLACE = frozenset({Phase.REPLAYING, Phase.CATCHING_UP, Phase.LIVE})


async def tell_break(hub: Hub, fanout: Fanout) -> None:
    """The tail lost its place: hold it against the log again, and tell every subscriber when it broke.

    A subscription that was replayed further than the tail stands is held against the log by its own place.

    Raises:
        LogUnavailable: Redis is away again; the tail speaks up when it is back.
    """
    position, moves = fanout.position, fanout.move_count
    look = await hub.log.look(fanout.channel, position.id)
    if fanout.move_count != moves:
        return  # somebody else has told it
    gap = _missing(judge(Cursor(position.id, position.seq, fanout.epoch), look), position, look)
    if gap is None:
        fanout.go_on(look)
        for sub in [sub for sub in fanout.subscribers if sub.seq > fanout.position.seq]:
            await _tell_one(hub, fanout, sub)
        return
    state = await hub.states.read(fanout.channel, look)
    if fanout.move_count != moves:
        return
    fanout.move(look)
    for sub in list(fanout.subscribers):
        if sub.phase in _WITH_A_PLACE:
            _stand_at_head(hub, fanout, sub, look, state, _seen_from(sub, gap))


def _seen_from(sub: Sub, gap: Gap) -> Gap:
    """The tail's gap for a subscription that stands elsewhere: what it misses begins after its own place."""
    if gap.from_seq is None or gap.to_seq is None:
        return gap
    return Gap(gap.reason, min(sub.seq, gap.to_seq - 1) + 1, gap.to_seq)


async def tell_lost(hub: Hub, fanout: Fanout, sub: Sub) -> None:
    """What was read after a subscription's place does not follow it: tell it what is missing, if anything is.

    Raises:
        LogUnavailable: Redis is away; nothing was told, and the place stays.
    """
    place = (sub.after, sub.seq)
    await tell_break(hub, fanout)
    if (sub.after, sub.seq) == place:
        await _tell_one(hub, fanout, sub)


async def _tell_one(hub: Hub, fanout: Fanout, sub: Sub) -> None:
    place, moves = Position(sub.after, sub.seq), fanout.move_count
    look = await hub.log.look(fanout.channel, place.id)
    gap = _missing(judge(Cursor(place.id, place.seq, fanout.epoch), look), place, look)
    if gap is None:
        return
    state = await hub.states.read(fanout.channel, look)
    if sub.phase in _WITH_A_PLACE and (sub.after, sub.seq) == place and fanout.move_count == moves:
        _stand_at_head(hub, fanout, sub, look, state, gap)


def _missing(verdict: Resumable | Gap, place: Position, look: Look) -> Gap | None:
    if isinstance(verdict, Gap):
        return verdict
    if look.next is not None and look.next.seq != place.seq + 1:  # the place is there, but what followed it is not
        return Gap(GapReason.TRIMMED, place.seq + 1, look.next.seq - 1)
    return None


def _stand_at_head(hub: Hub, fanout: Fanout, sub: Sub, look: Look, state: StateAt, gap: Gap) -> None:
    head = max(look.head, state.position, key=lambda p: p.seq)
    opening = Opening(look, head, head, gap, state.json)
    hub.meters.gaps[gap.reason.value] += 1
    sub.begin(head.id, head.seq)
    sub.connection.push(subscribed_frame(fanout.channel, opening, None))
    if sub.owes_receipt:
        sub.owes_receipt = False
        sub.connection.push(resumed_frame(fanout.channel, opening))
    hub.note_behind(fanout, sub)
