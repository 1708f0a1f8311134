"""Reads the state of channels: cached folds, advanced to the head when requested, joined with the current live fields.

The durable part is always folded from the log, starting from a snapshot if there is one. A node caches the folds of
the channels that were requested last.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, TypeVar
from weakref import WeakKeyDictionary

from hub.limits.slices import FOLD_EVENTS, Slices
from hub.node.live_fields import READS, LiveFields
from hub.protocol.replies import StateAt
from projections.agent_runs import AGENT_RUNS, PENDING_REQUESTS
from projections.channel_settings import CHANNEL_SETTINGS
from projections.channel_state import ChannelState
from projections.errors import BrokenEvent, EventsMissing, SnapshotRefused
from projections.own import NO_OWN, OwnProjections
from projections.projection import Projection
from streams.channel import Channel, Kind
from streams.cursor import START, Cursor, Gap, Look, Position, id_order, judge
from streams.envelope import Entry
from streams.errors import MalformedCursor
from streams.json_bytes import JsonObject, to_json
from streams.records.run_store import RunStore
from streams.records.settings import SettingsRecords
from streams.records.snapshots import Snapshot, Snapshots
from streams.redis.log import Log
from streams.redis.sights import KeyRead, Sight
from streams.times import milliseconds_of_text

S = TypeVar("S")

RUNNING: Final = frozenset({Kind.CONVERSATION, Kind.AGENT})
"""The kinds of channel in which agents run."""
_BEGINNING: Final = Position(START, 0)
_NO_RUNS: Final = b'{"active_runs":[],"pending_requests":[]}'
MEMBERS: Final = "members"
"""The field of a team's state that comes from the live part."""
FOLDS_MAX: Final = 1_000
"""Maximum cached folds. A conversation of a thousand messages takes about 300 KB."""
FOLDS_BYTES_MAX: Final = 16_777_216
"""Maximum size of all cached folds together as JSON; in memory they take about four times as much. Beyond it the least recently
used ones are dropped, and folded again from a snapshot when requested: 14 ms for the largest."""
SNAPSHOT_EVERY_EVENTS: Final = 1_000
"""Events folded after the last snapshot before another is written: at most this many, about 10 ms, are folded without a cache."""

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Fold:
    """The cached fold of one channel.

    `weight_bytes` is the size of its last snapshot and of the events since, an upper bound of its size as JSON. `is_sealed` is true
    if a folded payload is sealed in the log: then no snapshot is written, because Redis would keep it in plain text.
    """

    epoch: str
    state: ChannelState
    snapshot_seq: int
    weight_bytes: int = 0
    is_sealed: bool = False

    def grown(self, entry: Entry) -> None:
        """Notes one more folded event."""
        self.weight_bytes += len(entry.data)
        if entry.sealed_for:
            self.is_sealed = True

    def saved(self, size_bytes: int) -> None:
        """Records that a snapshot of the present state was written."""
        self.weight_bytes, self.snapshot_seq = size_bytes, self.state.seq


def _noticed(reading: asyncio.Task[StateAt]) -> None:
    """Retrieves the exception of a read that nobody waits for any more, so that asyncio does not report it."""
    if not reading.cancelled():
        reading.exception()


class StateReader:
    """Reads channel states; each event is folded once per node.

    A `Look` is a channel's head, floor and epoch as read at one moment; a `Sight` is a look together with the
    answers to further reads in the same round trip.
    """

    def __init__(self, log: Log, slices: Slices, own: OwnProjections = NO_OWN) -> None:
        self._log = log
        self._slices = slices
        self._own = own
        self._snapshots = Snapshots(log)
        self._settings = SettingsRecords(log)
        self._runs = RunStore(log)
        self._live = LiveFields(log)
        self._folds: OrderedDict[Channel, _Fold] = OrderedDict()
        self._folds_bytes = 0
        self._past = asyncio.Lock()
        """Held while a past state is folded, so that only one is at a time."""
        self._locks: dict[Channel, asyncio.Lock] = {}  # of the channels being folded now
        self._reading: dict[Channel, asyncio.Lock] = {}  # of the channels being read now
        self._next_readings: dict[Channel, asyncio.Task[StateAt]] = {}
        self._looks: dict[Channel, Look] = {}  # of the channels whose next read has not begun
        self._shown: WeakKeyDictionary[Sight, StateAt] = (
            WeakKeyDictionary()
        )  # the result for everybody who shares a `Sight`
        self._shown_live: WeakKeyDictionary[Sight, StateAt] = WeakKeyDictionary()  # the same for `read_live`
        self._empty = {kind: ChannelState.begin(kind, own) for kind in Kind}
        self._empty_json = {kind: state.render() for kind, state in self._empty.items()}
        self.broken_count = 0

    def key_reads(self, channel: Channel, *, live_only: bool = False) -> tuple[KeyRead, ...]:
        """Returns the reads to add to a `Sight`, enough for the channel's state if its cached fold is at the head.

        Args:
            channel: a channel of any kind.
            live_only: True for `read_live`, which needs a fold only if a run is open.
        """
        reads = self._live.key_reads(channel)
        if not live_only:
            return reads
        if channel.kind is Kind.TEAM:
            return (self._settings.members_read(channel), *reads)
        return (self._runs.open_read(channel), *reads) if channel.kind in RUNNING else reads

    async def read_live(self, channel: Channel, sight: Sight) -> StateAt:
        """Returns the live part as of `sight`, with open runs and questions, for a client that kept the rest of the state.

        Args:
            channel: a channel of any kind.
            sight: a read of the channel whose last answers are those to `key_reads(live_only=True)`.

        Raises:
            LogUnavailable: Redis is unreachable.
        """
        if (now := self.read_live_now(channel, sight)) is not None:
            return now
        first = sight.answers[-READS[channel.kind] - 1] if channel.kind in RUNNING | {Kind.TEAM} else None
        position, fields = sight.look.head, b"{}"
        members: Iterable[str] = ()
        if channel.kind is Kind.TEAM:
            members = [name.decode() for name in first or ()]
        elif channel.kind in RUNNING:
            fields = _NO_RUNS
            if int(first or 0) > 0:
                state = await self.fold(channel, sight.look)
                position = Position(state.id, state.seq)
                fields = to_json({**_rendered(state, AGENT_RUNS), **_rendered(state, PENDING_REQUESTS)})
        live = await self._live.read(channel, sight, int(time.time() * 1000), members)
        self._shown_live[sight] = shown = _joined(fields, live, position)
        return shown

    async def read_from(self, channel: Channel, sight: Sight) -> StateAt:
        """Returns the state as of `sight`, which ends with the answers to `key_reads`; if the fold is behind it, as `read` does.

        Raises:
            LogUnavailable: Redis is unreachable.
        """
        if (now := self.read_from_now(channel, sight)) is not None:
            return now
        state = self._at_head(channel, sight.look)
        if state is None or not self._live.advance(channel, sight):
            return await self.read(channel, sight.look)
        self._shown[sight] = shown = await self._show(channel, state, sight)
        return shown

    def read_from_now(self, channel: Channel, sight: Sight) -> StateAt | None:
        """Returns the same as `read_from`; None if that takes another round trip."""
        if sight.is_shared and (known := self._shown.get(sight)) is not None:
            return known
        state = self._at_head(channel, sight.look)
        live = None if state is None else self._live.read_now(channel, sight, int(time.time() * 1000))
        if state is None or live is None:
            return None
        if state is self._empty[channel.kind]:
            shown = _joined(self._empty_json[channel.kind], live, _BEGINNING)
        else:
            durable, position, _ = self._durable(channel, state)
            shown = _joined(durable, live, position)
        if sight.is_shared:
            self._shown[sight] = shown
        return shown

    def read_live_now(self, channel: Channel, sight: Sight) -> StateAt | None:
        """Returns the same as `read_live`; None if that takes another round trip."""
        if sight.is_shared and (known := self._shown_live.get(sight)) is not None:
            return known
        is_running = channel.kind in RUNNING
        if is_running and int(sight.answers[-READS[channel.kind] - 1] or 0) > 0:
            return None
        live = self._live.read_now(channel, sight, int(time.time() * 1000))
        if live is None:
            return None
        shown = _joined(_NO_RUNS if is_running else b"{}", live, sight.look.head)
        if sight.is_shared:
            self._shown_live[sight] = shown
        return shown

    def _at_head(self, channel: Channel, look: Look) -> ChannelState | None:
        if not look.head.seq:
            return self._empty[channel.kind]
        fold = self._folds.get(channel)
        if fold is None or fold.epoch != look.epoch or (fold.state.id, fold.state.seq) != look.head:
            return None
        self._folds.move_to_end(channel)
        return fold.state

    async def read(self, channel: Channel, look: Look) -> StateAt:
        """Returns the state at the head of `look` or later, with the current live part.

        Callers that arrive while a channel is being read wait for the next read, which starts after that and
        serves them all: a thousand simultaneous callers cost two reads, not a thousand.

        Raises:
            LogUnavailable: Redis is unreachable.
        """
        next_reading = self._next_readings.get(channel)
        if next_reading is None:
            next_reading = self._next_readings[channel] = asyncio.create_task(self._read_in_turn(channel))
            next_reading.add_done_callback(_noticed)
        self._looks[channel] = look  # keep the newest look: its head is at or after those of the others
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
        durable, position, members = self._durable(channel, state)
        sight = await self._log.replay.sight(channel, None, self._live.key_reads(channel))
        live = await self._live.read(channel, sight, int(time.time() * 1000), members)
        return _joined(durable, live, position)

    async def _show(self, channel: Channel, state: ChannelState, sight: Sight) -> StateAt:
        durable, position, members = self._durable(channel, state)
        live = await self._live.read(channel, sight, int(time.time() * 1000), members)
        return _joined(durable, live, position)

    def _durable(self, channel: Channel, state: ChannelState) -> tuple[bytes, Position, Iterable[str]]:
        """Returns the durable part as JSON, its position, and the members it names.

        Valid only until the caller's next `await`.
        """
        position = Position(state.id, state.seq)
        if channel.kind is Kind.TEAM:  # members are shown with their status, which is in the live part
            return state.render(but=MEMBERS), position, frozenset(state.of(CHANNEL_SETTINGS).members)
        return state.render(), position, ()

    async def fold(self, channel: Channel, look: Look) -> ChannelState:
        """Returns the folded state at the head of `look` or later. Valid only until the caller's next `await`.

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
        """Returns the state as of an event id or an RFC 3339 time, folded from the log, without a live part.

        Raises:
            LogUnavailable: Redis is unreachable.
            MalformedCursor: `at` is neither.
        """
        state, last, after = ChannelState.begin(channel, self._own), moment(at), START
        async with self._past:
            while page := await self._page(channel, after, last):
                for part in _parts_of(page):
                    await self._slices.turn()
                    for entry in part:
                        state = self._fold_kept(channel, state, entry)
                after = page[-1].id.decode()
        return StateAt(state.render(), Position(state.id, state.seq))

    def _fold_kept(self, channel: Channel, state: ChannelState, entry: Entry) -> ChannelState:
        """Folds a stored event. If events are missing before it, the state starts over with this one."""
        try:
            self._fold_one(state, entry)
        except EventsMissing as error:
            self.broken_count += 1
            _log.warning("events are missing from the middle of a channel; its state begins after them: %s", error)
            state = ChannelState.begin(channel, self._own)
            self._fold_one(state, entry)
        return state

    def _fold_one(self, state: ChannelState, entry: Entry) -> None:
        try:
            state.advance(entry)
        except BrokenEvent as error:
            self.broken_count += 1
            _log.warning("a stored event is broken and was skipped: %s", error)

    def forget_opened(self) -> None:
        """Drops every fold of sealed payloads, because one of their keys was destroyed."""
        for channel in [channel for channel, fold in self._folds.items() if fold.is_sealed]:
            self._folds_bytes -= self._folds.pop(channel).weight_bytes
        self._shown.clear()

    @property
    def _generation(self) -> int:
        return 0 if self._log.seals is None else self._log.seals.generation

    async def _fold(self, channel: Channel, look: Look) -> _Fold:
        generation = self._generation
        fold = self._folds.pop(channel, None)
        if fold is not None:
            self._folds_bytes -= fold.weight_bytes
        if fold is None or fold.epoch != look.epoch:
            fold = await self._load(channel, look)
        try:
            await self._advance(channel, fold, look)
        except EventsMissing:  # trimmed meanwhile, or another history: fold the stored events from the start
            fold = await self._fold_anew(channel, look)
        if not fold.is_sealed and fold.state.seq - fold.snapshot_seq >= SNAPSHOT_EVERY_EVENTS:
            await self._save(channel, fold)
        if generation == self._generation or not fold.is_sealed:  # else it may hold what was erased meanwhile
            self._keep(channel, fold)
        return fold

    def _keep(self, channel: Channel, fold: _Fold) -> None:
        """Caches a fold as the most recently used one; the least recently used ones make room."""
        self._folds[channel] = fold
        self._folds_bytes += fold.weight_bytes
        while len(self._folds) > FOLDS_MAX or (self._folds_bytes > FOLDS_BYTES_MAX and len(self._folds) > 1):
            _, oldest = self._folds.popitem(last=False)
            self._folds_bytes -= oldest.weight_bytes

    async def _advance(self, channel: Channel, fold: _Fold, look: Look) -> None:
        """Folds the events up to the head of `look`, and those that were read with the last of them.

        It does not follow a head that moves on: beside much other work a busy channel grows faster than it is folded.
        """
        size = self._slices.page()
        page = await self._log.replay.page_from(
            channel, fold.state.id, size.events, limit_bytes=size.size_bytes
        )  # starts with the event at the fold's position, if it still exists
        if fold.state.seq and (not page or (page[0].id.decode(), page[0].seq) != (fold.state.id, fold.state.seq)):
            await self._require_unbroken(channel, fold)
        while page:
            for part in _parts_of(page):
                await self._slices.turn()
                for entry in part:
                    self._fold_one(fold.state, entry)
                    fold.grown(entry)
            if fold.state.seq >= look.head.seq:
                return
            page = await self._page(channel, fold.state.id)

    async def _fold_anew(self, channel: Channel, look: Look) -> _Fold:
        fold, after = _Fold(look.epoch, ChannelState.begin(channel, self._own), 0), START
        while page := await self._page(channel, after):
            for part in _parts_of(page):
                await self._slices.turn()
                for entry in part:
                    fold.state = self._fold_kept(channel, fold.state, entry)
                    fold.grown(entry)
            if fold.state.seq >= look.head.seq:  # as in `_advance`
                break
            after = page[-1].id.decode()
        fold.weight_bytes = len(fold.state.dump())
        return fold

    async def _page(self, channel: Channel, after: str, upto: str = "+") -> list[Entry]:
        size = self._slices.page()
        return await self._log.page(channel, after, size.events, upto, limit_bytes=size.size_bytes)

    async def _require_unbroken(self, channel: Channel, fold: _Fold) -> None:
        """Checks that the folded events were only trimmed: a promoted replica may have another history with the same seqs."""
        look = await self._log.look(channel, fold.state.id)
        if isinstance(judge(Cursor(fold.state.id, fold.state.seq, fold.epoch), look), Gap):
            raise EventsMissing(fold.state.seq, look.head.seq)

    async def _load(self, channel: Channel, look: Look) -> _Fold:
        snapshot = await self._snapshots.load(channel)
        if snapshot is not None and snapshot.epoch == look.epoch:
            try:
                state = ChannelState.load(snapshot.state, self._own)
            except SnapshotRefused:
                _log.info("an old snapshot was ignored")
            else:
                if state.seq <= look.head.seq:
                    await self._make_up_for_own(channel, state)
                    return _Fold(look.epoch, state, state.seq, len(snapshot.state))
        return _Fold(look.epoch, ChannelState.begin(channel, self._own), 0)

    async def _make_up_for_own(self, channel: Channel, state: ChannelState) -> None:
        """Folds the stored events up to a snapshot's position for the custom projections that the snapshot lacks."""
        after = START
        while state.is_own_behind:
            page = await self._page(channel, after, state.id)
            for part in _parts_of(page):
                await self._slices.turn()
                for entry in part:
                    try:
                        state.advance_own(entry)
                    except BrokenEvent:
                        self.broken_count += 1
            if not page:
                state.own_caught_up()
            else:
                after = page[-1].id.decode()

    async def _save(self, channel: Channel, fold: _Fold) -> None:
        snapshot = Snapshot(fold.epoch, fold.state.dump())
        await self._snapshots.save(channel, snapshot)
        fold.saved(len(snapshot.state))


def _parts_of(page: list[Entry]) -> Iterator[list[Entry]]:
    """Yields the events of a page that are folded in one slice each."""
    for start in range(0, len(page), FOLD_EVENTS):
        yield page[start : start + FOLD_EVENTS]


def _joined(durable: bytes, live: bytes, position: Position) -> StateAt:
    if b"{}" in (durable, live):
        return StateAt(live if durable == b"{}" else durable, position)
    return StateAt(durable[:-1] + b"," + live[1:], position)


def _rendered(state: ChannelState, projection: Projection[S]) -> JsonObject:
    return projection.render(state.of(projection))


def moment(at: str) -> str:
    """Returns the highest id to include: an event id itself, or the last id of an RFC 3339 time's millisecond.

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
        return str(
            max(ms, 0)
        )  # XRANGE takes a bare time as the last id of its millisecond, and accepts none before 1970
    return at
