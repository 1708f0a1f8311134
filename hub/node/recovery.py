"""Brings subscriptions back to the tail: those that lag behind, and those whose log no longer continues from their position.

A lagging subscription is sent pages of the log as fast as its socket takes them. If the log broke off, each
subscriber concerned is sent the gap, and continues from the head; if the channel was deleted, its subscriptions end.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from hub.errors import HubError
from hub.limits.slices import Slices
from hub.node.fanout import Fanout, Sub
from hub.node.pages import SharedPage, SharedPages
from hub.node.turns import Turns
from hub.ports import NodePort, Subscriber
from hub.protocol.replies import Opening, StateAt, resumed, subscribed
from hub.protocol.subscription import Phase
from streams.archive.segments import read_line
from streams.channel import Channel
from streams.cursor import Cursor, Gap, GapReason, Look, Position, judge
from streams.errors import LogUnavailable, StreamsError
from streams.redis.replay import PAGE_EVENTS
from streams.tracing import is_traced
from streams.wire_page import WirePage

AGAIN_S: Final = 0.5
"""Seconds before another attempt to read a channel after Redis refused although reachable (BUSY, out of memory)."""
_log: Final = logging.getLogger(__name__)
_WITH_A_PLACE = frozenset({Phase.REPLAYING, Phase.CATCHING_UP, Phase.LIVE})


class Recovery:
    """The subscriptions of one node that are not live, and the work of making them live again.

    Args:
        node: the node.
        channel_configured: called for a followed channel whose settings have, or may have, changed.
        channel_deleted: called for a followed channel that was deleted.
        turns: limits how many pages are read at a time.
        slices: grants the time to encode them.

    Attributes:
        pages: reads pages for subscriptions, and shares them.
    """

    def __init__(
        self,
        node: NodePort,
        channel_configured: Callable[[Channel], None],
        channel_deleted: Callable[[Fanout], None],
        turns: Turns,
        slices: Slices,
    ) -> None:
        self._node = node
        self._turns = turns
        self._slices = slices
        self.pages = SharedPages(node.log, slices)
        self._channel_configured, self._channel_deleted = channel_configured, channel_deleted
        self._behind: dict[Subscriber, dict[Sub, None]] = {}
        self._tasks: dict[Subscriber, asyncio.Task[None]] = {}

    # Behind the tail

    def note_behind(self, sub: Sub) -> None:
        """Handles a subscription behind the tail.

        It is caught up once its socket has room; if it is too far behind, its socket is closed.
        """
        connection = sub.connection
        if sub.fanout.position.seq - sub.seq > self._node.settings.max_lag_events:
            self._node.metrics.slow_closes += 1
            connection.fail(HubError(4012, "too far behind; reconnect with your cursor"))
            return
        self._behind.setdefault(connection, {})[sub] = None
        self.catch_up(connection)  # even if already noted: a catch-up that failed for lack of Redis leaves it noted

    def catch_up(self, connection: Subscriber) -> None:
        """Starts to catch a connection up if it lags behind, has room, and is not being caught up already."""
        if connection in self._behind and connection.is_writable and connection not in self._tasks:
            self._tasks[connection] = self._node.spawn(self._catch_up(connection))

    @property
    def behind_count(self) -> int:
        """The number of subscriptions that are behind their channel."""
        return sum(map(len, self._behind.values()))

    @property
    def lag_events(self) -> int:
        """The events by which the slowest subscription is behind its channel."""
        behind = (sub for several in self._behind.values() for sub in several)
        return max((sub.fanout.position.seq - sub.seq for sub in behind), default=0)

    def is_catching_up(self, connection: Subscriber) -> bool:
        """True while pages are read for a connection."""
        return connection in self._tasks

    def ended(self, sub: Sub) -> None:
        """Forgets a subscription that has ended."""
        if (behind := self._behind.get(sub.connection)) is not None:
            behind.pop(sub, None)

    def drop(self, connection: Subscriber) -> None:
        """Stops catching up a closed connection, which may be waiting for a write buffer that never drains."""
        self._behind.pop(connection, None)
        if (task := self._tasks.pop(connection, None)) is not None:
            task.cancel()

    async def _catch_up(self, connection: Subscriber) -> None:
        """Brings every lagging subscription of a connection to the tail; more may be added meanwhile."""
        behind, failed = self._behind[connection], set[Sub]()
        try:
            while (sub := next((one for one in behind if one not in failed), None)) is not None:
                try:
                    await self.read_on(sub)
                except LogUnavailable:  # the channels on other servers of a Cluster go on
                    failed.add(sub)
                else:
                    behind.pop(sub, None)
            if not behind:
                self._behind.pop(connection, None)
            elif any(self._node.log.reaches(one.fanout.channel) for one in behind):
                # They stay noted. The tail's report that Redis is back starts this again; if it was never lost, the timer does.
                asyncio.get_running_loop().call_later(AGAIN_S, self.catch_up, connection)
        except Exception as error:
            connection.fail(self._node.as_hub_error(error))
        finally:
            self._tasks.pop(connection, None)

    async def read_on(self, sub: Sub) -> None:
        """Sends pages after the subscription's position until it can join the tail.

        Raises:
            LogUnavailable: the position is the end of the last page that was sent.
        """
        connection, fanout = sub.connection, sub.fanout
        while sub.phase is Phase.CATCHING_UP:
            await connection.drained()
            if sub.phase is not Phase.CATCHING_UP or fanout.try_join(sub):
                return
            async with self._turns:
                place = Position(sub.after, sub.seq)
                page = await self.pages.read(fanout, place.id)
                await self._slices.turn()
                is_sent = sub.phase is not Phase.CATCHING_UP or self.send_page(sub, page, place)
            if not is_sent:
                await self.tell_lost(sub)

    def send_page(self, sub: Sub, page: SharedPage, after: Position) -> bool:
        """Sends a page that was read after `after`, the subscription's position then.

        Returns False if the page does not continue from the position. Events that were sent meanwhile are
        skipped. If an event has a later id than the position but not a higher seq, a replica was promoted
        that lacked the position: another history. So it is if the position is another one by now, and not
        that of an event of the page: the subscription was moved to another head meanwhile.
        """
        connection, fanout, events = sub.connection, sub.fanout, page.events
        if events.read_count and events.first_seq <= after.seq:
            return False
        if not events.read_count or (events.last_seq <= sub.seq and events.read_count == len(events.lines)):
            return fanout.position.seq <= sub.seq and sub.phase is not Phase.REPLAYING
        if not events.first_seq <= sub.seq + 1 <= events.last_seq:
            return False  # the page begins with a hole or a damaged event, and so would the next one
        if sub.after != after.id and not _has(events, sub.after, sub.seq):
            return False
        lines = events.lines[sub.seq + 1 - events.first_seq :]
        if len(lines) == len(events.lines):
            connection.push(page.frames(fanout, connection.encoding))
        else:
            connection.push(fanout.encode(lines, connection.encoding))
        self._node.metrics.events_out += len(lines)
        if self._node.tracing is not None:
            fanout.trace("replay", [read_line(line) for line in lines if is_traced(line)], 0.0, 1)
        sub.advance(events.last_id, events.last_seq)
        connection.flush()  # written now, so that the next page waits for the socket and not for the end of the loop iteration
        return True

    # Changed settings and broken logs

    def note_configured(self, fanout: Fanout) -> None:
        """Handles a change of a channel's settings."""
        self._channel_configured(fanout.channel)

    def note_broken(self, fanout: Fanout) -> None:
        """Handles a tail that may have lost its position in a channel: checks it, and reports a break to the subscribers."""
        self._node.spawn(self._mend(fanout))

    async def _mend(self, fanout: Fanout) -> None:
        try:
            await self.tell_break(fanout)
        except (
            StreamsError
        ):  # the tail's report that Redis is back starts this again; if it was never lost, the timer does
            if self._node.log.reaches(fanout.channel) and fanout.subscribers:
                asyncio.get_running_loop().call_later(AGAIN_S, self.note_broken, fanout)
            return
        for sub in list(fanout.subscribers):
            if sub.phase is Phase.CATCHING_UP:
                self.note_behind(sub)

    async def tell_break(self, fanout: Fanout) -> None:
        """Compares the tail's position with the log, and sends every subscriber the gap if the log broke off.

        A subscription that was replayed beyond the tail is compared by its own position.

        Raises:
            LogUnavailable: Redis is unreachable again; the tail reports when it is back.
        """
        self.pages.forget(fanout)
        position, moves = fanout.position, fanout.move_count
        look = await self._node.log.look(fanout.channel, position.id)
        if fanout.move_count != moves:
            return  # another task has reported the break
        if look.is_after_deletion and look.epoch != fanout.epoch:
            self._channel_deleted(fanout)
            if fanout.subscribers:  # not announced yet: they are prepared anew, in the channel's next life
                fanout.move(look)
            return
        gap = await self._missing(fanout, position, look)
        if fanout.move_count != moves:
            return
        self.pages.forget(fanout)  # pages read meanwhile may come from the former server
        if gap is None:
            fanout.go_on(look)
            for sub in [sub for sub in fanout.subscribers if sub.seq > fanout.position.seq]:
                await self._tell_one(sub)
            return
        state = await self._node.states.read(fanout.channel, look)
        if fanout.move_count != moves:
            return
        fanout.move(look)
        self.pages.forget(fanout)
        self._channel_configured(fanout.channel)
        for sub in list(fanout.subscribers):
            if sub.phase in _WITH_A_PLACE:
                self._stand_at_head(sub, look, state, _seen_from(sub, gap))

    async def tell_lost(self, sub: Sub) -> None:
        """Sends a subscription the gap after its position, if the events read there do not continue from it.

        Raises:
            LogUnavailable: Redis is unreachable; nothing was sent, and the position is unchanged.
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
        """Returns the events between a position and the head that cannot be read, or None.

        Events after the position may have been loaded from disk without passing the tail, so their checksums
        are verified.
        """
        verdict = judge(Cursor(place.id, place.seq, fanout.epoch), look)
        if isinstance(verdict, Gap):
            return verdict
        if look.next is None:
            return None
        if look.next.seq != place.seq + 1:  # the position exists, but its successor does not
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


def _has(events: WirePage, event_id: str, seq: int) -> bool:
    """True if one of the events has this id and seq."""
    at = seq - events.first_seq
    return at >= 0 and events.lines[at].startswith(b'{"id":"%b",' % event_id.encode())


def _seen_from(sub: Sub, gap: Gap) -> Gap:
    """Adjusts the tail's gap to a subscription with another position: it starts after the subscription's own position."""
    if gap.from_seq is None or gap.to_seq is None:
        return gap
    return Gap(gap.reason, min(sub.seq, gap.to_seq - 1) + 1, gap.to_seq)
