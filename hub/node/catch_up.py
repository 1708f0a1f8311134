"""Bringing subscriptions that stand behind up to the tail, from the log, as fast as their socket takes it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hub.node.fanout import Fanout, Sub, encode_events
from hub.node.recovery import tell_lost
from hub.protocol.subscription import Phase
from streams.envelope import Entry
from streams.errors import LogUnavailable
from streams.redis.replay import PAGE_EVENTS, Replay, unbroken

if TYPE_CHECKING:
    from hub.node.connection import Connection


async def catch_up(connection: Connection, replay: Replay) -> None:
    """Bring every subscription the connection is behind in to the tail. Ends early, and resumable, when Redis is away.

    Only the subscriptions noted in `connection.behind` are looked at; more may be noted meanwhile.
    """
    while connection.behind:
        sub, fanout = next(iter(connection.behind.items()))
        try:
            await read_on(sub, fanout, replay)
        except LogUnavailable:
            return  # it stays noted; when the log is back the tail speaks again and the catch-up is begun anew
        connection.behind.pop(sub, None)
    connection.behind = None


async def read_on(sub: Sub, fanout: Fanout, replay: Replay) -> None:
    """Send pages after the subscription's position until it can join the tail.

    Raises:
        LogUnavailable: the subscription stands where the last page that was sent ends.
    """
    connection = sub.connection
    while sub.phase is Phase.CATCHING_UP:
        await connection.drained()
        if sub.phase is not Phase.CATCHING_UP or fanout.try_join(sub):
            return
        seq = sub.seq
        page = await replay.page(fanout.channel, sub.after, PAGE_EVENTS)
        if sub.phase is Phase.CATCHING_UP and not send_page(sub, fanout, page, seq):
            await tell_lost(connection.hub, fanout, sub)


def send_page(sub: Sub, fanout: Fanout, page: list[Entry], after_seq: int) -> bool:
    """Send a page read after the subscription's position, then `after_seq`; false when it does not continue there.

    Another reader may have sent a part of it meanwhile: that is passed over. An event after the position by ID that is not
    after it by seq shows another history, in which a replica was promoted that had not seen the position.
    """
    if page and page[0].seq <= after_seq:
        return False
    new = [entry for entry in page if entry.seq > sub.seq]
    if not new:
        return fanout.position.seq <= sub.seq and sub.phase is not Phase.REPLAYING
    new = unbroken(new, sub.seq)
    if not new:
        return False  # otherwise the next page begins with the hole
    sub.connection.push(encode_events([entry.wire(fanout.wire) for entry in new], sub.connection.is_batch))
    sub.connection.hub.meters.events_out += len(new)
    sub.advance(new[-1].id.decode(), new[-1].seq)
    sub.connection.flush()  # so that the next page waits for the socket, not for the tick
    return True
