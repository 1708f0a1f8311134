"""A tenant's deletions as `system:deletions` records them, in the log and in all lives of that channel in the archive."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import NamedTuple

from streams.archive.heads import Head
from streams.archive.objects import ArchiveObjects
from streams.audit.archived_lives import ArchivedLives
from streams.channel import Channel
from streams.cursor import START
from streams.envelope import Entry
from streams.json_bytes import parse
from streams.records.deletions import EVENT, deletions_of
from streams.redis.deleted import Deletion
from streams.redis.stored import StoredLog
from streams.times import milliseconds_of_text


class RecordedDeletion(NamedTuple):
    """A deletion, and the ID of the event that records it."""

    deletion: Deletion
    event_id: str


class DeletionRecords:
    """The deletions of a tenant. They are read once, when the first is asked for, and looked up from then on.

    All methods raise LogUnavailable if the log or the archive does not answer.

    Args:
        tenant: the tenant.
        log: the log with the present life of the records; None where the archive alone is read.
        objects: the archive with their former lives, and with the present one where there is no log; None if there is none.
        heads: the heads of `system:deletions`, oldest first.
    """

    def __init__(
        self, tenant: str, log: StoredLog | None, objects: ArchiveObjects | None = None, heads: Sequence[Head] = ()
    ) -> None:
        self._place, self._log = deletions_of(tenant), log
        self._lives = ArchivedLives(objects, self._place, heads) if objects is not None else None
        self._by_life: dict[tuple[str, str], RecordedDeletion] | None = None
        self._last: dict[str, RecordedDeletion] = {}
        self._faults: list[str] = []

    async def of(self, channel: Channel, epoch: str) -> RecordedDeletion | None:
        """The deletion that ended this epoch of a channel; None if none is on record."""
        return (await self._read()).get((channel.wire, epoch))

    async def last_of(self, channel: Channel) -> RecordedDeletion | None:
        """The newest deletion of a channel; None if none is on record."""
        await self._read()
        return self._last.get(channel.wire)

    async def lives(self) -> set[tuple[str, str]]:
        """The lives that ended by a deletion: name of the channel, and epoch."""
        return set(await self._read())

    async def count(self) -> int:
        """Number of deletions on record that could be read."""
        return len(await self._read())

    async def unread_count(self) -> int:
        """Number of records that are under a checkpoint, but not in the archive."""
        await self._read()
        return sum(self._lives.unread.values()) if self._lives else 0

    async def faults(self) -> Sequence[str]:
        """The reasons why records cannot be read, as sentences."""
        await self._read()
        return self._faults

    async def _read(self) -> dict[tuple[str, str], RecordedDeletion]:
        if self._by_life is None:
            found: dict[tuple[str, str], RecordedDeletion] = {}
            async for entry in self._entries():
                self._take(entry, found)
            self._faults += self._lives.faults if self._lives else []
            self._by_life = found
        return self._by_life

    async def _entries(self) -> AsyncIterator[Entry]:
        if self._lives is not None:
            present = (await self._log.record(self._place)).epoch if self._log is not None else None
            async for entry in self._lives.entries(present):
                yield entry
        if self._log is None:
            return
        after = START
        while page := await self._log.page(self._place, after):
            for entry in page:
                yield entry
            after = page[-1].id.decode()

    def _take(self, entry: Entry, found: dict[tuple[str, str], RecordedDeletion]) -> None:
        if entry.is_damaged:
            self._faults.append(f"event {entry.id.decode()} of {self._place.wire} is damaged")
        elif entry.type == EVENT.encode():
            try:
                name, one = record_in(entry)
            except (ValueError, TypeError, KeyError):
                self._faults.append(f"event {entry.id.decode()} of {self._place.wire} is no record of a deletion")
                return
            found.setdefault((name, one.deletion.epoch), one)
            last = self._last.setdefault(name, one)
            self._last[name] = max(last, one, key=lambda each: each.deletion.at_ms)


def record_in(entry: Entry) -> tuple[str, RecordedDeletion]:
    """The name of the channel and its deletion, as an event `operator.delete` records them.

    Raises:
        KeyError, TypeError, ValueError: it is none.
    """
    payload, by = entry.payload, parse(entry.actor)
    name = str(by["id"]) if isinstance(by, dict) else ""
    at_ms = milliseconds_of_text(str(payload["deleted_at"]))
    deletion = Deletion(at_ms, str(payload["epoch"]), int(payload["seq"]), name)
    return str(payload["channel"]), RecordedDeletion(deletion, entry.id.decode())
