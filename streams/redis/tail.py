"""The tail: one per node. It blocks on the bells and reads, by last-seen ID, the local channels that moved.

Two wires: one sits in XREAD BLOCK on the bells of all partitions, the other reads the channels that rang. While a read is in
flight further bells gather, so the busier it gets, the larger each read; no timer batches anything. Whenever the tail cannot be
sure (a bell trimmed past it, a new connection, another life of the log) every watched channel is read again from its own
position and, where the log itself may have changed, compared with a look at it.

This process reads back its own appends on the wire of the append, right after the batch: the answer and the event reach
a writer in one tick. The bells of such a batch bring no news and are ignored (ops/decisions/0004-read-back.md).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from functools import partial
from typing import Final, Protocol

from streams.channel import Channel
from streams.cursor import Position, id_order
from streams.envelope import Entry, read_entry, read_live_entry, unbroken
from streams.redis.calls import CALL_TIMEOUT_S, pairs
from streams.redis.keys import CONFIG, DEFAULT_LIMITS, Keys, Limits
from streams.redis.wire import Argument, Reply, Wire

READ_EVENTS_MAX: Final = 500
"""Events a channel gets in one read; the rest follow in the next."""
READ_TOTAL_MAX: Final = 20_000
"""Events of all channels in one read: about 10 MB. The more channels moved, the fewer each gets at a time."""
READ_EVENTS_MIN: Final = 10
BLOCK_MS: Final = 1_000
"""Longest wait on the bells, and how often the log's identity is checked. A smaller value costs one more call a second."""

_log = logging.getLogger(__name__)


class Listener(Protocol):
    """Receives the events of a watched channel."""

    def events(self, entries: list[Entry]) -> None:
        """New events, dense in seq after the tail's position."""

    def live(self, entries: list[Entry]) -> None:
        """New live entries."""

    def is_of(self, epoch: str) -> bool:
        """True when `epoch` is the life of the channel that it knows."""

    def broken(self) -> None:
        """The log did not continue at the tail's position: check every cursor again."""


class Watched:
    """One watched channel: the tail's position in its two lanes."""

    __slots__ = ("channel", "is_suspended", "listener", "live_id", "live_key", "position", "stream_key")

    def __init__(self, channel: Channel, keys: Keys, position: Position, live_id: str, listener: Listener) -> None:
        names = keys.of(channel)
        self.channel = channel
        self.stream_key = names.stream
        self.live_key = names.live
        self.position = position
        self.live_id = live_id
        self.listener = listener
        self.is_suspended = False


class Hearer(Protocol):
    """Receives the bells."""

    def rung(self, event_paths: bytes, live_paths: bytes) -> None:
        """These channels have new events, these new live entries (paths, separated by blanks)."""

    def begun(self, path: bytes, epoch: str) -> None:
        """Another life of a channel began."""

    def missed(self, prefix: bytes) -> None:
        """Bells of a partition, whose keys begin with `prefix`, may have been trimmed unread."""

    def heard(self) -> None:
        """Everything from one read was passed on."""


class Bells:
    """Listens for one process, and recognises the bells of its own batches.

    Args:
        name: of this process's batches; no other process has it.
    """

    def __init__(self, keys: Keys, name: str, limits: Limits, hearer: Hearer) -> None:
        self._bells = [keys.bell(number) for number in range(keys.partitions)]
        self._name = name.encode()
        self._kept_entries = limits.bell_entries
        self._hearer = hearer
        self._last_ids: dict[bytes, bytes] = {}
        self._life: bytes | None = None
        self._life_due_at = 0.0
        self._loop = asyncio.get_running_loop()
        self._batch = 0
        self._trusted_from = 1
        self.wire: Wire | None = None

    def begin_batch(self) -> bytes:
        """The label of this process's next batch; its bells carry it and are not passed on."""
        self._batch += 1
        return b"%b:%d" % (self._name, self._batch)

    def distrust(self) -> None:
        """Pass on the bells of the batches begun so far like any other's: some of their events may still be unread."""
        self._trusted_from = self._batch + 1

    async def place(self, wire: Wire) -> None:
        """Start at the end of every bell, to listen over `wire` from there."""
        commands: list[tuple[Argument, ...]] = [("XREVRANGE", bell, "+", "-", "COUNT", 1) for bell in self._bells]
        *heads, life = await wire.call_all([*commands, ("HGET", CONFIG, "life")], timeout_s=CALL_TIMEOUT_S)
        if isinstance(refusal := next((r for r in (*heads, life) if isinstance(r, Exception)), None), Exception):
            raise refusal
        self._last_ids = {bell: head[0][0] if head else b"0" for bell, head in zip(self._bells, heads, strict=True)}
        self._life = life
        self.wire = wire

    def listen(self) -> None:
        """Wait for the next bells."""
        if self.wire is None:
            return
        if self._loop.time() >= self._life_due_at:  # by the clock: bells that never cease must not put it off
            self._life_due_at = self._loop.time() + BLOCK_MS / 1000
            self.wire.send(self._life_seen, b"HGET", CONFIG, b"life")
        self.wire.send(self._rung, b"XREAD", b"BLOCK", BLOCK_MS, b"STREAMS", *self._last_ids, *self._last_ids.values())

    def _rung(self, reply: Reply) -> None:
        if isinstance(reply, Exception):
            self._give_up(str(reply))
            return
        for bell, entries in reply or ():
            self._last_ids[bell] = entries[-1][0]
            if len(entries) >= self._kept_entries:  # it may have been trimmed past us: it always keeps at least so many
                self._hearer.missed(bell.removesuffix(b"bell"))
                continue
            for _, fields in entries:
                self._tell(pairs(fields))
        self.listen()
        self._hearer.heard()

    def _tell(self, bell: dict[bytes, bytes]) -> None:
        if not self._is_known(bell.get(b"batch", b"")):
            self._hearer.rung(bell[b"events"], bell[b"live"])
        for path, epoch in pairs(bell.get(b"begun", b"").split()).items():
            self._hearer.begun(path, epoch.decode())

    def _is_known(self, label: bytes) -> bool:
        """True when everything this bell announces was, or is being, read back after its batch."""
        name, _, number = label.partition(b":")
        return name == self._name and int(number) >= self._trusted_from

    def _life_seen(self, reply: Reply) -> None:
        """Abort both wires when the log has another life: on new ones their owner fixes the settings of the new log."""
        if isinstance(reply, Exception):
            self._give_up(str(reply))
        elif reply != self._life:
            self._give_up("the log is another one: it was flushed or replaced")

    def _give_up(self, why: str) -> None:
        if self.wire is not None and self.wire.is_open:
            _log.warning("the bells can no longer be read: %s", why)
            self.wire.abort()


class Tail:
    """Watches channels. Owned by the log, which gives it two new wires after each loss.

    Args:
        name: of this process's batches; no other process has it.
    """

    def __init__(self, keys: Keys, name: str, limits: Limits = DEFAULT_LIMITS) -> None:
        self._keys = keys
        self._bells = Bells(keys, name, limits, self)
        self._by_path: dict[bytes, Watched] = {}
        self._by_key: dict[bytes, Watched] = {}
        self._dirty: dict[bytes, Watched] = {}
        self._read_wire: Wire | None = None
        self._is_reading = False
        self._reading_back: dict[bytes, Watched] = {}
        self.read_count = 0

    def watch(self, channel: Channel, position: Position, live_id: str, listener: Listener) -> Watched:
        """Send `listener` everything after `position` and `live_id`, from now on."""
        watched = Watched(channel, self._keys, position, live_id, listener)
        self._by_path[channel.path.encode()] = watched
        self._by_key[watched.stream_key] = self._by_key[watched.live_key] = watched
        self._mark([watched])
        return watched

    def unwatch(self, watched: Watched) -> None:
        """Stop sending. A read in flight may still be answered; its result is ignored."""
        if self._by_key.get(watched.stream_key) is watched:
            del self._by_path[watched.channel.path.encode()]
            for key in (watched.stream_key, watched.live_key):
                del self._by_key[key]
                self._dirty.pop(key, None)

    def move(self, watched: Watched, position: Position, live_id: str) -> None:
        """Continue at `position`: after a break, where the log was found to continue.

        `live_id` is the newest of the live lane there: if it is older than the last one seen, the lane started over.
        """
        watched.position = position
        watched.live_id = min(watched.live_id, live_id, key=id_order)
        watched.is_suspended = False
        self._mark([watched])

    def begin_batch(self) -> bytes:
        """See `Bells.begin_batch`."""
        return self._bells.begin_batch()

    def distrust(self) -> None:
        """See `Bells.distrust`."""
        self._bells.distrust()

    def read_back(self, wire: Wire, lanes: Iterable[bytes], on_read: Callable[[], None]) -> None:
        """Reads, right after the batch sent over `wire`, its appends to those of these lanes that are watched."""
        known = {key: watched for key in lanes if (watched := self._by_key.get(key)) and not watched.is_suspended}
        if known:
            self._reading_back |= known
            self._send_read(wire, known, partial(self._have_read_back, known, on_read))
        else:
            on_read()

    async def attach(self, bell_wire: Wire, read_wire: Wire) -> None:
        """Continue over new wires. Bells rung in between are not read: every watched channel is checked instead."""
        await self._bells.place(bell_wire)
        self._read_wire, self._is_reading, self._reading_back = read_wire, False, {}
        for watched in list(self._by_path.values()):
            self._break(watched)
        self._bells.listen()

    def detach(self) -> None:
        """The wires are lost. Positions stay."""
        self._bells.wire = self._read_wire = None

    # What the bells tell

    def rung(self, event_paths: bytes, live_paths: bytes) -> None:
        """See `Hearer`."""
        for path in event_paths.split():
            if (watched := self._by_path.get(path)) is not None:
                self._dirty[watched.stream_key] = watched
        for path in live_paths.split():
            if (watched := self._by_path.get(path)) is not None:
                self._dirty[watched.live_key] = watched

    def begun(self, path: bytes, epoch: str) -> None:
        """See `Hearer`. The first events of a life may have IDs and seqs that occurred in the previous one."""
        watched = self._by_path.get(path)
        if watched is not None and not watched.listener.is_of(epoch):
            self._break(watched)

    def missed(self, prefix: bytes) -> None:
        """See `Hearer`."""
        self._mark([watched for watched in self._by_path.values() if watched.stream_key.startswith(prefix)])

    def heard(self) -> None:
        """See `Hearer`."""
        self._read()

    # Inside

    def _mark(self, several: Iterable[Watched]) -> None:
        self.distrust()
        for watched in several:
            self._dirty[watched.stream_key] = self._dirty[watched.live_key] = watched
        self._read()

    def _read(self) -> None:
        if self._is_reading or not self._dirty or self._read_wire is None:
            return
        held = {key: watched for key, watched in self._dirty.items() if key in self._reading_back}
        dirty = {key: watched for key, watched in self._dirty.items() if not watched.is_suspended and key not in held}
        self._dirty = held
        if not dirty:
            return
        self._is_reading = True
        self._send_read(self._read_wire, dirty, self._have_read)

    def _send_read(self, wire: Wire, lanes: dict[bytes, Watched], on_read: Callable[[int, Reply], None]) -> None:
        ids = [w.position.id if key == w.stream_key else w.live_id for key, w in lanes.items()]
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
        self, lanes: dict[bytes, Watched], on_read: Callable[[], None], count: int, reply: Reply
    ) -> None:
        for key in lanes:
            self._reading_back.pop(key, None)
        if isinstance(reply, Exception):  # read anew on the wire whose fault it then is
            self._dirty.update((key, watched) for key, watched in lanes.items() if self._by_key.get(key) is watched)
        else:
            self._tell_all(count, reply)
        self._read()
        on_read()

    def _tell_all(self, count: int, reply: Reply) -> None:
        """`count`: the number requested of each lane; a lane that returned so many may have more.

        A lane that is being read back on the other wire is skipped here: an event must not arrive before its sender's answer.
        """
        for key, raw in reply or ():
            watched = self._by_key.get(key)
            if watched is None or watched.is_suspended:
                continue
            if len(raw) >= count or key in self._reading_back:
                self._dirty[key] = watched
            if key not in self._reading_back:
                self._tell(watched, key, raw)

    def _tell(self, watched: Watched, key: bytes, raw: list[list[Reply]]) -> None:
        try:
            if key == watched.live_key:
                self._tell_live(watched, [read_live_entry(entry) for entry in raw])
            else:
                self._tell_events(watched, [read_entry(entry) for entry in raw])
        except Exception:  # one channel's listener must not stop the others
            _log.exception("a tail listener failed", extra={"channel": watched.channel.path})

    def _tell_live(self, watched: Watched, entries: list[Entry]) -> None:
        at = id_order(watched.live_id)
        if id_order(entries[0].id.decode()) <= at:  # read for whoever watched it before
            entries = [entry for entry in entries if id_order(entry.id.decode()) > at]
        if entries:
            watched.live_id = entries[-1].id.decode()
            watched.listener.live(entries)

    def _tell_events(self, watched: Watched, entries: list[Entry]) -> None:
        position = watched.position
        if entries[0].seq != position.seq + 1:
            # Either the position moved forward while this read was on its way, or the log is not the one we knew.
            entries = [entry for entry in entries if id_order(entry.id.decode()) > id_order(position.id)]
            if not entries:
                return
        whole = unbroken(entries, position.seq)
        if not whole:
            self._break(watched)
            return
        if len(whole) < len(entries):
            self._dirty[watched.stream_key] = watched  # the next read begins with the hole
        watched.position = Position(whole[-1].id.decode(), whole[-1].seq)
        watched.listener.events(whole)

    def _break(self, watched: Watched) -> None:
        watched.is_suspended = True
        watched.listener.broken()

    def _give_up(self, error: Exception) -> None:
        if self._read_wire is not None and self._read_wire.is_open:
            _log.warning("the tail lost its place: %s", error)
            self._read_wire.abort()
