"""Read-only access to a log, without writes or scripts: a replica, or a Redis user with read permission only, is sufficient."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Final, NamedTuple

from streams.archive.cold import ArchivePlace, ColdReader, is_before
from streams.archive.manifest import ArchiveMark
from streams.channel import Channel
from streams.cursor import START, Position
from streams.envelope import Entry, is_own
from streams.errors import RecordDamaged
from streams.redis.calls import Calls, pairs
from streams.redis.deleted import Deletion
from streams.redis.keys import CONFIG, Keys, slot_of
from streams.redis.locate import Locator
from streams.redis.partition_calls import PartitionCalls
from streams.redis.replay import PAGE_EVENTS, has_checksum, read_checked_entry
from streams.redis.server_check import kept_keys, kept_life
from streams.redis.wire import Reply
from streams.sealing.sealed import is_sealed
from streams.sealing.seals import Seals

_PAGE_EVENTS: Final = 64
"""Events per read. No script bounds their bytes here; 64 of the largest are a few megabytes."""


class ChannelRecord(NamedTuple):
    """The facts that Redis stores about a channel beside its events. Reading them changes nothing.

    Attributes:
        epoch: the channel's current epoch; None if its meta hash is missing.
        first_epoch: the channel's first epoch in this log; None if the log has no identity.
        seq: the seq of the newest event.
        floor: the newest event that was trimmed away.
        last_id: the newest ID that the stream has assigned; None if there is no stream.
        covered: the newest event that a checkpoint of the archive covers.
        mark: the newest manifest of the archive.
        is_listed: true if it is in the directory, like every channel that ever had an event.
        deletion: the last deletion of the channel; its epoch is the one after that.
    """

    epoch: str | None
    first_epoch: str | None
    seq: int
    floor: Position
    last_id: str | None
    is_listed: bool
    covered: Position = Position(START, 0)
    mark: ArchiveMark = ArchiveMark()
    deletion: Deletion | None = None

    @property
    def is_known(self) -> bool:
        """True if Redis has any trace of the channel."""
        return self.epoch is not None or self.last_id is not None or self.is_listed


class StoredLog:
    """Reads an existing log without changing it; created by `open`.

    Args:
        url: REDIS_URL.
        keys: builds the names of all keys.
        lives: the identity of the data of each partition; "" if none is recorded.
        calls: calls to the server of each partition.
        cold: reads the archive; None leaves trimmed events out.
        seals: opens sealed payloads; None returns them as they are stored.

    Attributes:
        url: REDIS_URL.
        keys: builds the names of all keys.
        unchecked_count: number of events read that were stored without a checksum.
    """

    def __init__(
        self,
        url: str,
        keys: Keys,
        lives: Sequence[str],
        calls: PartitionCalls,
        cold: ColdReader | None = None,
        seals: Seals | None = None,
    ) -> None:
        self.url = url
        self.keys = keys
        self._lives = lives
        self._calls = calls
        self._cold = cold
        self._seals = seals
        self.unchecked_count = 0

    @classmethod
    async def open(cls, url: str, cold: ColdReader | None = None, seals: Seals | None = None) -> StoredLog | None:
        """Connect, and read the log's configuration; None if there is no log.

        `cold` reads what was archived; `seals` opens sealed payloads.

        Raises:
            LogUnavailable: Redis could not be reached.
        """
        locator = Locator(url)
        config = Calls(partial(locator.open, "hub-reader", slot_of(CONFIG)))
        try:
            keys = await kept_keys(config)
            if keys is None:
                return None
            calls = PartitionCalls.at(locator, keys, "hub-reader")
            lives = await _kept_lives(keys, locator, config, calls)
        finally:
            config.close()
        return cls(url, keys, lives, calls, cold, seals)

    async def record(self, channel: Channel) -> ChannelRecord:
        """Read the channel's record.

        Raises:
            RecordDamaged: one of its numbers is not a number.
        """
        keys = self.keys.of(channel)
        directory = self.keys.directory(keys.partition, channel.tenant, channel.kind)
        (epoch, seq, floor_id, floor_seq, covered, mark, deleted), listed, has_stream = await self.calls_in(
            keys.partition
        ).pipeline(
            [
                ("HMGET", keys.meta, "epoch", "seq", "floor_id", "floor_seq", "covered", "archive", "deleted"),
                ("ZSCORE", directory, channel.name),
                ("EXISTS", keys.stream),
            ]
        )
        last_id = None
        if has_stream:
            facts = await self.calls_in(keys.partition).call("XINFO", "STREAM", keys.stream)
            last_id = pairs(facts)[b"last-generated-id"].decode()
        first = first_epoch(life, channel) if (life := self._lives[keys.partition]) else None
        try:
            floor = Position(floor_id.decode(), int(floor_seq)) if floor_seq else Position(START, 0)
            covered_id, _, covered_seq = (covered or b"0 0").decode().partition(" ")
            return ChannelRecord(
                epoch.decode() if epoch else None,
                first,
                int(seq or 0),
                floor,
                last_id,
                listed is not None,
                Position(covered_id, int(covered_seq)),
                ArchiveMark.parse((mark or b"").decode()),
                Deletion.parse(deleted.decode()) if deleted else None,
            )
        except ValueError as error:
            told = f"the record of {channel.wire} is damaged: its seq is {seq!r}, its floor {floor_id!r} {floor_seq!r}"
            raise RecordDamaged(told) from error

    def floor_of(self, record: ChannelRecord) -> Position:
        """The newest event that cannot be read any more: the stream's floor, or that of the archive if it is at hand."""
        if self._cold is None or not record.mark.number or record.mark.upto.seq < record.floor.seq:
            return record.floor
        return record.mark.removed

    async def page(self, channel: Channel, after: str = START, upto: str = "+") -> list[Entry]:
        """One page of events after `after`, oldest first, none newer than `upto`; an empty page is the end.

        Each event is verified against its checksum (`Entry.is_damaged`). Events that were trimmed are read from the archive.
        """
        names, start = self.keys.of(channel), "-" if after == START else f"({after}"
        raw, (epoch, mark, floor) = await self.calls_in(names.partition).pipeline(
            [  # the record last: what was trimmed in between is then known to be in the archive
                ("XRANGE", names.stream, start, upto, "COUNT", _PAGE_EVENTS),
                ("HMGET", names.meta, "epoch", "archive", "floor_id"),
            ]
        )
        if self._cold is not None and mark and floor and is_before(after, floor.decode()):
            place = ArchivePlace(channel, epoch.decode(), ArchiveMark.parse(mark.decode()))
            if archived := await self._cold.after(place, after, PAGE_EVENTS, upto):
                return await self._opened(names.path, archived)
        while raw and not (found := _events(self._read(raw, names.path))):  # what somebody added by hand
            start = b"(" + raw[-1][0]
            raw = await self.calls_in(names.partition).call("XRANGE", names.stream, start, upto, "COUNT", _PAGE_EVENTS)
        return await self._opened(names.path, found) if raw else []

    async def _opened(self, path: bytes, entries: list[Entry]) -> list[Entry]:
        if self._seals is None or not any(is_sealed(entry.data) for entry in entries):
            return entries
        await self._seals.look_if_due()
        return await self._seals.opened(path, entries)

    async def hot_page(self, channel: Channel, after: str = START) -> list[Entry]:
        """One page of what the stream in Redis holds, as it is stored: events, and what was added by hand (`Entry.is_foreign`)."""
        names, start = self.keys.of(channel), "-" if after == START else f"({after}"
        calls = self.calls_in(names.partition)
        return self._read(await calls.call("XRANGE", names.stream, start, "+", "COUNT", _PAGE_EVENTS), names.path)

    def _read(self, raw: list[Reply], path: bytes) -> list[Entry]:
        self.unchecked_count += sum(is_own(entry[1]) and not has_checksum(entry) for entry in raw)
        return [read_checked_entry(entry, path) for entry in raw]

    async def newest(self, channel: Channel, count: int) -> list[Entry]:
        """The newest events, oldest first: `count`, but never more than a page."""
        names = self.keys.of(channel)
        calls, limit = self.calls_in(names.partition), min(count, _PAGE_EVENTS)
        raw = await calls.call("XREVRANGE", names.stream, "+", "-", "COUNT", limit)
        return await self._opened(
            names.path, _events([read_checked_entry(entry, names.path) for entry in reversed(raw)])
        )

    async def memory_bytes(self, channel: Channel) -> int:
        """The memory of the channel's stream, estimated by Redis; 0 without one."""
        names = self.keys.of(channel)
        return int(await self.calls_in(names.partition).call("MEMORY", "USAGE", names.stream) or 0)

    def by_server(self) -> Iterator[tuple[Sequence[int], Calls]]:
        """The partitions of each connection, and the calls over it."""
        return self._calls.by_connection()

    def calls_in(self, partition: int) -> Calls:
        """The calls to the server of a partition."""
        return self._calls.in_partition(partition)

    def close(self) -> None:
        """Close the connection."""
        self._calls.close()


async def _kept_lives(keys: Keys, locator: Locator, config: Calls, calls: PartitionCalls) -> list[str]:
    if not locator.is_cluster:
        return [await kept_life(config)] * keys.partitions
    numbers = range(keys.partitions)
    return await asyncio.gather(*(kept_life(calls.in_partition(at), keys.config(at)) for at in numbers))


def first_epoch(life: str, channel: Channel) -> str:
    """The first epoch of a channel, derived as in scripts/look.lua and scripts/append.lua."""
    return hashlib.sha1(f"{life} {channel.path}".encode(), usedforsecurity=False).hexdigest()[:16]


def _events(entries: list[Entry]) -> list[Entry]:
    return [entry for entry in entries if not entry.is_foreign]
