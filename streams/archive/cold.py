"""Reads archived events page by page, as the log reads those in Redis: a page is a frame, found by the manifest and an index.

Reads run in a pool of their own, a few at a time; readers of the same frame share one read. Events that are missing or damaged
in the archive are returned as damaged ones, as in Redis.
"""

from __future__ import annotations

import asyncio
import logging
from bisect import bisect_left, bisect_right
from collections import OrderedDict, deque
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, Generic, NamedTuple, TypeVar

from streams.archive.manifest import ArchiveMark, ArchiveSegment, Manifest
from streams.archive.objects import ArchiveObjects, ChannelFolder
from streams.archive.segments import (
    FRAME_EVENTS,
    Frame,
    SegmentCodec,
    SegmentDamaged,
    ids_of,
    lines_of,
    read_index,
    read_line,
)
from streams.channel import Channel
from streams.cursor import START, Look, Position
from streams.envelope import DAMAGED, Entry
from streams.errors import ArchiveDiffers
from streams.wire_page import NO_EVENTS, WirePage

READS_MAX: Final = 4
"""Number of reads of the store at a time, in one process."""
THREADS: Final = 2
"""Threads that decompress. They share the interpreter with the loop: a frame takes a millisecond of it."""
MANIFESTS_MAX: Final = 20_000
"""Number of segments in the manifests that are kept, about 400 bytes each."""
INDEXES_MAX: Final = 8_192
"""Number of frames in the indexes that are kept, about 300 bytes each."""
AHEAD_FRAMES: Final = 4
"""Frames read at once for a reader that comes from the end of the one before; the store is asked once for all."""
FRAMES_BYTES_MAX: Final = 16_777_216
"""Bytes of lines in the frames that are kept."""
_END: Final = 2**64
_log: Final = logging.getLogger(__name__)

T = TypeVar("T")
Order = tuple[int, int]


class ArchivePlace(NamedTuple):
    """A channel's archive: its epoch, and the mark in Redis that names the newest manifest."""

    channel: Channel
    epoch: str
    mark: ArchiveMark


class _Lines(NamedTuple):
    """The events of a frame as they are stored, with their IDs."""

    first_seq: int
    ids: list[bytes]
    lines: list[bytes]

    def part(self, first: int, end: int) -> _Lines:
        """Those from one place up to another."""
        return _Lines(self.first_seq + first, self.ids[first:end], self.lines[first:end])


_NO_LINES: Final = _Lines(1, [], [])


class _Kept(Generic[T]):
    """Keeps what was read, up to a weight, and lets callers of the same thing share one read."""

    def __init__(self, weight_max: int, weigh: Callable[[T], int]) -> None:
        self._weight_max, self._weigh = weight_max, weigh
        self._weight = 0
        self._kept: OrderedDict[object, T] = OrderedDict()
        self._reading: dict[object, asyncio.Task[T]] = {}

    async def get(self, key: object, read: Callable[[], Coroutine[Any, Any, T]]) -> T:
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        task = self._reading.get(key)
        if task is None:
            task = self._reading[key] = asyncio.create_task(self._read(key, read))
            task.add_done_callback(_noticed)
        return await asyncio.shield(task)

    async def _read(self, key: object, read: Callable[[], Coroutine[Any, Any, T]]) -> T:
        try:
            found = await read()
        finally:
            del self._reading[key]
        self.keep(key, found)
        return found

    def keep(self, key: object, found: T) -> None:
        """Keep what was read with something else."""
        if (former := self._kept.pop(key, None)) is not None:
            self._weight -= self._weigh(former)
        self._kept[key] = found
        self._weight += self._weigh(found)
        while self._weight > self._weight_max and len(self._kept) > 1:
            self._weight -= self._weigh(self._kept.popitem(last=False)[1])


def _noticed(task: asyncio.Task[Any]) -> None:
    """A read that failed is told to those who wait for it; they may all be gone."""
    if not task.cancelled():
        task.exception()


class ColdReader:
    """Reads the archive for one process. All reading methods raise ArchiveUnavailable if the store does not answer.

    Attributes:
        read_count, read_bytes: frames read from the store, and their bytes.
    """

    def __init__(self, objects: ArchiveObjects) -> None:
        self.read_count = self.read_bytes = 0
        self._objects = objects
        self._room = asyncio.Semaphore(READS_MAX)
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="archive")
        self._codecs = deque(SegmentCodec() for _ in range(THREADS))
        self._manifests = _Kept[Manifest](MANIFESTS_MAX, lambda manifest: len(manifest.segments) + 1)
        self._indexes = _Kept[list[Frame]](INDEXES_MAX, len)
        self._frames = _Kept[_Lines](FRAMES_BYTES_MAX, lambda found: sum(map(len, found.lines)))
        self._told: set[str] = set()

    async def after(
        self, place: ArchivePlace, start: str, limit: int, upto: str = "+", *, with_start: bool = False
    ) -> list[Entry]:
        """Events after `start` (or from it on), oldest first, none newer than `upto`; an empty list is the end of the archive."""
        found = await self._after(place, start, limit, upto, with_start=with_start)
        return self._entries(place, found) if isinstance(found, _Lines) else found

    async def wire_page(self, place: ArchivePlace, start: str, limit: int, upto: str = "+") -> WirePage:
        """The same page as on the wire, which is how events are stored: none is parsed."""
        found = await self._after(place, start, limit, upto, with_start=False)
        if not isinstance(found, _Lines):
            return WirePage.of(found, place.channel.wire.encode())
        return (
            WirePage(found.first_seq, found.ids[-1].decode(), found.lines, len(found.lines))
            if found.lines
            else NO_EVENTS
        )

    async def _after(
        self, place: ArchivePlace, start: str, limit: int, upto: str, *, with_start: bool
    ) -> _Lines | list[Entry]:
        """The lines of such a page, or damaged events in the place of those that cannot be read."""
        low, high = _order(start, 0), _order(upto, _END)
        low = (low[0], low[1] - 1) if with_start else low
        try:
            manifest = await self._manifest(place)
        except ArchiveDiffers as error:
            return (
                self._lost(str(error), place.mark.removed.seq, place.mark.upto)
                if low < _order(place.mark.upto.id, 0)
                else _NO_LINES
            )
        segments = manifest.segments
        at = bisect_right(segments, low, key=lambda segment: _order(segment.last_id, 0))
        if at == len(segments) or _order(segments[at].first_id, 0) > high:
            return _NO_LINES
        frames = await self._index(place, segments[at])
        if not frames:
            last = Position(segments[at].last_id, segments[at].last_seq)
            return self._lost(f"{segments[at].name} of {place.channel.path}", segments[at].first_seq - 1, last)[:limit]
        number = bisect_right(frames, low, key=lambda frame: _order(frame.last_id, 0))
        frame = frames[number]
        goes_on = limit >= FRAME_EVENTS and (not number or low == _order(frames[number - 1].last_id, 0))
        found = await self._read(place, segments[at], frames[number : number + (AHEAD_FRAMES if goes_on else 1)])
        if not isinstance(found, _Lines):
            return found[:limit] if _order(frame.last_id, 0) <= high else []
        first = bisect_right(found.ids, low, key=_order_of)
        return found.part(first, min(first + limit, bisect_right(found.ids, high, key=_order_of)))

    async def before(self, place: ArchivePlace, end: str, limit: int) -> list[Entry]:
        """Events before `end`, newest first; an empty list is the beginning of the archive."""
        high = _order(end, _END)
        try:
            manifest = await self._manifest(place)
        except ArchiveDiffers as error:
            return (
                self._lost(str(error), place.mark.removed.seq, place.mark.upto)
                if high > _order(place.mark.upto.id, 0)
                else []
            )
        segments = manifest.segments
        at = bisect_left(segments, high, key=lambda segment: _order(segment.first_id, 0)) - 1
        if at < 0:
            return []
        frames = await self._index(place, segments[at])
        if not frames:
            first = Position(segments[at].first_id, segments[at].first_seq)
            return self._lost(f"{segments[at].name} of {place.channel.path}", first.seq - 1, first)
        frame = frames[bisect_left(frames, high, key=lambda frame: _order(frame.first_id, 0)) - 1]
        found = await self._read(place, segments[at], [frame])
        if not isinstance(found, _Lines):  # one with the first ID, from which the next page goes on
            first = Position(frame.first_id, frame.first_seq)
            return self._lost(f"{segments[at].name} of {place.channel.path}", first.seq - 1, first)
        until = bisect_left(found.ids, high, key=_order_of)
        return self._entries(place, found.part(max(0, until - limit), until))[::-1]

    async def around(self, place: ArchivePlace, cursor: str) -> tuple[Position | None, Position | None]:
        """The newest archived event at or before a cursor, and the oldest after it; None where there is none."""
        following = next(iter(await self.after(place, cursor, 1)), None)
        if cursor == START:
            return None, _position(following)
        before = await self.before(place, f"{_order(cursor, 0)[0]}-{_order(cursor, 0)[1] + 1}", 1)
        previous = before[0] if before and not before[0].is_damaged else None
        return _position(previous), _position(following)

    async def close(self) -> None:
        """End the threads."""
        await asyncio.to_thread(self._pool.shutdown, wait=True, cancel_futures=True)

    async def _manifest(self, place: ArchivePlace) -> Manifest:
        folder = ChannelFolder(self._objects, place.channel, place.epoch)

        async def read() -> Manifest:
            async with self._room:
                found = await folder.manifest(place.mark.number)
            if found is None:
                raise ArchiveDiffers(f"manifest {place.mark.number} of {folder.path} is missing")
            return found

        return await self._manifests.get((place.channel, place.epoch, place.mark.number), read)

    async def _index(self, place: ArchivePlace, segment: ArchiveSegment) -> list[Frame]:
        """The frames of a segment; none if its index is missing or damaged."""

        async def read() -> list[Frame]:
            async with self._room:
                tail = await ChannelFolder(self._objects, place.channel, place.epoch).segment(segment, segment.index_at)
            return read_index(tail or b"")

        try:
            return await self._indexes.get((place.channel, place.epoch, segment.name), read)
        except SegmentDamaged:  # not kept: it may be restored
            return []

    async def _read(self, place: ArchivePlace, segment: ArchiveSegment, run: list[Frame]) -> _Lines | list[Entry]:
        """The first frame of a run; the others are kept for the next pages, as far as they are not damaged."""
        folder, frame = ChannelFolder(self._objects, place.channel, place.epoch), run[0]

        def key(one: Frame) -> object:
            return place.channel, place.epoch, segment.name, one.start

        async def read() -> _Lines:
            size = run[-1].start + run[-1].size - frame.start
            async with self._room:
                data = await folder.segment(segment, frame.start, size)
                self.read_count += len(run)
                self.read_bytes += size
                found = await asyncio.get_running_loop().run_in_executor(self._pool, self._decode, data or b"", run)
            for one, lines in zip(run[1:], found[1:], strict=False):
                self._frames.keep(key(one), lines)
            return found[0]

        try:
            return await self._frames.get(key(frame), read)
        except SegmentDamaged as error:  # not kept: it may be restored
            last = Position(frame.last_id, frame.last_seq)
            return self._lost(f"{folder.path}/{segment.name}: {error}", frame.first_seq - 1, last)

    def _decode(self, data: bytes, run: list[Frame]) -> list[_Lines]:
        """The frames of a run up to a damaged one, which raises if it is the first."""
        codec, found = self._codecs.pop(), list[_Lines]()  # as many as threads
        try:
            for frame in run:
                start = frame.start - run[0].start
                text = codec.text(data[start : start + frame.size])
                ids, lines = ids_of(text, frame.first_seq, frame.last_seq), lines_of(text)
                if len(ids) != len(lines):
                    raise SegmentDamaged("a line is not an event")
                found.append(_Lines(frame.first_seq, ids, lines))
        except SegmentDamaged:
            if not found:
                raise
        finally:
            self._codecs.append(codec)
        return found

    def _entries(self, place: ArchivePlace, found: _Lines) -> list[Entry]:
        entries = []
        for seq, (event_id, line) in enumerate(zip(found.ids, found.lines, strict=True), found.first_seq):
            try:
                entries.append(read_line(line))
            except SegmentDamaged as error:
                last = Position(event_id.decode(), seq)
                entries += self._lost(f"event {seq} of {place.channel.path}: {error}", seq - 1, last)
        return entries

    def _lost(self, told: str, after_seq: int, last: Position) -> list[Entry]:
        """Damaged events in the place of those that cannot be read, at most a page: they have the ID of the last."""
        if told not in self._told:
            if len(self._told) > INDEXES_MAX:
                self._told.clear()
            self._told.add(told)
            _log.error("archived events cannot be read; readers get a gap in their place: %s", told)
        first, event_id = max(after_seq + 1, 1), last.id.encode()
        return [
            Entry(event_id, seq, DAMAGED, b"0", b"{}", b"{}", b"{}")
            for seq in range(first, min(last.seq, first + 499) + 1)
        ]


async def look_over(cold: ColdReader, channel: Channel, after: str | None, look: Look) -> Look:
    """A look at the whole history, archived events included: its floor is the newest event that a policy removed.

    A stream that was trimmed past its archive keeps its own floor.

    Raises:
        LogUnavailable: the archive's store does not answer.
    """
    mark = ArchiveMark.parse(look.archive)
    if mark.upto.seq < look.floor.seq:
        return look
    previous, following = look.prev, look.next
    if after is not None and previous is None:
        if _order(after, 0) >= _order(look.floor.id, 0):
            previous = look.floor
        else:
            previous, oldest = await cold.around(ArchivePlace(channel, look.epoch, mark), after)
            following = oldest or following
    return look._replace(floor=mark.removed, prev=previous, next=following)


def is_before(bound: str, event_id: str) -> bool:
    """True if the bound of a range is below this ID."""
    return _order(bound, 0) < _order(event_id, 0)


def _order(text: str, number: int) -> Order:
    """A bound of a range as Redis reads it: an ID, or a time, which stands for its first or last ID; `+` is the end."""
    if text == "+":
        return (_END, 0)
    ms, has_number, n = text.partition("-")
    return int(ms or "0"), int(n) if has_number else number


def _order_of(event_id: bytes) -> Order:
    ms, _, n = event_id.partition(b"-")
    return int(ms), int(n)


def _position(entry: Entry | None) -> Position | None:
    return None if entry is None else Position(entry.id.decode(), entry.seq)
