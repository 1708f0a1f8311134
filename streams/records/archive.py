"""The records of the archive in Redis: the channels with their positions, the mark of what is archived, and the trim below it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Final, NamedTuple, Protocol

from streams.archive.manifest import ArchiveMark
from streams.channel import Channel, Kind
from streams.cursor import START, Position, ms_of_id
from streams.records.scripts import load
from streams.redis.calls import Calls
from streams.redis.keys import Keys
from streams.redis.replay import TRIM, Replay

_MARK: Final = load("archive_mark")
_ANEW: Final = load("archive_anew")
_SCAN_COUNT: Final = 1_000
"""Keys that Redis looks at in one call of a scan: about 0.3 ms."""
_PAGE: Final = 500


class ChannelFacts(NamedTuple):
    """A channel's record, as the keeper of the archive sees it.

    Attributes:
        covered: the newest event whose leaf a checkpoint covers.
        mark: the newest manifest.
        erased_seq: the seq up to which the segments that a policy removed are deleted from the store.
    """

    channel: Channel
    epoch: str
    seq: int
    floor: Position
    covered: Position
    mark: ArchiveMark
    erased_seq: int


class DamagedFacts(NamedTuple):
    """A channel whose record in Redis does not have the form in which the hub writes it."""

    channel: Channel


class ArchivedLog(Protocol):
    """A log whose events are archived: `Log`, or `DeletedLog`."""

    keys: Keys
    stored: Replay

    @property
    def memory(self) -> tuple[int, int]:
        """See `Log.memory`."""
        ...

    def now_ms(self) -> int:
        """See `Log.now_ms`."""
        ...

    def calls_of(self, channel: Channel) -> Calls:
        """See `Log.calls_of`."""
        ...

    def by_server(self) -> Iterable[tuple[Sequence[int], Calls]]:
        """See `Log.by_server`."""
        ...


class ArchiveRecords:
    """Reads and writes these records. All methods raise LogUnavailable while Redis is unreachable."""

    def __init__(self, log: ArchivedLog) -> None:
        self._log = log

    async def channels(self) -> AsyncIterator[list[ChannelFacts | DamagedFacts]]:
        """All channels of all tenants, some at a time. One that begins meanwhile may be left out."""
        for _, calls in self._log.by_server():
            async for directory in self._directories(calls):
                tenant, kind = directory.decode().rpartition("}:")[2].split(":channels:")
                async for names in _names(calls, directory):
                    yield await self._facts(calls, [Channel(tenant, Kind(kind), name) for name in names])

    async def _directories(self, calls: Calls) -> AsyncIterator[bytes]:
        cursor, seen = b"0", set[bytes]()
        while True:
            cursor, keys = await calls.call("SCAN", cursor, "MATCH", "hub:{p*}:*:channels:*", "COUNT", _SCAN_COUNT)
            for key in keys:
                if key not in seen and _is_directory(key.decode().partition("}:")[2]):
                    seen.add(key)
                    yield key
            if cursor == b"0":
                return

    async def facts(self, channel: Channel) -> ChannelFacts | DamagedFacts | None:
        """The record of one channel; None if it has none."""
        found = await self._facts(self._log.calls_of(channel), [channel])
        return found[0] if found else None

    async def _facts(self, calls: Calls, channels: Sequence[Channel]) -> list[ChannelFacts | DamagedFacts]:
        fields = ("epoch", "seq", "floor_id", "floor_seq", "covered", "archive", "erased")
        replies = await calls.pipeline([("HMGET", self._log.keys.of(one).meta, *fields) for one in channels])
        found: list[ChannelFacts | DamagedFacts] = []
        for channel, (epoch, seq, floor_id, floor_seq, covered, mark, erased) in zip(channels, replies, strict=True):
            if epoch is None:
                continue
            try:
                floor = Position(floor_id.decode(), int(floor_seq)) if floor_seq else Position(START, 0)
                covered_id, _, covered_seq = (covered or b"0 0").decode().partition(" ")
                upto, read = Position(covered_id, int(covered_seq)), ArchiveMark.parse((mark or b"").decode())
                found.append(ChannelFacts(channel, epoch.decode(), int(seq), floor, upto, read, int(erased or 0)))
            except (ValueError, TypeError):  # one of its numbers is none, or missing
                found.append(DamagedFacts(channel))
        return found

    async def begin_anew(self, channel: Channel, before: str, epoch: str) -> bool:
        """Begin another epoch with the same events, and with nothing archived; False if the epoch is not `before`."""
        keys = self._log.keys.of(channel)
        return bool(await self._log.calls_of(channel).run(_ANEW, (keys.meta,), before, epoch))

    async def note_covered(self, facts: ChannelFacts, upto: Position) -> None:
        """Record the newest event that a checkpoint covers; does nothing if the channel has another epoch by now."""
        before = f"{facts.covered.id} {facts.covered.seq}" if facts.covered.seq else ""
        await self._set(facts, "covered", before, f"{upto.id} {upto.seq}")

    async def note_archived(self, facts: ChannelFacts, mark: ArchiveMark) -> bool:
        """Set the mark; False if the channel has another epoch, or another mark than in `facts`."""
        before = str(facts.mark) if facts.mark.number else ""
        return await self._set(facts, "archive", before, str(mark))

    async def note_erased(self, facts: ChannelFacts, upto_seq: int) -> None:
        """Record the seq up to which removed segments are deleted; does nothing if the channel has another epoch by now."""
        await self._set(facts, "erased", str(facts.erased_seq or ""), str(upto_seq))

    async def _set(self, facts: ChannelFacts, field: str, before: str, value: str) -> bool:
        keys = self._log.keys.of(facts.channel)
        calls = self._log.calls_of(facts.channel)
        return bool(await calls.run(_MARK, (keys.meta,), facts.epoch, field, before, value))

    async def trim(self, channel: Channel, epoch: str, upto: str) -> int:
        """Trim the events up to and including `upto` and move the floor. Returns their number.

        Nothing is trimmed (0) if the channel has another epoch, or if the mark does not reach as far.
        """
        keys = self._log.keys.of(channel)
        reply = await self._log.calls_of(channel).run(TRIM, (keys.stream, keys.meta), upto, epoch)
        return int(reply[0])

    async def oldest_ms(self, channel: Channel) -> int | None:
        """The time of the oldest event in Redis; None if there is none."""
        found = await self._log.calls_of(channel).call(
            "XRANGE", self._log.keys.of(channel).stream, "-", "+", "COUNT", 1
        )
        return ms_of_id(found[0][0]) if found else None

    async def newest_until(self, channel: Channel, until_ms: int) -> int:
        """The seq of the newest event in Redis that is not later than this time; 0 if there is none."""
        stream, calls = self._log.keys.of(channel).stream, self._log.calls_of(channel)
        if not await calls.call("XRANGE", stream, "-", until_ms, "COUNT", 1):
            return 0  # asked first, because XREVRANGE walks through all entries to find that they are all newer
        found = await calls.call("XREVRANGE", stream, until_ms, "-", "COUNT", 1)
        return int(found[0][1][1]) if found else 0

    async def memory_bytes(self, channel: Channel) -> int:
        """The memory of the channel's stream, estimated by Redis from a few of its nodes."""
        return int(await self._log.calls_of(channel).call("MEMORY", "USAGE", self._log.keys.of(channel).stream) or 0)


async def _names(calls: Calls, directory: bytes) -> AsyncIterator[list[str]]:
    start = "-"
    while names := await calls.call("ZRANGEBYLEX", directory, start, "+", "LIMIT", 0, _PAGE):
        yield [name.decode() for name in names]
        start = f"({names[-1].decode()}"


def _is_directory(rest: str) -> bool:
    tenant, word, kind = (rest + "::").split(":", 2)
    return word == "channels" and bool(tenant) and kind.removesuffix("::") in Kind._value2member_map_
