"""The tail, one per node: it waits for new events of any channel and reads those of the channels that the node watches.

Each partition has a bell, a short stream to which every append adds the channels that it changed. One connection waits in XREAD
BLOCK on all bells; the other reads the changed channels, each after the last ID seen. While a read is in flight further bell
entries gather, so the busier the node, the larger each read; no timer batches anything. When events may have been missed (bell
entries trimmed before they were read, a new connection, a log with another identity) every watched channel is read again from
its own position and, where the log itself may have changed, compared with a look at it.

A process reads its own appends back on the append's connection, right after the batch: the answer and the event reach the
writer in the same tick. The bell entries of such a batch bring no news and are ignored (ops/decisions/0004-read-back.md).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Final, Protocol

from streams.channel import Channel
from streams.cursor import Position, id_order
from streams.envelope import Entry, read_own_entries, read_own_live_entries, unbroken
from streams.redis.calls import CALL_TIMEOUT_S, pairs
from streams.redis.keys import DEFAULT_LIMITS, Keys, Limits
from streams.redis.wire import Argument, Reply, Wire
from streams.sealing.seals import Seals

READ_EVENTS_MAX: Final = 500
"""Maximum number of events of a channel per read; the next read gets the following ones."""
READ_TOTAL_MAX: Final = 20_000
"""Maximum number of events of all channels per read: about 10 MB. The more channels changed, the fewer events each gets at a time.
"""
READ_EVENTS_MIN: Final = 10
BEGUN_MAX: Final = 1_024
"""Channels whose log has started over that are remembered: one may be followed only then by what was read of it before."""
BLOCK_MS: Final = 1_000
"""Longest wait on the bells, and the interval between checks of the log's identity. A smaller value costs one more call a second.
"""

_log = logging.getLogger(__name__)


class Listener(Protocol):
    """Receives the events of a watched channel."""

    def events(self, entries: list[Entry]) -> None:
        """Takes new events, whose seqs follow the tail's position without a hole."""

    def live(self, entries: list[Entry]) -> None:
        """Takes new entries of the live lane."""

    def is_of(self, epoch: str) -> bool:
        """True if `epoch` is the epoch of the channel as the listener knows it."""

    def broken(self) -> None:
        """The log did not continue at the tail's position: every cursor of the channel must be checked again."""


class _Nobody:
    """The listener of a channel that is watched no more: the former one holds the channel, and both would stay until collected."""

    def events(self, entries: list[Entry]) -> None:
        """Takes nothing."""

    def live(self, entries: list[Entry]) -> None:
        """Takes nothing."""

    def is_of(self, epoch: str) -> bool:  # noqa: ARG002 - the port's signature
        """True of every epoch."""
        return True

    def broken(self) -> None:
        """Does nothing."""


_NOBODY: Final[Listener] = _Nobody()


class Watched:
    """A watched channel: the tail's position in each of its two lanes.

    Attributes:
        passed: the ID of an entry after the position that somebody added by hand, with no event in between; None if there is none.
    """

    __slots__ = (
        "channel",
        "is_suspended",
        "listener",
        "live_id",
        "live_key",
        "passed",
        "path",
        "position",
        "stream_key",
    )

    def __init__(self, channel: Channel, keys: Keys, position: Position, live_id: str, listener: Listener) -> None:
        names = keys.of(channel)
        self.channel = channel
        self.path = names.path
        self.stream_key = names.stream
        self.live_key = names.live
        self.position = position
        self.live_id = live_id
        self.listener = listener
        self.is_suspended = False
        self.passed: bytes | None = None


class Hearer(Protocol):
    """Receives the contents of the bells."""

    def rung(self, event_paths: bytes, live_paths: bytes) -> None:
        """Takes the paths, separated by spaces, of the channels with new events and of those with new live entries."""

    def begun(self, path: bytes, epoch: str) -> None:
        """Takes the path of a channel whose log has started over with a new epoch."""

    def missed(self, prefix: bytes) -> None:
        """Bell entries of a partition may have been trimmed unread. All its keys begin with `prefix`."""

    def heard(self) -> None:
        """The entries of one read have all been passed on."""


class Labels:
    """The labels of one process's batches, which its bell entries carry.

    Args:
        name: begins each label, unique among processes.

    Attributes:
        name: the same, as bytes.
        batch: number of batches begun so far.
    """

    def __init__(self, name: str) -> None:
        self.name = name.encode()
        self.batch = 0

    def begin_batch(self) -> bytes:
        """Returns the label of the next batch."""
        self.batch += 1
        return b"%b:%d" % (self.name, self.batch)


class Bells:
    """Reads bells for one process, and recognises the entries of the process's own batches.

    Args:
        bells: the bells, all of which one command may read.
        life_key: the hash that holds the identity of the data.
        labels: the labels of this process's batches.
        limits: the lengths of the bells.
        hearer: receives the entries.
    """

    def __init__(
        self, bells: Sequence[bytes], life_key: str | bytes, labels: Labels, limits: Limits, hearer: Hearer
    ) -> None:
        self._bells = bells
        self._life_key = life_key
        self._labels = labels
        self._kept_entries = limits.bell_entries
        self._hearer = hearer
        self._last_ids: dict[bytes, bytes] = {}
        self._life: bytes | None = None
        self._life_due_at = 0.0
        self._loop = asyncio.get_running_loop()
        self._trusted_from = 1
        self.wire: Wire | None = None

    def distrust(self) -> None:
        """Stop ignoring the bell entries of the batches begun so far: some of their events may still be unread."""
        self._trusted_from = self._labels.batch + 1

    async def place(self, wire: Wire) -> None:
        """Start at the end of every bell, and read from there over `wire`."""
        commands: list[tuple[Argument, ...]] = [("XREVRANGE", bell, "+", "-", "COUNT", 1) for bell in self._bells]
        *heads, life = await wire.call_all([*commands, ("HGET", self._life_key, "life")], timeout_s=CALL_TIMEOUT_S)
        if isinstance(refusal := next((r for r in (*heads, life) if isinstance(r, Exception)), None), Exception):
            raise refusal
        self._last_ids = {bell: head[0][0] if head else b"0" for bell, head in zip(self._bells, heads, strict=True)}
        self._life = life
        self.wire = wire

    def listen(self) -> None:
        """Request the next bell entries."""
        if self.wire is None:
            return
        # By the clock: a busy bell must not postpone this check for ever.
        if self._loop.time() >= self._life_due_at:
            self._life_due_at = self._loop.time() + BLOCK_MS / 1000
            self.wire.send(self._life_seen, b"HGET", self._life_key, b"life")
        self.wire.send(self._rung, b"XREAD", b"BLOCK", BLOCK_MS, b"STREAMS", *self._last_ids, *self._last_ids.values())

    def _rung(self, reply: Reply) -> None:
        if isinstance(reply, Exception):
            self._give_up(str(reply))
            return
        for bell, entries in reply or ():
            self._last_ids[bell] = entries[-1][0]
            # Entries may have been trimmed before they were read: a bell keeps at least this many.
            if len(entries) >= self._kept_entries:
                self._hearer.missed(bell.removesuffix(b"bell"))
                continue
            for _, fields in entries:
                self._tell(pairs(fields))
        self.listen()
        self._hearer.heard()

    def _tell(self, bell: dict[bytes, bytes]) -> None:
        if not self._is_known(bell.get(b"batch", b"")):
            self._hearer.rung(bell.get(b"events", b""), bell.get(b"live", b""))
        for path, epoch in pairs(bell.get(b"begun", b"").split()).items():
            self._hearer.begun(path, epoch.decode())

    def _is_known(self, label: bytes) -> bool:
        """True if the bell entry with this label announces only events that this process reads back by itself."""
        name, _, number = label.partition(b":")
        return name == self._labels.name and int(number) >= self._trusted_from

    def _life_seen(self, reply: Reply) -> None:
        """Abort both connections if the log has another identity; on new ones the server adopts the settings of the new log."""
        if isinstance(reply, Exception):
            self._give_up(str(reply))
        elif reply != self._life:
            self._give_up("the log is no longer the same: it was flushed or replaced")

    def _give_up(self, why: str) -> None:
        if self.wire is not None and self.wire.is_open:
            _log.warning("the bells can no longer be read: %s", why)
            self.wire.abort()


class Tail:
    """Watches channels. Its owner gives it two new connections after each loss.

    Args:
        keys: builds the names of all keys.
        partitions: the partitions of the channels, whose streams one command may read.
        life_key: the hash that holds the identity of the data.
        labels: the labels of this process's batches.
        limits: the lengths of the bells.
        seals: opens sealed payloads.

    Attributes:
        read_count: reads so far, also those of channels that begin to be followed.
        found_count: those of them that found something.
        submitted_s: while entries of this process's own batch are passed on, the monotonic second at which the oldest of its
            drafts was submitted; otherwise None.
    """

    def __init__(
        self,
        keys: Keys,
        partitions: Iterable[int],
        life_key: str | bytes,
        labels: Labels,
        limits: Limits = DEFAULT_LIMITS,
        seals: Seals | None = None,
    ) -> None:
        self._keys = keys
        self._seals = seals
        self._labels = labels
        self._bells = Bells([keys.bell(number) for number in partitions], life_key, labels, limits, self)
        self._by_path: dict[bytes, Watched] = {}
        self._by_key: dict[bytes, Watched] = {}
        self._dirty: dict[bytes, Watched] = {}
        self._read_wire: Wire | None = None
        self._loop = asyncio.get_running_loop()
        self._is_reading = self._is_due = False
        self._reading_back: dict[bytes, Watched] = {}
        self._without_keys: dict[bytes, Watched] = {}
        self._begun: dict[bytes, str] = {}
        self.read_count = self.found_count = 0
        self.submitted_s: float | None = None

    def watch(self, channel: Channel, position: Position, live_id: str, listener: Listener) -> Watched:
        """Send `listener` everything after `position` and `live_id` from now on."""
        watched = Watched(channel, self._keys, position, live_id, listener)
        self._by_path[watched.path] = watched
        self._by_key[watched.stream_key] = self._by_key[watched.live_key] = watched
        self._mark([watched])
        epoch = self._begun.get(watched.path)
        if epoch is not None and not listener.is_of(epoch):  # the bell rang after the listener's look
            self._break(watched)
        return watched

    def unwatch(self, watched: Watched) -> None:
        """Stop sending. The result of a read in flight is ignored."""
        if self._by_key.get(watched.stream_key) is watched:
            del self._by_path[watched.path]
            for key in (watched.stream_key, watched.live_key):
                del self._by_key[key]
                self._dirty.pop(key, None)
        watched.listener = _NOBODY

    def move(self, watched: Watched, position: Position, live_id: str) -> None:
        """Continue at `position`, where the log was found to continue after a break.

        `live_id` is the ID of the newest entry of the live lane: if it is older than the last one seen, the lane started over.
        """
        watched.position, watched.passed = position, None
        watched.live_id = min(watched.live_id, live_id, key=id_order)
        watched.is_suspended = False
        self._mark([watched])

    def begin_batch(self) -> bytes:
        """See `Labels.begin_batch`."""
        return self._labels.begin_batch()

    def distrust(self) -> None:
        """See `Bells.distrust`."""
        self._bells.distrust()

    def read_back(self, wire: Wire, lanes: Iterable[bytes], since_s: float, on_read: Callable[[], None]) -> None:
        """Read back, right after the batch sent over `wire`, those of its lanes that are watched.

        `since_s` is the monotonic second at which the oldest draft of the batch was submitted.
        """
        known = {key: watched for key in lanes if (watched := self._by_key.get(key)) and not watched.is_suspended}
        if known:
            self._reading_back |= known
            self._send_read(wire, known, partial(self._have_read_back, known, since_s, on_read))
        else:
            on_read()

    async def attach(self, bell_wire: Wire, read_wire: Wire) -> None:
        """Continue over new connections. Bell entries added in between are not read: every watched channel is checked instead."""
        await self._bells.place(bell_wire)
        self._read_wire, self._is_reading, self._reading_back = read_wire, False, {}
        self.break_all()
        self._bells.listen()

    def break_all(self) -> None:
        """Let every position be checked, because what was asked of the log meanwhile may have failed."""
        for watched in list(self._by_path.values()):
            self._break(watched)

    def detach(self) -> None:
        """Stop using the connections, which are lost. Positions are kept."""
        self._bells.wire = self._read_wire = None

    # Calls from the bells

    def rung(self, event_paths: bytes, live_paths: bytes) -> None:
        """See `Hearer`."""
        for path in event_paths.split():
            if (watched := self._by_path.get(path)) is not None:
                self._dirty[watched.stream_key] = watched
        for path in live_paths.split():
            if (watched := self._by_path.get(path)) is not None:
                self._dirty[watched.live_key] = watched

    def begun(self, path: bytes, epoch: str) -> None:
        """See `Hearer`. The first events of a new epoch may have IDs and seqs that already occurred in the previous one."""
        self._begun.pop(path, None)
        self._begun[path] = epoch
        if len(self._begun) > BEGUN_MAX:
            del self._begun[next(iter(self._begun))]
        watched = self._by_path.get(path)
        if watched is not None and not watched.listener.is_of(epoch):
            self._break(watched)

    def missed(self, prefix: bytes) -> None:
        """See `Hearer`."""
        self._mark([watched for watched in self._by_path.values() if watched.stream_key.startswith(prefix)])

    def heard(self) -> None:
        """See `Hearer`."""
        self._read()

    # Reads

    def _mark(self, several: Iterable[Watched]) -> None:
        self.distrust()
        for watched in several:
            if self._by_key.get(watched.stream_key) is watched:  # a former one must not displace its successor
                self._dirty[watched.stream_key] = self._dirty[watched.live_key] = watched
        if not self._is_due:  # channels that begin to be followed together are read together
            self._is_due = True
            self._loop.call_soon(self._read_due)

    def _read_due(self) -> None:
        self._is_due = False
        self._read()

    def _read(self) -> None:
        if self._is_reading or not self._dirty or self._read_wire is None:
            return
        held = {key: watched for key, watched in self._dirty.items() if key in self._reading_back}
        away = held.keys() | self._without_keys.keys() if self._without_keys else held
        dirty = {key: watched for key, watched in self._dirty.items() if not watched.is_suspended and key not in away}
        self._dirty = held
        if not dirty:
            return
        self._is_reading = True
        self._send_read(self._read_wire, dirty, self._have_read)

    def _send_read(self, wire: Wire, lanes: dict[bytes, Watched], on_read: Callable[[int, Reply], None]) -> None:
        ids = [(w.passed or w.position.id) if key == w.stream_key else w.live_id for key, w in lanes.items()]
        count = min(READ_EVENTS_MAX, max(READ_EVENTS_MIN, READ_TOTAL_MAX // len(lanes)))
        self.read_count += 1
        wire.send(partial(on_read, count), b"XREAD", b"COUNT", count, b"STREAMS", *lanes, *ids)

    def _have_read(self, count: int, reply: Reply) -> None:
        self._is_reading = False
        if isinstance(reply, Exception):
            self._give_up(reply)
            return
        self._tell_all(count, reply)
        self._read()

    def _have_read_back(
        self, lanes: dict[bytes, Watched], since_s: float, on_read: Callable[[], None], count: int, reply: Reply
    ) -> None:
        for key in lanes:
            self._reading_back.pop(key, None)
        if isinstance(reply, Exception):  # read again on the other wire, which then reports any failure
            self._dirty.update((key, watched) for key, watched in lanes.items() if self._by_key.get(key) is watched)
        else:
            self.submitted_s = since_s
            self._tell_all(count, reply)
            self.submitted_s = None
        self._read()
        on_read()

    def _tell_all(self, count: int, reply: Reply) -> None:
        """Deliver a reply. A lane that returned `count` entries, the number requested, may have more and is read again.

        A lane that is being read back on the other connection is skipped here: an event must not arrive before its sender's answer.
        """
        if reply:
            self.found_count += 1
        for key, raw in reply or ():
            watched = self._by_key.get(key)
            if watched is None or watched.is_suspended or key in self._without_keys:
                continue
            if len(raw) >= count or key in self._reading_back:
                self._dirty[key] = watched
            if key not in self._reading_back:
                self._tell(watched, key, raw)

    def _tell(self, watched: Watched, key: bytes, raw: list[list[Reply]]) -> None:
        try:
            if key == watched.live_key:
                if entries := read_own_live_entries(raw):
                    self._tell_live(watched, entries)
                else:
                    watched.live_id = raw[-1][0].decode()
            elif entries := read_own_entries(raw):
                self._tell_events(watched, entries)
            else:
                watched.passed = raw[-1][0]
        except Exception:  # an error in one channel's listener must not stop the others
            _log.exception("a tail listener failed", extra={"channel": watched.channel.path})

    def _tell_live(self, watched: Watched, entries: list[Entry]) -> None:
        at = id_order(watched.live_id)
        if id_order(entries[0].id.decode()) <= at:  # already read for a previous watcher
            entries = [entry for entry in entries if id_order(entry.id.decode()) > at]
        if entries:
            watched.live_id = entries[-1].id.decode()
            watched.listener.live(entries)

    def _tell_events(self, watched: Watched, entries: list[Entry]) -> None:
        position = watched.position
        if entries[0].seq != position.seq + 1:
            # Either the position moved forward while this read was in flight, or this is not the log that was read before.
            entries = [entry for entry in entries if id_order(entry.id.decode()) > id_order(position.id)]
            if not entries:
                watched.passed = None
                return
        whole = unbroken(entries, position.seq)
        if not whole:
            self._break(watched)
            return
        if self._seals is not None:
            opened = self._seals.opened_now(watched.path, whole)
            if opened is None:  # they are read again once their keys are in memory
                self._without_keys[watched.stream_key] = watched
                self._seals.read_then(whole, partial(self._have_keys, watched))
                return
            whole = opened
        if len(whole) < len(entries):
            self._dirty[watched.stream_key] = watched  # the next read starts at the hole
        watched.position, watched.passed = Position(whole[-1].id.decode(), whole[-1].seq), None
        watched.listener.events(whole)

    def _have_keys(self, watched: Watched) -> None:
        self._without_keys.pop(watched.stream_key, None)
        if (present := self._by_key.get(watched.stream_key)) is not None:  # perhaps watched anew meanwhile
            self._mark([present])

    def _break(self, watched: Watched) -> None:
        watched.is_suspended = True
        watched.listener.broken()

    def _give_up(self, error: Exception) -> None:
        if self._read_wire is not None and self._read_wire.is_open:
            _log.warning("the tail lost its place: %s", error)
            self._read_wire.abort()
