"""Consumer groups on the work streams: read, acknowledge, take over, park, put back.

Every handler has its own group on every partition's work stream. Leases decide which worker reads a partition. Acknowledging
and parking pass the lease's fencing token, so a worker that has lost the partition can do neither.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Container, Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from streams.channel import Channel
from streams.cursor import START, is_id
from streams.envelope import Entry
from streams.errors import CommandRefused, StreamsError
from streams.redis.calls import Calls, pairs, text_pairs
from streams.redis.keys import Keys
from streams.redis.log import Log
from streams.redis.scripts import load
from streams.redis.wire import Reply

_ACK: Final = load("ack")
_DROP_CONSUMERS: Final = load("drop_consumers")
_PARK: Final = load("park")
_PUT_BACK: Final = load("put_back")
_TRIM: Final = load("work_trim")
OWN_GROUP: Final = "own-"
"""Begins the name of a group of a custom handler."""
OWN_IDLE_MS: Final = 7 * 86_400_000
"""Longest time that work waits for such a group: a handler that was taken out of HUB_HANDLERS must not hold it for ever."""
SCAN_COUNT: Final = 500
PAGE: Final = 200
"""Maximum number of entries claimed or listed per call."""
LAG_MAX: Final = 10_000
"""Backlogs are counted up to this number: Redis 6.2 has no `lag`, and counting must not cost more than the work itself."""


class GroupLost(StreamsError):
    """A consumer group no longer exists."""


class Work(NamedTuple):
    """An event to be handled, as read from a work stream.

    Attributes:
        only: the only group that is to handle it, after it was put back; "" for every group.
        attempts: number of deliveries to a handler, including this one; 0 for claimed work, which is counted when it begins.
    """

    partition: int
    id: str
    path: str
    event: str
    type: str
    only: str
    attempts: int = 1

    def log_fields(self) -> Mapping[str, object]:
        """Returns the fields of a log line about this work."""
        tenant, _, wire = self.path.partition(":")
        return {"tenant": tenant, "channel": wire, "event_id": self.event, "type": self.type}


class Parked(NamedTuple):
    """Work that a handler gave up on. `id` is `<partition>:<stream id>`."""

    id: str
    group: str
    path: str
    event: str
    type: str
    reason: str
    attempts: int

    @property
    def tenant(self) -> str:
        """The tenant of its channel."""
        return self.path.partition(":")[0]


class Backlog(NamedTuple):
    """A group's unfinished work.

    Attributes:
        unread: the number of entries that were not read yet.
        pending: the number of entries that were read and not acknowledged.
        oldest: the stream ID of the oldest entry that was read and not acknowledged; None if there is none.
    """

    unread: int
    pending: int
    oldest: str | None


def read_work(partition: int, raw: Sequence[Reply], attempts: int = 1) -> Work:
    """Parse an entry as XREADGROUP and XCLAIM return it: `[id, [name, value, …]]`."""
    fields = pairs(raw[1])
    path, event, type_, only = (fields.get(name, b"").decode() for name in (b"channel", b"event", b"type", b"only"))
    return Work(partition, raw[0].decode(), path, event, type_, only, attempts)


def parse_parked_id(text: str) -> tuple[int, str]:
    """Split the ID of parked work into partition and stream ID.

    Raises:
        ValueError: the text is not an ID as `parked` returns it.
    """
    number, _, stream_id = text.partition(":")
    if not (number.isdecimal() and is_id(stream_id)):
        raise ValueError("a parked id looks like 3:1795367479511-0; `hub parked` lists them")
    return int(number), stream_id


class Groups:
    """The consumer groups of all partitions. `read` blocks and therefore takes the calls of a separate connection."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._keys = log.keys

    async def ensure(self, partition: int, group: str, *, was_there: bool = False) -> bool:
        """Create the group unless it exists; true if it was created.

        A new group starts with the work added from now on. A group that existed before and is now missing was lost, alone or
        with its stream: it is created to start with all existing work, because some of it may be unfinished. Handling work
        twice is harmless, because its effects have idempotency keys.

        Args:
            partition: the partition of the work stream.
            group: the group's name.
            was_there: the caller knows that the group has existed.
        """
        made = self._keys.groups(partition)
        start = "0" if was_there or await self._log.calls_in(partition).call("SISMEMBER", made, group) else "$"
        try:
            await self._log.calls_in(partition).call(
                "XGROUP", "CREATE", self._keys.work(partition), group, start, "MKSTREAM"
            )
        except CommandRefused as error:
            if error.code != "BUSYGROUP":
                raise
            return False
        await self._log.calls_in(partition).call("SADD", made, group)
        return start == "$"

    async def read(
        self, calls: Calls, group: str, consumer: str, partitions: Iterable[int], *, limit: int, block_ms: int
    ) -> list[Work]:
        """Reads work of these partitions that the group has not read yet; waits up to `block_ms` for the first entry.

        Raises:
            GroupLost: the group is missing, alone or with its stream; `ensure` creates it again.
            LogUnavailable: Redis is unreachable, or did not answer within 2 s after `block_ms` (a half-open socket).
        """
        streams = {self._keys.work(partition): partition for partition in partitions}
        reply = await _grouped(
            calls.call(
                "XREADGROUP",
                "GROUP",
                group,
                consumer,
                "COUNT",
                limit,
                "BLOCK",
                block_ms,
                "STREAMS",
                *streams,
                *(b">" for _ in streams),
                timeout_s=block_ms / 1000 + 2.0,
            )
        )
        return [read_work(streams[key], raw) for key, entries in reply or () for raw in entries]

    async def ack(self, partition: int, group: str, token: int, ids: Sequence[str]) -> bool:
        """Acknowledge work. False if the partition was taken over: its new worker will do the work again."""
        keys = (self._keys.lease(partition), self._keys.work(partition))
        return int(await self._log.calls_in(partition).run(_ACK, keys, group, token, *ids)) >= 0

    async def strays(self, partitions: Iterable[int], group: str, consumer: str) -> set[int]:
        """The partitions in which the group has unfinished work that was delivered to another consumer."""
        numbers = list(partitions)
        calls = (self._log.calls_in(at).call("XPENDING", self._keys.work(at), group) for at in numbers)
        replies = await _grouped(asyncio.gather(*calls))
        own = consumer.encode()
        return {at for at, reply in zip(numbers, replies, strict=True) if any(row[0] != own for row in reply[3] or ())}

    async def pending(self, partition: int, group: str, idle_ms: int) -> set[str]:
        """The oldest unfinished entries, up to a page, that were delivered at least `idle_ms` ago."""
        calls, work = self._log.calls_in(partition), self._keys.work(partition)
        return {row[0].decode() for row in await _grouped(_page_of_pending(calls, work, group, idle_ms, "-"))}

    async def claim(self, partition: int, group: str, consumer: str, *, skip: Container[str] = ()) -> list[Work]:
        """Take over entries that the group has read but not acknowledged, oldest first.

        This uses XPENDING and XCLAIM rather than XAUTOCLAIM: work in progress in this process (`skip`) must not be claimed
        again, and Redis 6.2 does not report which claimed entries were deleted. A claim does not count as an attempt: while
        workers and Redis restart, work may be claimed more often than it may fail, without ever having been begun.
        `count_attempt` counts an attempt when it begins.
        """
        calls, work, start = self._log.calls_in(partition), self._keys.work(partition), "-"
        found: list[Work] = []
        while True:
            rows = await _grouped(_page_of_pending(calls, work, group, 0, start))
            wanted = {row[0]: int(row[3]) for row in rows if row[0].decode() not in skip}
            if wanted:
                found += await self._claim(partition, group, consumer, wanted)
            in_hand = [row[0] for row in rows if row[0] not in wanted and row[1] != consumer.encode()]
            if in_hand:  # left from a lost reply: move it to this consumer's name and keep its delivery count
                await _grouped(calls.call("XCLAIM", work, group, consumer, 0, *in_hand, "JUSTID"))
            if len(rows) < PAGE:
                return found
            start = f"({rows[-1][0].decode()}"

    async def drop_consumers(self, partition: int, group: str, consumer: str) -> int:
        """Delete the other consumers that have no unfinished work; their workers are gone. Returns their number."""
        keys = (self._keys.work(partition),)
        return int(await self._log.calls_in(partition).run(_DROP_CONSUMERS, keys, group, consumer))

    async def _claim(self, partition: int, group: str, consumer: str, wanted: Mapping[bytes, int]) -> list[Work]:
        work, calls = self._keys.work(partition), self._log.calls_in(partition)
        entries: dict[bytes, Sequence[Reply]] = {}
        for count in set(wanted.values()):
            ids = [work_id for work_id, counted in wanted.items() if counted == count]
            reply = await _grouped(calls.call("XCLAIM", work, group, consumer, 0, *ids, "RETRYCOUNT", count))
            entries.update((raw[0], raw) for raw in reply if raw is not None and raw[1] is not None)
        if gone := [work_id for work_id in wanted if work_id not in entries]:
            await calls.call("XACK", work, group, *gone)  # deleted by hand: there is nothing left to do
        return [read_work(partition, entries[work_id], 0) for work_id in wanted if work_id in entries]

    async def count_attempt(self, partition: int, group: str, consumer: str, work_id: str) -> int:
        """Deliver an entry to this consumer again, and return its delivery count, which is the number of attempts."""
        key = self._keys.work(partition)
        await _grouped(self._log.calls_in(partition).call("XCLAIM", key, group, consumer, 0, work_id))
        rows = await _grouped(self._log.calls_in(partition).call("XPENDING", key, group, work_id, work_id, 1))
        return int(rows[0][3]) if rows else 0

    async def park(self, work: Work, group: str, token: int, reason: str, attempts: int) -> str | None:
        """Give up on an entry and store it with the reason. Returns its parked ID.

        Returns "" if another worker had finished the work, and None if the partition was taken over; in both cases nothing is
        parked.
        """
        number = work.partition
        keys = (self._keys.lease(number), self._keys.work(number), self._keys.parked(number))
        args = (group, token, work.id, work.path, work.event, work.type, reason, attempts)
        stream_id = await self._log.calls_in(number).run(_PARK, keys, *args)
        return f"{number}:{stream_id.decode()}" if stream_id else None if stream_id is None else ""

    async def parked(self, group: str | None = None) -> list[Parked]:
        """Lists the parked work of one group or of all groups, oldest first within each partition."""
        return await list_parked(self._keys, self._log.calls_in, group)

    async def parked_page(self, tenant: str, after: str, limit: int) -> tuple[list[Parked], str | None]:
        """Reads a page of parked work, in the order of `parked`.

        Args:
            tenant: the tenant whose entries are returned.
            after: the second result for the page before; "" for the first page.
            limit: the number of entries of all tenants on a page.

        Returns:
            The tenant's entries of the page, and the `after` of the next page, None on the last one.

        Raises:
            ValueError: `after` is not an ID as `parked` returns it.
        """
        first, last = parse_parked_id(after) if after else (0, "")
        found: list[Parked] = []
        for number in range(first, self._keys.partitions):
            start = f"({last}" if number == first and last else "-"
            calls, left = self._log.calls_in(number), limit - len(found)
            rows = await calls.call("XRANGE", self._keys.parked(number), start, "+", "COUNT", left)
            found += [_read_parked(number, raw) for raw in rows]
            if len(found) == limit:
                break
        following = found[-1].id if len(found) == limit else None
        return [row for row in found if row.tenant == tenant], following

    async def parked_at(self, parked_id: str) -> Parked | None:
        """Reads parked work by its ID; None if nothing is parked under it.

        Raises:
            ValueError: the text is not an ID as `parked` returns it.
        """
        partition, stream_id = parse_parked_id(parked_id)
        if partition >= self._keys.partitions:
            return None
        key = self._keys.parked(partition)
        rows = await self._log.calls_in(partition).call("XRANGE", key, stream_id, stream_id)
        return _read_parked(partition, rows[0]) if rows else None

    async def parked_count(self, partition: int) -> int:
        """The number of parked entries in a partition."""
        return int(await self._log.calls_in(partition).call("XLEN", self._keys.parked(partition)))

    async def put_back(self, parked_id: str) -> bool:
        """Put parked work back on the work stream, for the group that gave up on it. False if nothing is parked under that ID.

        Raises:
            ValueError: the text is not an ID as `parked` returns it.
        """
        partition, stream_id = parse_parked_id(parked_id)
        if partition >= self._keys.partitions:
            return False
        keys = (self._keys.parked(partition), self._keys.work(partition))
        return bool(await self._log.calls_in(partition).run(_PUT_BACK, keys, stream_id))

    async def backlog(self, partition: int, group: str) -> Backlog:
        """The group's backlog in one partition; if Redis does not know `unread`, it is counted, up to 10,000."""
        work = self._keys.work(partition)
        if not await self._log.calls_in(partition).call("EXISTS", work):
            return Backlog(0, 0, None)
        rows = [pairs(raw) for raw in await self._log.calls_in(partition).call("XINFO", "GROUPS", work)]
        row = next((row for row in rows if row[b"name"] == group.encode()), None)
        if row is None:
            return Backlog(0, 0, None)
        unread = row.get(b"lag")
        if unread is None:
            last = row[b"last-delivered-id"].decode()
            unread = len(await self._log.calls_in(partition).call("XRANGE", work, f"({last}", "+", "COUNT", LAG_MAX))
        pending = await _grouped(self._log.calls_in(partition).call("XPENDING", work, group))
        return Backlog(int(unread), int(pending[0]), pending[1].decode() if pending[1] else None)

    async def trim(self, partition: int, idle_ms: int = OWN_IDLE_MS) -> int:
        """Deletes the work that every group has finished. Returns the number of entries deleted.

        The group of a custom handler for which work has waited for `idle_ms` is destroyed, or it would hold it for ever.
        """
        return int(await self._log.calls_in(partition).run(_TRIM, (self._keys.work(partition),), OWN_GROUP, idle_ms))

    async def add_history(self, partition: int, group: str, types: frozenset[str]) -> int:
        """Put every stored event of these types on the work stream, for this group only, unless that was done before.

        If interrupted it starts over. Events appended meanwhile already have work entries, so an event may be handled twice,
        which is harmless because effects have idempotency keys. Returns the number of entries added.
        """
        calls, mark = self._log.calls_in(partition), f"{group}:history"
        if await calls.call("SISMEMBER", self._keys.groups(partition), mark):
            return 0
        wanted, count = {name.encode() for name in types}, 0
        async for channel in self._channels(partition):
            after = START
            while page := await self._log.page(channel, after):
                after = page[-1].id.decode()
                found = [entry for entry in page if entry.type in wanted]
                await self._add(calls, partition, channel, found, group)
                count += len(found)
        await calls.call("SADD", self._keys.groups(partition), mark)
        return count

    async def _channels(self, partition: int) -> AsyncIterator[Channel]:
        pattern, at = f"{self._keys.prefix(partition)}*:meta", None
        while at != b"0":
            at, names = await self._log.calls_in(partition).call(
                "SCAN", at or b"0", "MATCH", pattern, "COUNT", SCAN_COUNT
            )
            for name in names:
                yield self._keys.channel_of(name.removesuffix(b":meta"))

    async def _add(self, calls: Calls, partition: int, channel: Channel, entries: Iterable[Entry], only: str) -> None:
        work = self._keys.work(partition)
        await calls.pipeline(
            [
                ("XADD", work, "*", "channel", channel.path, "event", entry.id, "type", entry.type, "only", only)
                for entry in entries
            ]
        )


async def list_parked(keys: Keys, calls_in: Callable[[int], Calls], group: str | None = None) -> list[Parked]:
    """List parked work as `Groups.parked` does, given only calls to the log."""
    found: list[Parked] = []
    for number in range(keys.partitions):
        rows = await calls_in(number).call("XRANGE", keys.parked(number), "-", "+")
        found += [_read_parked(number, raw) for raw in rows]
    return [row for row in found if group in {None, row.group}]


def _page_of_pending(calls: Calls, work: bytes, group: str, idle_ms: int, start: str) -> Awaitable[Reply]:
    return calls.call("XPENDING", work, group, "IDLE", idle_ms, start, "+", PAGE)


async def _grouped(call: Awaitable[Reply]) -> Reply:
    """Run a command of a consumer group and return its reply.

    Raises:
        GroupLost: the group or its stream is missing. Deleting a stream ends its blocked reads with UNBLOCKED.
    """
    try:
        return await call
    except CommandRefused as error:
        if error.code not in {"NOGROUP", "UNBLOCKED"}:
            raise
        raise GroupLost(str(error)) from error


_ADDED_BY_HAND: Final = {
    "group": "",
    "channel": "",
    "event": "",
    "type": "",
    "reason": "this is no work of the hub's: somebody added it by hand",
    "attempts": "0",
}


def _read_parked(partition: int, raw: Sequence[Reply]) -> Parked:
    fields = _ADDED_BY_HAND | text_pairs(raw[1])
    return Parked(
        f"{partition}:{raw[0].decode()}",
        fields["group"],
        fields["channel"],
        fields["event"],
        fields["type"],
        fields["reason"],
        int(fields["attempts"]),
    )
