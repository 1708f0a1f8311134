"""A page of a channel's history, for the socket and for HTTP (docs/protocol.md#channels)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final

from hub.protocol.replies import gap_json
from streams.channel import Channel
from streams.cursor import START, Cursor, Gap, GapReason, Look, id_order, judge, ms_of_id
from streams.envelope import Entry
from streams.events.channels import ChannelHistory
from streams.json_bytes import to_json
from streams.redis.replay import PAGE_BYTES, PAGE_EVENTS, Replay
from streams.times import milliseconds_of_text

SCAN_EVENTS_MAX: Final = 10_000
"""Maximum events read for one page in search of the wanted types; then the page ends early, with a `next`."""
SCAN_BYTES_MAX: Final = 33_554_432
"""Maximum bytes of payloads read for one page; it ends early, too."""
PAGE_BYTES_MAX: Final = 4_194_304
"""Maximum bytes of payloads in one page; the event that exceeds it is the last one, and `next` continues after it. A thousand
chat events take a tenth of it; a thousand events of the largest size would make an answer of 512 MB."""


@dataclass(frozen=True, slots=True)
class HistoryQuery:
    """A query of the history. `after` and `before` exclude each other; times are in milliseconds, inclusive.

    Attributes:
        actor, text: a part of the actor's ID; a part of the payload as JSON. Case does not matter.
    """

    after: str | None = None
    before: str | None = None
    from_ms: int | None = None
    to_ms: int | None = None
    types: tuple[str, ...] = ()
    limit: int = 100
    actor: str = ""
    text: str = ""

    @classmethod
    def of(cls, payload: ChannelHistory) -> HistoryQuery:
        """Converts a `channel.history` payload."""
        return cls(
            payload.after,
            payload.before,
            _ms(payload.from_time),
            _ms(payload.to_time),
            tuple(payload.types or ()),
            payload.limit,
        )

    def wants(self, entry: Entry) -> bool:
        """True if the query asks for this event; a trailing `*` of a type matches any ending.

        A damaged event never matches.
        """
        if entry.is_damaged:
            return False
        name = entry.type.decode()
        if self.types and not any(name.startswith(t[:-1]) if t.endswith("*") else name == t for t in self.types):
            return False
        if self.actor and self.actor.casefold() not in actor_of(entry.actor).casefold():
            return False
        return not self.text or self.text.casefold() in _readable(entry.data).casefold()

    @property
    def is_selective(self) -> bool:
        """True if it asks for some events only."""
        return bool(self.types or self.actor or self.text)

    def is_full(self, found: Sequence[Entry], size_bytes: int) -> bool:
        """True if the page ends here."""
        return len(found) == self.limit or size_bytes >= PAGE_BYTES_MAX

    def read_count(self, found: Sequence[Entry]) -> int:
        """Returns how many events to read from the log: only as many as are still missing, if every event is wanted."""
        return PAGE_EVENTS if self.is_selective else min(PAGE_EVENTS, self.limit - len(found))


@lru_cache(maxsize=1_024)
def actor_of(actor: bytes) -> str:
    """The ID of a stored actor."""
    return str(json.loads(actor)["id"])


def _readable(data: bytes) -> str:
    """A payload as JSON in which letters are not escaped."""
    return json.dumps(json.loads(data), ensure_ascii=False, separators=(",", ":")) if b"\\u" in data else data.decode()


@dataclass(frozen=True, slots=True)
class Page:
    """Events, always oldest first. `next` is the cursor of the following page in the direction of the query.

    Attributes:
        excess: further reads of the log, beyond the first one that the command's own cost covers.
    """

    events: list[Entry]
    next: str | None
    gap: Gap | None
    excess: float = 0.0

    def to_json(self, channel: Channel) -> bytes:
        """Returns the page as JSON; the events are the stored bytes."""
        wire = channel.wire.encode()
        rest = to_json({"next": self.next, "gap": gap_json(self.gap)})[1:]
        return b'{"events":[%b],%b' % (b",".join(entry.wire(wire) for entry in self.events), rest)


@dataclass(slots=True)
class _Read:
    """The events read for a page, and their total size in bytes."""

    count: int = 0
    size_bytes: int = 0

    def note(self, page: Sequence[Entry]) -> None:
        self.count += len(page)
        self.size_bytes += sum(len(entry.data) for entry in page)


async def read_history(replay: Replay, channel: Channel, query: HistoryQuery) -> Page:
    """Reads one page of stored events.

    Raises:
        LogUnavailable: Redis is unreachable.
    """
    read = _Read()
    found = await (_forwards if query.before is None else _backwards)(replay, channel, query, read)
    return replace(found, excess=max(0.0, read.count / PAGE_EVENTS - 1, read.size_bytes / PAGE_BYTES - 1))


async def _forwards(replay: Replay, channel: Channel, query: HistoryQuery, read: _Read) -> Page:
    gap = await _gap_before(replay, channel, query.after)
    if query.to_ms is not None and query.to_ms < 0:  # before 1970: Redis refuses such an ID
        return Page([], None, gap)
    found: list[Entry] = []
    after, upto = _start(query), f"{query.to_ms}" if query.to_ms is not None else "+"
    scanned = size_bytes = 0
    while scanned < SCAN_EVENTS_MAX and read.size_bytes < SCAN_BYTES_MAX:
        page = await replay.page(channel, after, query.read_count(found), upto)
        read.note(page)
        if after == START and page:
            gap = gap or _trimmed_before(page[0])
        for entry in page:
            after = entry.id.decode()
            scanned += 1
            gap = gap or _damaged_at(entry)
            if query.wants(entry):
                found.append(entry)
                size_bytes += len(entry.data)
                if query.is_full(found, size_bytes):
                    return Page(found, await _next(replay, channel, after, upto), gap)
        if not page:
            return Page(found, None, gap)
    return Page(found, after, gap)


async def _next(replay: Replay, channel: Channel, after: str, upto: str) -> str | None:
    return after if await replay.page(channel, after, 1, upto) else None


def _start(query: HistoryQuery) -> str:
    from_time = f"{query.from_ms - 1}-18446744073709551615" if query.from_ms else START
    after = query.after or START
    return after if query.from_ms is None or id_order(after)[0] >= query.from_ms else from_time


async def _gap_before(replay: Replay, channel: Channel, after: str | None) -> Gap | None:
    if after is None:
        return None
    look: Look = await replay.look(channel, after)
    verdict = judge(Cursor(after), look)
    return verdict if isinstance(verdict, Gap) else None


def _trimmed_before(oldest: Entry | None) -> Gap | None:
    """Returns the gap before the oldest stored event, so that readers do not take it for the channel's first one."""
    return Gap(GapReason.TRIMMED, 1, oldest.seq - 1) if oldest is not None and oldest.seq > 1 else None


async def _backwards(replay: Replay, channel: Channel, query: HistoryQuery, read: _Read) -> Page:
    found: list[Entry] = []
    before, scanned, size_bytes = query.before or "+", 0, 0
    oldest: Entry | None = None
    damaged: Gap | None = None
    if query.to_ms is not None and query.to_ms < 0:
        return Page([], None, None)
    if query.to_ms is not None and id_order(before)[0] > query.to_ms:
        before = f"{query.to_ms + 1}-0"
    while scanned < SCAN_EVENTS_MAX and read.size_bytes < SCAN_BYTES_MAX:
        page = await replay.page_back(channel, before, query.read_count(found))
        read.note(page)
        for entry in page:
            if query.from_ms is not None and ms_of_id(entry.id) < query.from_ms:
                return Page(found[::-1], None, damaged)
            oldest, before = entry, entry.id.decode()
            scanned += 1
            damaged = _damaged_at(entry) or damaged
            if query.wants(entry):
                found.append(entry)
                size_bytes += len(entry.data)
                if query.is_full(found, size_bytes):
                    more = await replay.page_back(channel, before, 1)
                    if more and query.from_ms is not None and ms_of_id(more[0].id) < query.from_ms:
                        return Page(found[::-1], None, damaged)
                    gap = None if more else _trimmed_before(oldest)
                    return Page(found[::-1], before if more else None, gap or damaged)
        if not page:
            return Page(found[::-1], None, _trimmed_before(oldest) or damaged)
    return Page(found[::-1], before, damaged)


def _damaged_at(entry: Entry) -> Gap | None:
    """Returns the gap that replaces an event whose checksum does not match; such an event is never shown."""
    return Gap(GapReason.TRIMMED, entry.seq, entry.seq) if entry.is_damaged else None


def _ms(time: str | None) -> int | None:
    return None if time is None else milliseconds_of_text(time)
