"""The states of channels: folds kept warm, brought to the head when asked for, joined with the live fields of now.

The durable part is folded from the log, from a snapshot where there is one; it never comes from anywhere else. A node keeps the
folds of the channels asked for last.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from hub.protocol.replies import StateAt
from projections.channel_settings import CHANNEL_SETTINGS
from projections.channel_state import ChannelState
from projections.errors import BrokenEvent, EventsMissing, SnapshotRefused
from projections.live import LIVE_TYPES, Live
from projections.recorded import recorded
from streams.channel import Channel, Kind
from streams.cursor import START, Cursor, Gap, Look, Position, id_order, judge
from streams.envelope import Entry
from streams.errors import MalformedCursor
from streams.json_bytes import to_json
from streams.records.presence import PresenceStore, ReadMarks
from streams.records.snapshots import Snapshot, Snapshots
from streams.records.upload_store import OpenUploads
from streams.redis.log import Log
from streams.redis.replay import PAGE_EVENTS
from streams.times import milliseconds_of_text

LIVE_FOLDS_MAX: Final = 1_000
"""Channels whose live lane is kept folded; each holds as much as `projections.live` lets it."""
MARKS_MAX: Final = 200
"""Read marks shown: those of the people who read furthest."""


class LiveFields:
    """Reads presence, open uploads, answers and read marks from beside the log, and the rest out of the live lane."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._presence = PresenceStore(log)
        self._marks = ReadMarks(log)
        self._uploads = OpenUploads(log)
        self._folds: OrderedDict[Channel, tuple[Live, str]] = OrderedDict()

    async def read(self, channel: Channel, now_ms: int, members: Iterable[str] = ()) -> bytes:
        """The live fields as one JSON object; `members` are those that the channel names."""
        if channel.kind is Kind.USER:
            return b"{}"
        shown: dict[str, Any] = {"uploads": await self._uploads.read(channel)}
        if channel.kind in {Kind.CONVERSATION, Kind.AGENT}:
            shown["open_messages"] = open_messages(await self._log.replay.open_texts(channel))
        shown |= (await self._fold(channel)).render(now_ms)
        if channel.kind is Kind.CONVERSATION:
            shown["read_markers"] = await self._read_markers(channel)
        if channel.kind is Kind.TEAM:
            shown["members"] = await self._presence.members(channel, now_ms, members)
        people = await self._presence.people(channel, now_ms)
        if isinstance(people, int):
            shown["presence_count"] = people
        else:
            shown["presence"] = [person._asdict() for person in people]
        return to_json(shown)

    async def _fold(self, channel: Channel) -> Live:
        """The live lane's passing types, folded on from this node's last place."""
        live, last = self._folds.pop(channel, (Live(channel.kind), ""))
        page = await self._log.replay.live_page(channel, last or "-")
        if last and page and page[0].id.decode() == last:
            page = page[1:] or await self._log.replay.live_page(channel, f"({last}")
        elif last:  # the lane was trimmed past it, or is another one: as a node that has folded nothing yet
            live, last = Live(channel.kind), ""
            page = await self._log.replay.live_page(channel)
        while page:
            for entry in page:
                if entry.type in LIVE_TYPES:
                    live.apply(recorded(entry))
            last = page[-1].id.decode()
            page = await self._log.replay.live_page(channel, f"({last}")
        self._folds[channel] = (live, last)
        if len(self._folds) > LIVE_FOLDS_MAX:
            self._folds.popitem(last=False)
        return live

    async def _read_markers(self, channel: Channel) -> dict[str, str]:
        marks = await self._marks.of(channel)
        newest = sorted(marks, key=lambda user: id_order(marks[user]), reverse=True)[:MARKS_MAX]
        return {user: marks[user] for user in newest}


def open_messages(fields: dict[str, str]) -> list[dict[str, Any]]:
    """The answers in progress out of the fields scripts/append.lua keeps."""
    found = []
    for message_id, head in fields.items():
        if ":" in message_id:
            continue
        message = {"message_id": message_id, **json.loads(head)}
        message["text"] = fields.get(f"{message_id}:text", "")
        message["offset"] = int(fields.get(f"{message_id}:text:n", 0))
        if f"{message_id}:reasoning" in fields:
            message["reasoning"] = fields[f"{message_id}:reasoning"]
            message["reasoning_offset"] = int(fields[f"{message_id}:reasoning:n"])
        found.append(message)
    return found


MEMBERS: Final = "members"
"""The field that a team's live part gives."""
FOLDS_MAX: Final = 1_000
"""Channels kept folded. A conversation of a thousand messages takes about 300 KB."""
FOLDS_BYTES_MAX: Final = 16_777_216
"""The weight of all of them together, as JSON; in memory it is some four times as much. Beyond it those asked for longest ago are
folded anew, from a snapshot, when they are asked for again: 14 ms for the largest."""
SNAPSHOT_EVERY_EVENTS: Final = 1_000
"""A snapshot is written when so many events were folded after the last: the most a cold node folds, about 10 ms."""

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Fold:
    """One channel folded. `weight_bytes` is its last snapshot and the events since: never less than it takes as JSON."""

    epoch: str
    state: ChannelState
    snapshot_seq: int
    weight_bytes: int = 0

    def grown(self, size_bytes: int) -> None:
        """One more event was folded."""
        self.weight_bytes += size_bytes

    def saved(self, size_bytes: int) -> None:
        """A snapshot of it as it stands was written."""
        self.weight_bytes, self.snapshot_seq = size_bytes, self.state.seq


def _noticed(reading: asyncio.Task[StateAt]) -> None:
    """Retrieve the exception of a reading that nobody waits for any more, so that asyncio does not report it."""
    if not reading.cancelled():
        reading.exception()


class StateReader:
    """Reads channel states; each event is folded once per node."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._snapshots = Snapshots(log)
        self._live = LiveFields(log)
        self._folds: OrderedDict[Channel, _Fold] = OrderedDict()
        self._folds_bytes = 0
        self._past = asyncio.Lock()
        """States of the past are folded one after another: each takes 7 µs an event of everybody's time."""
        self._locks: dict[Channel, asyncio.Lock] = {}  # of those being folded now
        self._reading: dict[Channel, asyncio.Lock] = {}  # of those being read now
        self._next_readings: dict[Channel, asyncio.Task[StateAt]] = {}
        self._looks: dict[Channel, Look] = {}  # of those whose next reading has not begun
        self.broken_count = 0

    async def read(self, channel: Channel, look: Look) -> StateAt:
        """The state at the look's head or later, with the live part as of now.

        Whoever asks while a channel is being read waits for the next reading, which begins after that and is one for all who
        wait: a thousand who come at once cost two readings, not a thousand.

        Raises:
            LogUnavailable: Redis is unreachable.
        """
        next_reading = self._next_readings.get(channel)
        if next_reading is None:
            next_reading = self._next_readings[channel] = asyncio.create_task(self._read_in_turn(channel))
            next_reading.add_done_callback(_noticed)
        self._looks[channel] = look  # the newest: its head is at or after the others'
        return await asyncio.shield(next_reading)

    async def _read_in_turn(self, channel: Channel) -> StateAt:
        lock = self._reading.setdefault(channel, asyncio.Lock())
        try:
            async with lock:
                del self._next_readings[channel]
                return await self._read(channel, self._looks.pop(channel))
        finally:
            if not lock.locked() and channel not in self._next_readings:
                self._reading.pop(channel, None)

    async def _read(self, channel: Channel, look: Look) -> StateAt:
        state = await self.fold(channel, look)
        position, members = Position(state.id, state.seq), set[str]()
        if channel.kind is Kind.TEAM:  # it shows how its members are: the live part has them
            durable, members = state.render(but=MEMBERS), state.of(CHANNEL_SETTINGS).members
        else:
            durable = state.render()
        live = await self._live.read(channel, int(time.time() * 1000), members)
        return StateAt(durable if live == b"{}" else durable[:-1] + b"," + live[1:], position)

    async def fold(self, channel: Channel, look: Look) -> ChannelState:
        """The fold itself, at the look's head or later. For reading, before the caller's next await.

        Raises:
            LogUnavailable: Redis is unreachable.
        """
        lock = self._locks.setdefault(channel, asyncio.Lock())
        try:
            async with lock:
                return (await self._fold(channel, look)).state
        finally:
            if not lock.locked():
                self._locks.pop(channel, None)

    async def read_at(self, channel: Channel, at: str) -> StateAt:
        """The state as of an event ID or an RFC 3339 time, folded from the log; it has no live part.

        Raises:
            LogUnavailable: Redis is unreachable.
            MalformedCursor: `at` is neither.
        """
        state, last, after = ChannelState.begin(channel), moment(at), START
        async with self._past:
            while page := await self._log.page(channel, after, PAGE_EVENTS, last):
                for entry in page:
                    state = self._fold_kept(channel, state, entry)
                after = page[-1].id.decode()
        return StateAt(state.render(), Position(state.id, state.seq))

    def _fold_kept(self, channel: Channel, state: ChannelState, entry: Entry) -> ChannelState:
        """Fold the kept events: where some are missing out of the middle, only those after them can be vouched for."""
        try:
            self._fold_one(state, entry)
        except EventsMissing as error:
            self.broken_count += 1
            _log.warning("events are missing from the middle of a channel; its state begins after them: %s", error)
            state = ChannelState.begin(channel)
            self._fold_one(state, entry)
        return state

    def _fold_one(self, state: ChannelState, entry: Entry) -> None:
        try:
            state.advance(entry)
        except BrokenEvent as error:
            self.broken_count += 1
            _log.warning("a stored event is broken and was skipped: %s", error)

    async def _fold(self, channel: Channel, look: Look) -> _Fold:
        fold = self._folds.pop(channel, None)
        if fold is not None:
            self._folds_bytes -= fold.weight_bytes
        if fold is None or fold.epoch != look.epoch:
            fold = await self._load(channel, look)
        try:
            await self._advance(channel, fold)
        except EventsMissing:  # trimmed below us meanwhile, or another history: from the kept events
            state = await self._fold_anew(channel)
            fold = _Fold(look.epoch, state, 0, len(state.dump()))
        if fold.state.seq - fold.snapshot_seq >= SNAPSHOT_EVERY_EVENTS:
            await self._save(channel, fold)
        self._keep(channel, fold)
        return fold

    def _keep(self, channel: Channel, fold: _Fold) -> None:
        """Keep it as the one asked for last; those asked for longest ago make room."""
        self._folds[channel] = fold
        self._folds_bytes += fold.weight_bytes
        while len(self._folds) > FOLDS_MAX or (self._folds_bytes > FOLDS_BYTES_MAX and len(self._folds) > 1):
            _, oldest = self._folds.popitem(last=False)
            self._folds_bytes -= oldest.weight_bytes

    async def _advance(self, channel: Channel, fold: _Fold) -> None:
        page = await self._log.replay.page_from(channel, fold.state.id)  # its own event first: is it still there?
        if fold.state.seq and (not page or (page[0].id.decode(), page[0].seq) != (fold.state.id, fold.state.seq)):
            await self._require_unbroken(channel, fold)
        while page:
            for entry in page:
                self._fold_one(fold.state, entry)
                fold.grown(len(entry.data))
            page = await self._log.page(channel, fold.state.id, PAGE_EVENTS)

    async def _fold_anew(self, channel: Channel) -> ChannelState:
        state, after = ChannelState.begin(channel), START
        while page := await self._log.page(channel, after, PAGE_EVENTS):
            for entry in page:
                state = self._fold_kept(channel, state, entry)
            after = page[-1].id.decode()
        return state

    async def _require_unbroken(self, channel: Channel, fold: _Fold) -> None:
        """The folded events may have been trimmed; but a replica promoted without it has another history under equal seqs."""
        look = await self._log.look(channel, fold.state.id)
        if isinstance(judge(Cursor(fold.state.id, fold.state.seq, fold.epoch), look), Gap):
            raise EventsMissing(fold.state.seq, look.head.seq)

    async def _load(self, channel: Channel, look: Look) -> _Fold:
        snapshot = await self._snapshots.load(channel)
        if snapshot is not None and snapshot.epoch == look.epoch:
            try:
                state = ChannelState.load(snapshot.state)
            except SnapshotRefused:
                _log.info("an old snapshot was ignored")
            else:
                if state.seq <= look.head.seq:
                    return _Fold(look.epoch, state, state.seq, len(snapshot.state))
        return _Fold(look.epoch, ChannelState.begin(channel), 0)

    async def _save(self, channel: Channel, fold: _Fold) -> None:
        snapshot = Snapshot(fold.epoch, fold.state.dump())
        await self._snapshots.save(channel, snapshot)
        fold.saved(len(snapshot.state))


def moment(at: str) -> str:
    """The newest ID that is still within: an event ID itself, or the last of an RFC 3339 time's millisecond.

    Raises:
        MalformedCursor: neither.
    """
    try:
        id_order(at)
    except MalformedCursor:
        try:
            ms = milliseconds_of_text(at)
        except ValueError:
            raise MalformedCursor("`at` must be an event ID or an RFC 3339 time") from None
        return str(max(ms, 0))  # XRANGE reads a bare end as its last ID, and knows none before 1970
    return at
