"""Reads stored events: the state of a channel's log at one moment, and its events page by page."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple
from zlib import crc32

from streams.archive.cold import ArchivePlace, ColdReader, look_over
from streams.archive.manifest import ArchiveMark
from streams.archive.segments import read_line
from streams.channel import Channel
from streams.cursor import START, Look
from streams.envelope import DAMAGED, FOREIGN, Entry, is_own, read_entry
from streams.errors import PartitionMoving
from streams.redis.append import checksum
from streams.redis.calls import Calls, text_pairs
from streams.redis.keys import ChannelKeys, Keys
from streams.redis.looks import Looks
from streams.redis.scripts import load
from streams.redis.sights import KeyRead, Sight
from streams.redis.wire import Argument, Reply
from streams.sealing.sealed import SEALED_IN_LINE
from streams.sealing.seals import Seals
from streams.wire_page import NO_EVENTS, WirePage

TRIM: Final = load("trim")
PAGE: Final = load("page")
PAGE_EVENTS: Final = 500
"""Maximum number of events per read: enough to amortise the call, few enough that Redis can serve others in between."""
PAGE_BYTES: Final = 262_144
"""Maximum bytes of payloads per read, unless a single event is larger: it bounds the memory held for a socket that does not read.
"""
LONG_EVENTS: Final = 1_000
"""Events up to the head from which a page, but for its beginning, is read by XRANGE. It costs Redis a third of what the script
does, and this process more, which parses fourteen texts an event in place of four: a reader that is nearly there gains nothing."""
PLAIN_AT_ONCE: Final = 1
"""Maximum number of pages that are read so at a time."""
PLAIN_EVENTS: Final = 64
"""Maximum events of one XRANGE. The mean size of those before it bounds its bytes, but nothing does where events suddenly are
large: then it is as many of the largest, of 1 MiB each, in one page at a time; other readers have the script meanwhile. With 250
a long replay takes about a fifth less time, and a reader may be sent 250 MB."""


def read_checked_entry(raw: Sequence[Any], path: bytes) -> Entry:
    """Parse an entry of the events lane of the channel with this path, and verify its checksum.

    If it does not match, only ID and seq are returned; seq is 0 if it is not a number. An entry without a checksum is accepted
    unverified. An entry that was added by hand is returned as `FOREIGN`.
    """
    if not is_own(raw[1]):
        return Entry(raw[0], 0, FOREIGN, b"0", b"{}", b"{}", b"{}")
    try:
        entry = read_entry(raw)
    except ValueError:
        return Entry(raw[0], 0, DAMAGED, b"0", b"{}", b"{}", b"{}")
    if not has_checksum(raw) or raw[1][13] == checksum(path, entry.type, entry.v, entry.actor, entry.data, entry.meta):
        return entry
    return Entry(entry.id, entry.seq, DAMAGED, b"0", b"{}", b"{}", b"{}")


def _packed_entries(raw: list[Any], path: bytes) -> list[Entry]:
    """Parse a page of the events lane of the channel with this path as scripts/page.lua gives it, as `read_checked_entry` does."""
    found, seed, pieces = [], crc32(path + b"\n"), iter(raw)
    for event_id, seq, crc, under in zip(pieces, pieces, pieces, pieces, strict=True):
        is_whole = seq.isdigit()
        if is_whole and (crc is None or crc == b"%d" % crc32(under, seed)):
            type_, v, actor, meta, data = under.split(b"\n", 4)
            found.append(Entry(event_id, int(seq), type_, v, actor, data, meta))
        else:
            found.append(Entry(event_id, int(seq) if is_whole else 0, DAMAGED, b"0", b"{}", b"{}", b"{}"))
    return found


def _packed_page(raw: list[Any], path: bytes, wire: bytes) -> WirePage:
    """The same as on the wire, as `WirePage.of` makes it, without an object for each event: half the time."""
    if not raw:
        return NO_EVENTS
    seed, lines, last_id, pieces = crc32(path + b"\n"), list[bytes](), b"", iter(raw)
    first_seq = seq = int(raw[1]) if raw[1].isdigit() else 0
    for event_id, number, crc, under in zip(pieces, pieces, pieces, pieces, strict=True):
        if number != b"%d" % seq or (crc is not None and crc != b"%d" % crc32(under, seed)):
            break
        type_, v, actor, meta, data = under.split(b"\n", 4)
        lines.append(_line(wire, event_id, number, type_, v, actor, meta, data))
        last_id, seq = event_id, seq + 1
    return WirePage(first_seq, last_id.decode(), lines, len(raw) // 4)


def _line(
    wire: bytes, event_id: bytes, number: bytes, type_: bytes, v: bytes, actor: bytes, meta: bytes, data: bytes
) -> bytes:
    """An event that no key was destroyed for, as `Entry.wire` renders it."""
    more = b"" if meta == b"{}" else b',"meta":' + meta
    return b'{"id":"%b","seq":%b,"channel":"%b","type":"%b","v":%b,"actor":%b%b,"payload":%b}' % (
        event_id,
        number,
        wire,
        type_,
        v,
        actor,
        more,
        data,
    )


def _live_entries(raw: list[Any]) -> list[Entry]:
    """Parse a page of a live lane as scripts/page.lua gives it."""
    found, pieces = [], iter(raw)
    for event_id, _, _, under in zip(pieces, pieces, pieces, pieces, strict=True):
        type_, v, actor, meta, data = under.split(b"\n", 4)
        found.append(Entry(event_id, 0, type_, v, actor, data, meta))
    return found


def _plain_entries(raw: list[Any], path: bytes) -> list[Entry]:
    """Parse entries as XRANGE gives them, as `read_checked_entry` does, without those that were added by hand."""
    found, seed, make = [], crc32(path + b"\n"), Entry._make
    for event_id, f in raw:
        if len(f) == _FIELDS and f[0] == b"seq" and f[1].isdigit():
            _, seq, _, type_, _, v, _, actor, _, data, _, meta, _, crc = f
            if crc == b"%d" % crc32(b"\n".join((type_, v, actor, meta, data)), seed):
                found.append(make((event_id, int(seq), type_, v, actor, data, meta, (), False)))
                continue
        entry = read_checked_entry((event_id, f), path)
        if not entry.is_foreign:
            found.append(entry)
    return found


def _add_lines(
    lines: list[bytes], raw: list[Any], channel: tuple[bytes, bytes], seq: int, left_bytes: int, last_id: bytes
) -> tuple[int, bytes]:
    """Append entries as XRANGE gives them as on the wire, as `_plain_entries` and `Entry.wire` do, without an object for each.

    It ends before one that does not have the expected seq or checksum, and where the bytes end. Returns the number of entries
    that it went through, and the ID of the last line.
    """
    path, wire = channel
    seed, count = crc32(path + b"\n"), 0
    for event_id, f in raw:
        if not is_own(f):  # somebody added it by hand
            count += 1
            continue
        if len(f) == _FIELDS:
            _, number, _, type_, _, v, _, actor, _, data, _, meta, _, crc = f
            is_whole = crc == b"%d" % crc32(b"\n".join((type_, v, actor, meta, data)), seed)
        else:
            number, type_, v, actor, data, meta = f[1:_PLAIN_FIELDS:2]
            is_whole = len(f) == _PLAIN_FIELDS
        left_bytes -= len(data)
        if not is_whole or left_bytes < 0 or number != b"%d" % seq:
            break
        lines.append(_line(wire, event_id, number, type_, v, actor, meta, data))
        last_id, seq, count = event_id, seq + 1, count + 1
    return count, last_id


def _part(left: int, left_bytes: int, mean_bytes: float) -> int:
    """The number of events to request next, so many and so many bytes before the end of the page; 0 if it is full."""
    return min(left, PLAIN_EVENTS, int(left_bytes / max(mean_bytes, 1.0)) + 1) if left_bytes > 0 else 0


def has_checksum(raw: Sequence[Any]) -> bool:
    """True if the entry was stored with a checksum."""
    return len(raw[1]) > _PLAIN_FIELDS


_PLAIN_FIELDS: Final = 12
_FIELDS: Final = 14
_DATA_AT: Final = 9


class Beginning(NamedTuple):
    """The part of a page that was read: the ID of its last event, and the events and bytes it took."""

    last_id: bytes
    event_count: int
    size_bytes: int


class Replay:
    """Reads channels, each from the server that holds it, and what was trimmed there from the archive.

    Args:
        keys: builds the names of all keys.
        calls_in: the calls to the server of a partition.
        looks: looks at channels.
        cold: reads the archive; None leaves trimmed events out.
        seals: opens sealed payloads; None returns them as they are stored.
    """

    def __init__(
        self,
        keys: Keys,
        calls_in: Callable[[int], Calls],
        looks: Looks,
        cold: ColdReader | None = None,
        seals: Seals | None = None,
    ) -> None:
        self._keys = keys
        self._calls_in = calls_in
        self._looks = looks
        self._cold = cold
        self._seals = seals
        self._plain_count = 0

    def under(self, keys: Keys) -> Replay:
        """A reader of the same servers under other keys, without the archive."""
        return Replay(keys, self._calls_in, self._looks)

    async def look(self, channel: Channel, after: str | None = None) -> Look:
        """Read head, floor, epoch, and the events around `after`, all at one moment.

        With an archive, the floor and these events are those of the whole history. A channel that was never written to gets
        no key.

        Raises:
            LogUnavailable: Redis is unreachable.
        """
        return (await self.sight(channel, after)).look

    async def sight(self, channel: Channel, after: str | None, reads: tuple[KeyRead, ...] = ()) -> Sight:
        """Read the same as `look`, and keys beside the log at the same moment."""
        return await self.completed(channel, after, await self.ask(channel, after, reads))

    def ask(self, channel: Channel, after: str | None, reads: tuple[KeyRead, ...]) -> asyncio.Future[Sight]:
        """Request what `sight` reads; `completed` adds what the archive has. What is requested together is read together."""
        return self._looks.ask(channel, after, reads)

    async def completed(self, channel: Channel, after: str | None, sight: Sight) -> Sight:
        """Add to a sight what the archive has: events that Redis no longer keeps."""
        if self._cold is None or not sight.look.archive or not sight.look.floor.seq:
            return sight
        return Sight(await look_over(self._cold, channel, after, sight.look), sight.reads, sight.answers)

    async def page(
        self,
        channel: Channel,
        after: str = "0",
        limit: int = PAGE_EVENTS,
        upto: str = "+",
        *,
        limit_bytes: int = PAGE_BYTES,
    ) -> list[Entry]:
        """Events after `after`, oldest first, none newer than `upto`: at most `limit`, and `limit_bytes`.

        An empty page is the end.
        """
        found = await self._forwards(channel, after, limit, upto, limit_bytes, with_start=False)
        return await self._opened(channel, found)

    async def wire_page(
        self,
        channel: Channel,
        after: str,
        limit: int = PAGE_EVENTS,
        upto: str = "+",
        *,
        limit_bytes: int = PAGE_BYTES,
    ) -> WirePage:
        """The same page as on the wire. Archived events are passed on as they are stored, without being parsed."""
        bound = "-" if after == START else f"({after}"
        if self._seals is not None:
            place, floor, found = await self._page_over(channel, b"XRANGE", bound, upto, limit, limit_bytes)
            page = WirePage.of(await self._opened(channel, found), channel.wire.encode())
        else:
            place, floor, page = await self._wire_page_over(channel, bound, upto, limit, limit_bytes)
        if place is None or self._cold is None:
            return page
        archived = await self._cold.wire_page(place, after, limit, upto)
        if archived.read_count:
            return await self._opened_page(channel, archived)
        found = (await self._page_over(channel, b"XRANGE", f"({floor}", upto, limit, limit_bytes))[2]
        return WirePage.of(await self._opened(channel, found), channel.wire.encode())

    async def _opened_page(self, channel: Channel, page: WirePage) -> WirePage:
        if self._seals is None or not any(SEALED_IN_LINE in line for line in page.lines):
            return page
        return WirePage.of(
            await self._opened(channel, [read_line(line) for line in page.lines]), channel.wire.encode()
        )._replace(read_count=page.read_count)

    async def page_from(
        self, channel: Channel, first: str, limit: int = PAGE_EVENTS, *, limit_bytes: int = PAGE_BYTES
    ) -> list[Entry]:
        """One page of events, oldest first, starting with `first` itself."""
        found = await self._forwards(channel, first, limit, "+", limit_bytes, with_start=True)
        return await self._opened(channel, found)

    async def _opened(self, channel: Channel, entries: list[Entry]) -> list[Entry]:
        return entries if self._seals is None else await self._seals.opened(self._keys.of(channel).path, entries)

    async def _forwards(
        self, channel: Channel, start: str, limit: int, upto: str, limit_bytes: int, *, with_start: bool
    ) -> list[Entry]:
        bound = start if with_start else "-" if start == START else f"({start}"
        place, floor, found = await self._page_over(channel, b"XRANGE", bound, upto, limit, limit_bytes)
        if place is None or self._cold is None:
            return found
        if archived := await self._cold.after(place, start, limit, upto, with_start=with_start):
            return archived
        return (await self._page_over(channel, b"XRANGE", f"({floor}", upto, limit, limit_bytes))[2]

    async def page_back(self, channel: Channel, before: str = "+", limit: int = PAGE_EVENTS) -> list[Entry]:
        """One page of events before `before` (exclusive; `+` is the end), newest first; an empty page is the beginning."""
        if before.strip("0") in {"", "-"}:  # Redis refuses the interval before 0-0
            return []
        end = before if before == "+" else f"({before}"
        place, _, found = await self._page_over(channel, b"XREVRANGE", end, "-", limit, PAGE_BYTES)
        if not (found or place is None or self._cold is None):
            found = await self._cold.before(place, before, limit)
        return await self._opened(channel, found)

    async def _page_over(
        self, channel: Channel, command: bytes, first: str, last: str, limit: int, limit_bytes: int
    ) -> tuple[ArchivePlace | None, str, list[Entry]]:
        """A page from Redis; before it the place of the archive, if the events there are wanted first, and the floor's ID."""
        names = self._keys.of(channel)
        place, floor, remains, raw = await self._beginning(channel, command, first, last, limit, limit_bytes)
        found = _packed_entries(raw, names.path)

        def take(raw: list[Reply], left_bytes: int) -> bool:
            for entry in _plain_entries(raw, names.path):
                left_bytes -= len(entry.data)
                if left_bytes < 0 or entry.seq != found[-1].seq + 1:
                    return False
                found.append(entry)
            return True

        if remains and self._may_read_plainly():
            begun = Beginning(found[-1].id, len(found), sum(len(entry.data) for entry in found))
            await self._read_on(names, begun, last, limit, limit_bytes, take)
        return place, floor, found

    async def _wire_page_over(
        self, channel: Channel, first: str, last: str, limit: int, limit_bytes: int
    ) -> tuple[ArchivePlace | None, str, WirePage]:
        """The same as on the wire, for a reader to whom nothing is opened."""
        names, wire = self._keys.of(channel), channel.wire.encode()
        place, floor, remains, raw = await self._beginning(channel, b"XRANGE", first, last, limit, limit_bytes)
        page = _packed_page(raw, names.path, wire)
        if not remains or len(page.lines) < page.read_count or not self._may_read_plainly():
            return place, floor, page
        lines, last_id = page.lines, raw[-4]

        def take(raw: list[Reply], left_bytes: int) -> bool:
            nonlocal last_id
            count, last_id = _add_lines(
                lines, raw, (names.path, wire), page.first_seq + len(lines), left_bytes, last_id
            )
            return count == len(raw)

        begun = Beginning(last_id, len(lines), sum(map(len, lines)))
        await self._read_on(names, begun, last, limit, limit_bytes, take)
        return place, floor, WirePage(page.first_seq, last_id.decode(), lines, len(lines))

    async def _beginning(
        self, channel: Channel, command: bytes, first: str, last: str, limit: int, limit_bytes: int
    ) -> tuple[ArchivePlace | None, str, bool, list[Reply]]:
        """A page as the script gives it. If the third value is true, it is the beginning of one, which `_read_on` completes."""
        names = self._keys.of(channel)
        is_long = command == b"XRANGE" and limit >= PAGE_EVENTS and self._may_read_plainly()
        more = (int(self._cold is not None), LONG_EVENTS if is_long else 0)
        reply = await self._page(channel, (names.stream, names.meta), command, first, last, limit, limit_bytes, *more)
        epoch, mark, floor, remains, raw = reply
        place = ArchivePlace(channel, epoch.decode(), ArchiveMark.parse(mark.decode())) if mark else None
        return place, floor.decode(), bool(remains), raw

    def _may_read_plainly(self) -> bool:
        """Asked again once a beginning is there: of those that began together one is completed, and the others end there."""
        return self._plain_count < PLAIN_AT_ONCE

    async def _read_on(
        self,
        names: ChannelKeys,
        begun: Beginning,
        upto: str,
        limit: int,
        limit_bytes: int,
        take: Callable[[list[Reply], int], bool],
    ) -> None:
        """Complete a page by XRANGE, a part at a time: Redis reads the next part while this process takes one.

        `take` gets the entries and the bytes that are left; it returns False if the page ends among them.
        """
        calls, left_bytes = self._calls_in(names.partition), limit_bytes - begun.size_bytes
        start, mean_bytes, left = begun.last_id, begun.size_bytes / begun.event_count, limit - begun.event_count
        self._plain_count += 1
        try:
            count = _part(left, left_bytes, mean_bytes)
            asked = await calls.ask(b"XRANGE", names.stream, b"(" + start, upto, b"COUNT", count) if count else None
            while asked is not None:
                raw, asked = await calls.answer(asked), None
                is_whole, left = len(raw) == count, left - len(raw)
                size_bytes = sum([len(fields[_DATA_AT]) for _, fields in raw if len(fields) > _DATA_AT])
                mean_bytes = max(mean_bytes, size_bytes / max(len(raw), 1))
                if is_whole and (count := _part(left, left_bytes - size_bytes, mean_bytes)):
                    start = raw[-1][0]
                    asked = await calls.ask(b"XRANGE", names.stream, b"(" + start, upto, b"COUNT", count)
                    await asyncio.sleep(0)  # the command leaves with the next turn of the loop
                if not take(raw, left_bytes):
                    break
                left_bytes -= size_bytes
        except PartitionMoving:
            pass  # what was read is a page, and the next one finds the server
        finally:
            self._plain_count -= 1

    async def live_page(self, channel: Channel, start: str = "-") -> list[Entry]:
        """One page of entries of the live lane from `start` on (`(` before an ID excludes it), oldest first."""
        raw = await self._page(channel, (self._keys.of(channel).live,), b"XRANGE", start, b"+", PAGE_EVENTS, PAGE_BYTES)
        return _live_entries(raw)

    async def live_entries(self, channel: Channel) -> list[Entry]:
        """All entries of the live lane, oldest first; the lane is short."""
        found: list[Entry] = []
        while page := await self.live_page(channel, f"({found[-1].id.decode()}" if found else "-"):
            found += page
        return found

    async def open_texts(self, channel: Channel) -> dict[str, str]:
        """The texts of answers in progress, in the fields that scripts/append.lua writes."""
        return text_pairs(await self._call(channel, b"HGETALL", self._keys.of(channel).open))

    def live_read(self, channel: Channel, start: str, limit: int) -> KeyRead:
        """The command that reads up to `limit` raw entries of the live lane from `start` on, for `sight`."""
        return KeyRead(self._keys.of(channel).live, "XRANGE", (start, "+", "COUNT", limit))

    def open_texts_read(self, channel: Channel) -> KeyRead:
        """The command that reads the texts of answers in progress, for `sight`."""
        return KeyRead(self._keys.of(channel).open, "HGETALL")

    async def trim(self, channel: Channel, upto: str) -> int:
        """Deletes all events up to and including `upto` and moves the floor. Returns their number."""
        keys = self._keys.of(channel)
        reply = await self._calls_in(keys.partition).run(TRIM, (keys.stream, keys.meta), upto)
        return int(reply[0])

    async def _page(
        self,
        channel: Channel,
        keys: Sequence[bytes],
        command: bytes,
        first: Argument,
        last: Argument,
        limit: int,
        limit_bytes: int,
        *more: int,
    ) -> list[Reply]:
        calls = self._calls_in(self._keys.of(channel).partition)
        found: list[Reply] = await calls.run(PAGE, keys, command, first, last, limit, limit_bytes, *more)
        return found

    async def _call(self, channel: Channel, *args: Argument) -> Reply:
        return await self._calls_in(self._keys.of(channel).partition).call(*args)
