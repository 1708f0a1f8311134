"""Fan-out: sends what the tail reads from one channel to its local subscribers, encoding each event once for all of them.

It never waits for a client: a client that cannot take more keeps its position and catches up from the log.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from typing import Final, Protocol, TypeAlias

from hub.metrics import NodeMetrics
from hub.ports import Encoding, Subscriber
from hub.protocol.subscription import Phase, SubscriptionState
from hub.websocket.codec import encode_text
from hub.websocket.deflate import deflate_text
from streams.channel import Channel, Kind
from streams.cursor import Look, Position, id_order, ms_of_id
from streams.envelope import Entry
from streams.redis.replay import PAGE_BYTES
from streams.redis.tail import Tail, Watched
from streams.tracing import Tracing, is_traced, trace_id_of, traceparent_of

HELD_EVENTS_MAX: Final = 128
"""Newest events cached per channel: the last step of a catch-up then needs no read, and resuming clients share them."""
HELD_BYTES_MAX: Final = 131_072
"""The same limit in bytes, apart from the newest few: with events of 256 KiB, 200 channels of a client would hold gigabytes."""
HELD_EVENTS_MIN: Final = 4
FEW_SUBSCRIBERS: Final = 4
"""Subscribers of a channel that are kept in a tuple; a set of them takes 170 bytes more, in each channel that is followed."""
ARRAY_MAX: Final = 100
ARRAY_BYTES_MAX: Final = PAGE_BYTES
"""Maximum bytes of an array; a larger event is sent alone."""
SIGNALS_HELD_MAX: Final = 1_000

_ENCODINGS: Final = 4
"""Number of encodings: single or in arrays, compressed or not."""

Sub: TypeAlias = "SubscriptionState[Subscriber, Fanout]"


def encode_events(wires: list[bytes], encoding: int) -> bytes:
    """Encodes events as WebSocket frames: one each, or arrays of up to 100 and 256 KiB for clients that announced `batch`."""
    encode = deflate_text if encoding & Encoding.DEFLATE else encode_text
    if len(wires) == 1:
        return encode(wires[0])
    if not encoding & Encoding.BATCH:
        return b"".join(map(encode, wires))
    return b"".join(encode(b"[" + b",".join(array) + b"]") for array in _arrays(wires))


def may_deflate(channel: Channel) -> bool:
    """False for a user's inbox: users who cannot read it can write to it, and compressed sizes would leak its contents.

    SECURITY.md explains this.
    """
    return channel.kind is not Kind.USER


def _arrays(wires: list[bytes]) -> Iterator[list[bytes]]:
    array: list[bytes] = []
    size_bytes = 1
    for wire in wires:
        if array and (len(array) == ARRAY_MAX or size_bytes + len(wire) + 1 > ARRAY_BYTES_MAX):
            yield array
            array, size_bytes = [], 1
        array.append(wire)
        size_bytes += len(wire) + 1
    yield array


class FanoutWatcher(Protocol):
    """Handles the subscriptions that a fan-out cannot serve from the tail."""

    def note_behind(self, sub: Sub) -> None:
        """Handles a subscription that is behind the tail."""
        ...

    def note_configured(self, fanout: Fanout) -> None:
        """Handles a change of the channel's settings."""
        ...

    def note_broken(self, fanout: Fanout) -> None:
        """Handles a tail that may have lost its position."""
        ...


class Fanout:
    """The subscribers of one channel on this node; listens to the channel's tail.

    Attributes:
        default_agent: the conversation's default agent, "" for none; None if not known.
        settings_count: changes of the settings seen so far.
        move_count: how often it moved to another head because the log did not continue.
    """

    __slots__ = (
        "_held",
        "_held_bytes",
        "_metrics",
        "_presence_count",
        "_tail",
        "_tracing",
        "_watcher",
        "channel",
        "default_agent",
        "epoch",
        "move_count",
        "settings_count",
        "subscribers",
        "watched",
        "wire",
    )

    def __init__(
        self,
        channel: Channel,
        look: Look,
        tail: Tail,
        metrics: NodeMetrics,
        watcher: FanoutWatcher,
        tracing: Tracing | None = None,
    ) -> None:
        self.channel = channel
        self.wire = channel.wire.encode()
        self.epoch = look.epoch
        self.default_agent: str | None = None
        self.settings_count = 0
        self.move_count = 0
        self.subscribers: tuple[Sub, ...] | set[Sub] = ()
        self._held: deque[tuple[int, bytes]] | None = (
            None  # an empty one takes 760 bytes, in each channel that is followed
        )
        self._held_bytes = 0
        self._presence_count = 0
        self._tail = tail
        self._metrics = metrics
        self._watcher = watcher
        self._tracing = tracing
        self.watched: Watched = tail.watch(channel, look.head, look.live_id, self)

    @property
    def position(self) -> Position:
        """The tail's position."""
        return self.watched.position

    def enter(self, sub: Sub) -> None:
        """Adds a subscription."""
        if isinstance(self.subscribers, set):
            self.subscribers.add(sub)
        elif len(self.subscribers) < FEW_SUBSCRIBERS:
            self.subscribers = (*self.subscribers, sub)
        else:
            self.subscribers = {*self.subscribers, sub}
        self._presence_count += sub.wants_presence

    @property
    def wants_presence(self) -> bool:
        """True if a subscriber follows the presence."""
        return self._presence_count > 0

    def leave(self, sub: Sub) -> None:
        """Removes a subscription, if it is still there."""
        if sub not in self.subscribers:
            return
        if isinstance(self.subscribers, set):
            self.subscribers.remove(sub)
        else:
            self.subscribers = tuple(one for one in self.subscribers if one is not sub)
        self._presence_count -= sub.wants_presence

    def has_told_after(self, look: Look) -> bool:
        """True if signals newer than `look` have been sent."""
        return id_order(self.watched.live_id) > id_order(look.live_id)

    def close(self) -> None:
        """Stops following the tail, after the last subscriber left."""
        self._tail.unwatch(self.watched)
        self.forget_held()

    def forget_held(self) -> None:
        """Drops the cached events: one of them may have been erased, or nobody follows the channel any more."""
        self._held, self._held_bytes = None, 0

    def move(self, look: Look) -> None:
        """Moves to the head of a log that does not continue from the tail's position."""
        self.move_count += 1
        self.epoch = look.epoch
        self.default_agent = None
        self.forget_held()
        self._tail.move(self.watched, look.head, look.live_id)

    def go_on(self, look: Look) -> None:
        """Continues from the same position in a log that was found unbroken."""
        self._tail.move(self.watched, self.watched.position, look.live_id)

    def try_join(self, sub: Sub) -> bool:
        """Makes a subscription live if no event is missing in between, sending it the cached events that it lacks."""
        oldest = self._held[0][0] if self._held else self.position.seq + 1
        if not sub.can_join(self.position.seq, oldest):
            return False
        rest = [wire for seq, wire in self._held or () if seq > sub.seq]
        if rest:
            sub.connection.push(self.encode(rest, sub.connection.encoding))
            self._metrics.events_out += len(rest)
            sub.advance(self.position.id, self.position.seq)
        sub.join()
        return True

    def remember_agent(self, agent: str, settings_count: int) -> None:
        """Caches the default agent, unless the settings have changed since `settings_count` was taken."""
        if settings_count == self.settings_count:
            self.default_agent = agent

    def settings_changed(self) -> None:
        """Drops the cached default agent, so that it is read again for the next message."""
        self.default_agent = None
        self.settings_count += 1

    def events(self, entries: list[Entry]) -> None:
        """Sends new events from the tail, large batches page by page, so that a socket that does not read gets only one page."""
        wires = [entry.wire(self.wire) for entry in entries]
        if len(wires) == 1 or sum(map(len, wires)) <= PAGE_BYTES:
            self._tell(entries, wires)
            return
        for array in _arrays(wires):
            self._tell(entries[: len(array)], array)
            entries = entries[len(array) :]
            for sub in self.subscribers:
                sub.connection.flush()

    def _tell(self, entries: list[Entry], wires: list[bytes]) -> None:
        first_seq, last_seq, last_id = entries[0].seq, entries[-1].seq, entries[-1].id.decode()
        self._hold(first_seq, wires)
        types = {entry.type for entry in entries}
        if b"chat.configure" in types:
            self.settings_changed()
        if b"channel.configure" in types:
            self._watcher.note_configured(self)
        made: list[bytes | None] = [None] * _ENCODINGS
        sent = 0
        for sub in self.subscribers:
            connection = sub.connection
            if not connection.is_writable and sub.phase is Phase.LIVE:
                sub.fall_behind()
                self._watcher.note_behind(sub)
                continue
            start = sub.offer(first_seq, last_seq, last_id)
            if start is None:
                if sub.phase is Phase.CATCHING_UP:
                    self._watcher.note_behind(sub)
                continue
            if start:
                connection.push(self.encode(wires[start:], connection.encoding))
            else:
                connection.push(made[connection.encoding] or self._make(made, wires, connection.encoding))
            sent += len(wires) - start
        since_s = self._tail.submitted_s
        after_s = time.time() - ms_of_id(entries[0].id) / 1000 if since_s is None else time.monotonic() - since_s
        trace_id = ""
        if self._tracing is not None and (len(entries) > 1 or is_traced(entries[0].meta)):
            trace_id = self.trace("deliver", entries, after_s, sent)
        metrics = self._metrics
        metrics.events_out += sent
        (metrics.delivered_elsewhere if since_s is None else metrics.delivered_here).observe(after_s, trace_id)

    def trace(self, step: str, entries: list[Entry], after_s: float, count: int) -> str:
        """Records a step of the traces of these events, which began `after_s` seconds ago and made `count` deliveries.

        Events that follow from the same step share one span. Returns the id of the last trace; "" if there is none.
        """
        trace_id = ""
        traced = [entry for entry in entries if is_traced(entry.meta)]
        if self._tracing is None or not traced:  # of a small share of the events more is read
            return trace_id
        first = {parent: entry for entry in reversed(traced) if (parent := traceparent_of(entry.meta)) is not None}
        for parent, entry in reversed(first.items()):
            attributes = {"hub.deliveries": count, "hub.seq": entry.seq}
            if self._tracing.note(f"{step} {entry.type.decode()}", parent, attributes, ago_s=max(0.0, after_s)):
                trace_id = trace_id_of(parent)
        return trace_id

    def encode(self, wires: list[bytes], encoding: int) -> bytes:
        """Encodes events of this channel as frames for a client with this encoding."""
        return encode_events(wires, encoding if may_deflate(self.channel) else encoding & Encoding.BATCH)

    def _make(self, made: list[bytes | None], wires: list[bytes], encoding: int) -> bytes:
        """Encodes events for the first subscriber that needs this encoding, and stores the result in `made` for the others."""
        frames = made[encoding] = self.encode(wires, encoding)
        if len(wires) == 1:
            made[encoding ^ Encoding.BATCH] = frames
        return frames

    def _hold(self, first_seq: int, wires: list[bytes]) -> None:
        """Adds events to the cache, and drops the oldest beyond its limits."""
        if (held := self._held) is None:
            held = self._held = deque()
        held.extend(enumerate(wires, first_seq))
        self._held_bytes += sum(map(len, wires))
        while len(held) > HELD_EVENTS_MAX or (self._held_bytes > HELD_BYTES_MAX and len(held) > HELD_EVENTS_MIN):
            self._held_bytes -= len(held.popleft()[1])

    def live(self, entries: list[Entry]) -> None:
        """Sends new signals from the tail.

        A slow client misses them; a later state, or the event that ends a run, makes up for it.
        """
        for entry in entries:
            is_presence = entry.type == b"channel.presence"
            if (
                is_presence and not self._presence_count
            ):  # a busy channel has thousands of subscribers, and they come and go
                continue
            is_reasoning = entry.type == b"assistant.message.delta" and b'"track":"reasoning"' in entry.data
            wires = [entry.wire(self.wire)]
            made: list[bytes | None] = [None] * _ENCODINGS
            for sub in self.subscribers:
                if is_presence and not sub.wants_presence:
                    continue
                if is_reasoning and not sub.connection.wants_reasoning:
                    continue
                encoding = sub.connection.encoding
                frame = made[encoding] or self._make(made, wires, encoding)
                if sub.held_signals is not None:
                    if len(sub.held_signals) < SIGNALS_HELD_MAX:
                        sub.held_signals.append(frame)
                elif sub.connection.is_writable:
                    sub.connection.push(frame)
            self._metrics.signals_out += len(self.subscribers)
        if self._tracing is not None:
            self.trace("deliver", entries, time.time() - ms_of_id(entries[0].id) / 1000, len(self.subscribers))

    def is_of(self, epoch: str) -> bool:
        """True if `epoch` is the epoch of the log whose events are sent here."""
        return epoch == self.epoch

    def broken(self) -> None:
        """Reports that the tail may have lost its position."""
        self._watcher.note_broken(self)
