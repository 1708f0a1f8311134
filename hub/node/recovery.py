"""Brings subscriptions to the tail again: those that stand behind, and those whose log does not continue as it was known.

A subscription behind is sent pages of the log, as fast as its socket takes them. Where the log broke, each subscriber
concerned is told what is missing, and stands at the head afterwards.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from hub.errors import HubError
from hub.node.fanout import Fanout, Sub
from hub.node.turns import Turns
from hub.ports import NodePort, Subscriber
from hub.protocol.replies import Opening, StateAt, resumed, subscribed
from hub.protocol.subscription import Phase
from streams.channel import Channel
from streams.cursor import Cursor, Gap, GapReason, Look, Position, judge
from streams.envelope import Entry, unbroken, until_damage
from streams.errors import LogUnavailable, StreamsError
from streams.redis.replay import PAGE_EVENTS

AGAIN_S: Final = 0.5
"""Pause before a channel is looked at again that Redis could not show, although it is there (BUSY, a full memory)."""
_log: Final = logging.getLogger(__name__)
_WITH_A_PLACE = frozenset({Phase.REPLAYING, Phase.CATCHING_UP, Phase.LIVE})


class Recovery:
    """The subscriptions of one node that are not live, and the way back.

    Args:
        channel_configured: told of a followed channel whose settings have changed, or may have.
        turns: for the pages read.
    """

    def __init__(self, node: NodePort, channel_configured: Callable[[Channel], None], turns: Turns) -> None:
        self._node = node
        self._turns = turns
        self._channel_configured = channel_configured
        self._behind: dict[Subscriber, dict[Sub, None]] = {}
        self._tasks: dict[Subscriber, asyncio.Task[None]] = {}

    # Behind the tail

    def note_behind(self, sub: Sub) -> None:
        """A subscription stands behind the tail: catch it up when its socket takes more, or give it up."""
        connection = sub.connection
        if sub.fanout.position.seq - sub.seq > self._node.settings.max_lag_events:
            self._node.metrics.slow_closes += 1
            connection.fail(HubError(4012, "too far behind; reconnect with your cursor"))
            return
        self._behind.setdefault(connection, {})[sub] = None
        self.catch_up(connection)  # also when it was noted: a catch-up that lost Redis left it so

    def catch_up(self, connection: Subscriber) -> None:
        """Begin to catch a connection up, if it is behind, can take more, and is not being caught up already."""
        if connection in self._behind and connection.is_writable and connection not in self._tasks:
            self._tasks[connection] = self._node.spawn(self._catch_up(connection))

    def is_catching_up(self, connection: Subscriber) -> bool:
        """True while pages are read for a connection."""
        return connection in self._tasks

    def ended(self, sub: Sub) -> None:
        """A subscription has ended: it needs no catching up."""
        if (behind := self._behind.get(sub.connection)) is not None:
            behind.pop(sub, None)

    def drop(self, connection: Subscriber) -> None:
        """The connection is gone. Its catch-up may wait for a buffer that never drains."""
        self._behind.pop(connection, None)
        if (task := self._tasks.pop(connection, None)) is not None:
            task.cancel()

    async def _catch_up(self, connection: Subscriber) -> None:
        """Bring every subscription the connection is behind in to the tail; more may be noted meanwhile."""
        behind = self._behind[connection]
        try:
            while behind:
                sub = next(iter(behind))
                await self.read_on(sub)
                behind.pop(sub, None)
            self._behind.pop(connection, None)
        except LogUnavailable:
            # They stay noted. When Redis is back the tail reports it, which begins anew; if it was never lost, nothing else would.
            if self._node.log.is_available:
                asyncio.get_running_loop().call_later(AGAIN_S, self.catch_up, connection)
        except Exception as error:
            connection.fail(self._node.as_hub_error(error))
        finally:
            self._tasks.pop(connection, None)

    async def read_on(self, sub: Sub) -> None:
        """Send pages after the subscription's position until it can join the tail.

        Raises:
            LogUnavailable: the subscription stands where the last page that was sent ends.
        """
        connection, fanout = sub.connection, sub.fanout
        while sub.phase is Phase.CATCHING_UP:
            await connection.drained()
            if sub.phase is not Phase.CATCHING_UP or fanout.try_join(sub):
                return
            seq = sub.seq
            async with self._turns:
                page = await self._node.log.replay.page(fanout.channel, sub.after, PAGE_EVENTS)
                is_sent = sub.phase is not Phase.CATCHING_UP or self.send_page(sub, page, seq)
            if not is_sent:
                await self.tell_lost(sub)

    def send_page(self, sub: Sub, page: list[Entry], after_seq: int) -> bool:
        """Send a page read after the subscription's position, then `after_seq`; false when it does not continue there.

        Another reader may have sent a part of it meanwhile: that is passed over. An event after the position by ID that is
        not after it by seq shows another history, in which a replica was promoted that had not seen the position.
        """
        connection, fanout = sub.connection, sub.fanout
        if page and page[0].seq <= after_seq:
            return False
        new = [entry for entry in page if entry.seq > sub.seq]
        if not new:
            return fanout.position.seq <= sub.seq and sub.phase is not Phase.REPLAYING
        new = unbroken(until_damage(new), sub.seq)
        if not new:
            return False  # otherwise the next page begins with the hole
        connection.push(fanout.encode([entry.wire(fanout.wire) for entry in new], connection.encoding))
        self._node.metrics.events_out += len(new)
        sub.advance(new[-1].id.decode(), new[-1].seq)
        connection.flush()  # so that the next page waits for the socket, not for the tick
        return True

    # Where settings changed, or the log broke

    def note_configured(self, fanout: Fanout) -> None:
        """A channel's settings have changed."""
        self._channel_configured(fanout.channel)

    def note_broken(self, fanout: Fanout) -> None:
        """The tail cannot be sure of its place in a channel: look, and tell."""
        self._node.spawn(self._mend(fanout))

    async def _mend(self, fanout: Fanout) -> None:
        try:
            await self.tell_break(fanout)
        except StreamsError:  # when Redis is back the tail reports it again; if it was never lost, nothing else would
            if self._node.log.is_available and fanout.subscribers:
                asyncio.get_running_loop().call_later(AGAIN_S, self.note_broken, fanout)
            return
        for sub in list(fanout.subscribers):
            if sub.phase is Phase.CATCHING_UP:
                self.note_behind(sub)

    async def tell_break(self, fanout: Fanout) -> None:
        """Compare the tail's place with the log, and tell every subscriber of a break.

        A subscription that was replayed further than the tail stands is compared by its own place.

        Raises:
            LogUnavailable: Redis is unreachable again; the tail reports it when it is back.
        """
        position, moves = fanout.position, fanout.move_count
        look = await self._node.log.look(fanout.channel, position.id)
        if fanout.move_count != moves:
            return  # somebody else has told it
        gap = await self._missing(fanout, position, look)
        if fanout.move_count != moves:
            return
        if gap is None:
            fanout.go_on(look)
            for sub in [sub for sub in fanout.subscribers if sub.seq > fanout.position.seq]:
                await self._tell_one(sub)
            return
        state = await self._node.states.read(fanout.channel, look)
        if fanout.move_count != moves:
            return
        fanout.move(look)
        self._channel_configured(fanout.channel)
        for sub in list(fanout.subscribers):
            if sub.phase in _WITH_A_PLACE:
                self._stand_at_head(sub, look, state, _seen_from(sub, gap))

    async def tell_lost(self, sub: Sub) -> None:
        """The events read after a subscription's place do not follow it: tell it what is missing, if anything is.

        Raises:
            LogUnavailable: Redis is unreachable; nothing was told, and the place stays.
        """
        place = (sub.after, sub.seq)
        await self.tell_break(sub.fanout)
        if (sub.after, sub.seq) == place:
            await self._tell_one(sub)

    async def _tell_one(self, sub: Sub) -> None:
        fanout = sub.fanout
        place, moves = Position(sub.after, sub.seq), fanout.move_count
        look = await self._node.log.look(fanout.channel, place.id)
        gap = await self._missing(fanout, place, look)
        if gap is None:
            return
        state = await self._node.states.read(fanout.channel, look)
        if sub.phase in _WITH_A_PLACE and (sub.after, sub.seq) == place and fanout.move_count == moves:
            self._stand_at_head(sub, look, state, gap)

    async def _missing(self, fanout: Fanout, place: Position, look: Look) -> Gap | None:
        """The events that cannot be had between a place and the head.

        What is stored behind the place may come from a disk, past the eyes of the tail: it is held against its checksums.
        """
        verdict = judge(Cursor(place.id, place.seq, fanout.epoch), look)
        if isinstance(verdict, Gap):
            return verdict
        if look.next is None:
            return None
        if look.next.seq != place.seq + 1:  # the place is there, but its successor is not
            return Gap(GapReason.TRIMMED, place.seq + 1, look.next.seq - 1)
        after = place.id
        while page := await self._node.log.page(fanout.channel, after, PAGE_EVENTS, look.head.id):
            after = page[-1].id.decode()
            if damaged := next((entry.id.decode() for entry in page if entry.is_damaged), None):
                _log.error("event %s of %s is damaged; readers get a gap in its place", damaged, fanout.channel.path)
                return Gap(GapReason.TRIMMED, place.seq + 1, look.head.seq)
        return None

    def _stand_at_head(self, sub: Sub, look: Look, state: StateAt, gap: Gap) -> None:
        channel, connection = sub.fanout.channel, sub.connection
        head = max(look.head, state.position, key=lambda p: p.seq)
        opening = Opening(look, head, head, gap, state.json)
        self._node.metrics.gaps[gap.reason.value] += 1
        sub.begin(head.id, head.seq)
        connection.tell(channel, subscribed(channel, opening, None, tells_scope=connection.holds_state))
        if sub.owes_receipt:
            sub.receipt_given()
            connection.send(resumed(channel, opening))
        self.note_behind(sub)


def _seen_from(sub: Sub, gap: Gap) -> Gap:
    """The tail's gap for a subscription that stands elsewhere: it begins after the subscription's own place."""
    if gap.from_seq is None or gap.to_seq is None:
        return gap
    return Gap(gap.reason, min(sub.seq, gap.to_seq - 1) + 1, gap.to_seq)
