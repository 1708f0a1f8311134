"""Appends with group commit: drafts that arrive while earlier batches are in flight form the next batch.

One EVALSHA per partition does everything: idempotency, guards, seq, the event's entry, the bell entry (which tells the nodes
that the channel has new events) and the work entry (scripts/append.lua). All partitions of a batch go in one write. No timer
delays anything: an idle node sends the first event at the end of the event loop's tick. Right behind the batch the tail reads
back the events of the channels that this process watches (ops/decisions/0004-read-back.md).

Several batches may be in flight, so that this process and Redis work at the same time, but a channel is in only one of them:
its order, and the position of its next read, do not depend on which of two batches succeeds.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from functools import partial
from hashlib import blake2b
from time import monotonic
from typing import Final, Protocol
from zlib import crc32

import hiredis

from streams.archive.merkle import leaf_hash
from streams.archive.segments import line_of
from streams.channel import Channel
from streams.envelope import Appended, Draft, Durability, Entry, Lane, actor_json
from streams.errors import CommandIdsFull, GuardRefused, IdempotencyConflict, LogUnavailable, StreamsError
from streams.histogram import Histogram
from streams.json_bytes import to_json
from streams.redis.calls import code_of, is_elsewhere, is_moved
from streams.redis.durability import Barrier, DurabilityPolicy
from streams.redis.keys import DEFAULT_LIMITS, Keys, Limits
from streams.redis.scripts import load
from streams.redis.wire import Argument, Reply, Wire
from streams.slow_paths import SLOW_S, tell_slow

Result = Appended | StreamsError
Done = Callable[[Result], None]
_Waiting = tuple[Draft, Done, float]
"""A draft, its callback, and the monotonic second at which it was submitted."""
_Unconfirmed = tuple[_Waiting, bytes, Barrier]

SCRIPT: Final = load("append")
BATCHES_MAX: Final = 4
"""Maximum number of batches in flight. With only one, this process and Redis would wait for each other in turn."""
EARLY_CHANNELS: Final = 16
"""Number of channels that make a batch leave before the tick is over: Redis starts on it while the rest of the tick runs."""
BATCH_EVENTS_MAX: Final = 500
"""Maximum number of events in one script call. An event takes Redis about 9 µs, so 500 delay other readers by at most 5 ms."""
PENDING_EVENTS_MAX: Final = 50_000
"""Maximum number of drafts waiting for a batch. Beyond it publishers are told to back off; 50,000 are about 3 s of work and 50 MB.
"""

_AWAY: Final = "Redis is unreachable or too busy; nothing was stored"
_log = logging.getLogger(__name__)


class ReadBack(Protocol):
    """Reads back the events that a batch appends; implemented by `streams.redis.tail.Tail`."""

    def begin_batch(self) -> bytes:
        """Returns the label of the next batch, which its bell entries carry."""

    def read_back(self, wire: Wire, lanes: Iterable[bytes], since_s: float, on_read: Callable[[], None]) -> None:
        """Read these lanes back over `wire`, right behind the batch that appends to them. `on_read` is called once.

        `since_s` is the monotonic second at which the oldest draft of the batch was submitted.
        """

    def distrust(self) -> None:
        """Stop ignoring the bell entries of the batches begun so far: a batch may not have been read back."""


def checksum(path: bytes, type_: bytes, v: bytes, actor: bytes, data: bytes, meta: bytes) -> bytes:
    """The checksum stored with an event: CRC-32 of everything that is known about it before Redis assigns its ID and seq.

    It detects every single flipped bit and every burst of damage up to 32 bits. It does not protect against deliberate
    tampering.
    """
    return b"%d" % crc32(b"\n".join((path, type_, v, actor, meta, data)))


class _Places:
    """The keys of one call, each once. Compiled, a nested function in its place would form a cycle with its variables."""

    def __init__(self, keys: list[bytes]) -> None:
        self.keys = keys
        self._places: dict[bytes, int] = {}

    def place(self, key: bytes, *followers: bytes) -> int:
        """The number of a key among the call's; its followers have the next ones."""
        at = self._places.get(key)
        if at is None:
            self.keys.append(key)
            at = self._places[key] = len(self.keys)
            self.keys.extend(followers)
        return at


class AppendCall:
    """Packs drafts as KEYS and ARGV of scripts/append.lua.

    Args:
        new_epoch: makes a random epoch, for a channel whose log starts over.
    """

    def __init__(self, keys: Keys, new_epoch: Callable[[], str], limits: Limits) -> None:
        self._keys = keys
        self._new_epoch = new_epoch
        self._limits = limits

    def arguments(self, partition: int, drafts: list[Draft], label: bytes, life: str) -> list[bytes | str | int]:
        """The number of KEYS, then KEYS and ARGV of scripts/append.lua.

        Args:
            partition: the partition of all the drafts.
            drafts: the events to append.
            label: the batch's label, for the bell entries.
            life: the identity of the whole log.
        """
        places = _Places([self._keys.bell(partition), self._keys.work(partition)])
        kept = self._limits
        argv: list[bytes | str | int] = [
            self._new_epoch(),
            kept.idempotency_entries,
            kept.idempotency_ttl_s,
            kept.live_entries,
            kept.bell_entries,
            len(self._keys.prefix(partition)),
            label,
            life,
            kept.live_ttl_s,
            kept.idempotency_window_s,
        ]
        for draft in drafts:
            argv.extend(self._record(draft, places.place))
        return [len(places.keys), *places.keys, *argv]

    def _record(self, draft: Draft, place: Callable[..., int]) -> tuple[bytes | str | int, ...]:
        names = self._keys.of(draft.channel)
        is_event = draft.lane is Lane.EVENTS
        idem, digest = 0, ""
        if draft.command and is_event:
            key = self._keys.idempotency(names.partition, draft.channel.tenant, draft.actor)
            idem = place(key, key + b":old")
            digest = draft.digest or _body_hash(draft)
        extra = self._extra(draft, place, names.open) if draft.guards or draft.open_text else b""
        type_, v, actor, meta = draft.type.encode(), b"%d" % draft.v, actor_json(draft.actor), meta_json(draft)
        return (
            "E" if is_event else "L",
            place(names.stream if is_event else names.live),
            place(names.meta) if is_event else 0,
            idem,
            draft.command or b"",
            digest,
            type_,
            v,
            actor,
            draft.data,
            meta,
            b"w" if draft.is_wanted else b"",
            extra,
            checksum(names.path, type_, v, actor, draft.data, meta) if is_event else b"",
        )

    def _extra(self, draft: Draft, place: Callable[..., int], open_key: bytes) -> bytes:
        guards = [
            {
                "k": place(self._keys.guard(draft.channel, g.name.removesuffix("@id"))),
                "c": g.checks,
                "s": g.sets,
                "i": g.increments,
                "d": g.decrements,
                "r": g.removes,
                "n": g.name.endswith("@id"),
                "t": g.ttl_s,
            }
            for g in draft.guards
        ]
        extra: dict[str, object] = {"g": guards} if guards else {}
        if (o := draft.open_text) is not None:
            head = to_json({"run_id": o.run_id, "attempt": o.attempt}).decode()
            kept = {"k": place(open_key), "m": o.message_id, "h": head, "s": o.track, "f": o.offset, "e": o.end}
            extra["o"] = kept | ({"t": o.text} if o.text is not None else {}) | ({"r": True} if o.is_reset else {})
        return to_json(extra)


class _Batch:
    """Drafts sent over one connection and not yet all answered."""

    __slots__ = ("channels", "due", "label", "unconfirmed", "wire")

    def __init__(self, wire: Wire, label: bytes) -> None:
        self.wire = wire
        self.label = label
        self.channels: list[Channel] = []
        self.due = 1  # counts the send itself, because a closed wire answers at once
        self.unconfirmed: list[_Unconfirmed] = []


class Appender:
    """Collects drafts and commits them in batches over one wire.

    Args:
        new_epoch: makes a random epoch, for a channel whose log starts over.
        reader: reads each batch back right behind it.
        life_of: the identity of a partition's data.
        on_elsewhere: called when the server does not hold a partition's keys.

    Attributes:
        appended_count: drafts answered so far.
        batch_count: calls of the append script so far.
        stored_in: the time from submitting a draft to its answer.
        round_trips: the time from sending the append script to Redis's reply.
    """

    def __init__(
        self,
        keys: Keys,
        policy: DurabilityPolicy,
        new_epoch: Callable[[], str],
        reader: ReadBack,
        life_of: Callable[[int], str],
        limits: Limits = DEFAULT_LIMITS,
        on_elsewhere: Callable[[], None] = lambda: None,
    ) -> None:
        self._keys = keys
        self._life_of = life_of
        self._on_elsewhere = on_elsewhere
        self._call = AppendCall(keys, new_epoch, limits)
        self._reader = reader
        self._policy = policy
        self._pending: dict[Channel, list[_Waiting]] = {}
        self._pending_count = 0
        self._pending_max = PENDING_EVENTS_MAX
        self._refusal = _AWAY
        self._free_count = 0
        self._moving: set[Channel] = set()
        self._under_way = 0
        self._wire: Wire | None = None
        self._is_flush_scheduled = False
        self._loop = asyncio.get_running_loop()
        self.appended_count = 0
        self.batch_count = 0
        self.stored_in = Histogram()
        self.round_trips = Histogram()

    def attach(self, wire: Wire | None) -> None:
        """Use this connection; None fails the waiting drafts and refuses new ones until the next connection."""
        self._wire = wire
        self._moving.clear()
        self._under_way = 0
        if wire is None:
            lost, self._pending, self._pending_count = self._pending, {}, 0
            for group in lost.values():
                for _, done, _ in group:
                    _tell(done, LogUnavailable("Redis is unreachable; nothing was stored"))

    def refuse(self, reason: str | None) -> None:
        """Refuse every draft for this reason; None accepts drafts again."""
        self._pending_max = PENDING_EVENTS_MAX if reason is None else 0
        self._refusal = reason or _AWAY

    def submit(self, draft: Draft, done: Done) -> None:
        """Append `draft`; `done` is called once, in a later tick, or at once if Redis is known to be unreachable."""
        if self._wire is None or self._pending_count >= self._pending_max:
            done(LogUnavailable(self._refusal))
            return
        self._pending_count += 1
        group = self._pending.get(draft.channel)
        if group is not None:
            group.append((draft, done, monotonic()))
            return
        self._pending[draft.channel] = [(draft, done, monotonic())]
        if draft.channel not in self._moving:
            self._free_count += 1
            if self._free_count < EARLY_CHANNELS or self._under_way >= BATCHES_MAX:
                self._flush_soon()
            else:
                self._flush()

    def _flush_soon(self) -> None:
        if not self._is_flush_scheduled and self._under_way < BATCHES_MAX:
            self._is_flush_scheduled = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._is_flush_scheduled = False
        self._free_count = 0
        if self._wire is None:
            return
        free = [channel for channel in self._pending if channel not in self._moving]
        if not free:
            return
        batch = _Batch(self._wire, self._reader.begin_batch())
        groups = self._take(free, batch)
        self._moving.update(batch.channels)
        self._under_way += 1
        with batch.wire.in_one_write():
            self._send_all(batch, groups)
        self._reply_came(batch)

    def _take(self, free: list[Channel], batch: _Batch) -> dict[int, list[_Waiting]]:
        """Select the drafts that go with this batch, by partition; further drafts of a channel wait until the batch is done."""
        groups: dict[int, list[_Waiting]] = {}
        for channel in free:
            group = groups.setdefault(self._keys.of(channel).partition, [])
            room = BATCH_EVENTS_MAX - len(group)
            if room:
                waiting = self._pending.pop(channel)
                group += waiting[:room]
                batch.channels.append(channel)
                if len(waiting) > room:
                    self._pending[channel] = waiting[room:]
        self._pending_count -= sum(map(len, groups.values()))
        return groups

    def _send_all(self, batch: _Batch, groups: dict[int, list[_Waiting]]) -> None:
        for partition, group in groups.items():
            self._send(batch, partition, group)
        lanes = {self._lane(draft) for group in groups.values() for draft, _, _ in group}
        batch.due += 1
        since_s = next(iter(groups.values()))[0][2]  # channels are in the order of their oldest drafts
        self._reader.read_back(batch.wire, lanes, since_s, partial(self._reply_came, batch))

    def _lane(self, draft: Draft) -> bytes:
        names = self._keys.of(draft.channel)
        return names.stream if draft.lane is Lane.EVENTS else names.live

    def _send(self, batch: _Batch, partition: int, group: list[_Waiting]) -> None:
        args = self._call.arguments(partition, [draft for draft, _, _ in group], batch.label, self._life_of(partition))
        self.batch_count += 1
        batch.due += 1
        batch.wire.send(partial(self._settle, batch, group, args, monotonic()), b"EVALSHA", SCRIPT.digest, *args)

    def _settle(self, batch: _Batch, group: list[_Waiting], args: list[Argument], sent_s: float, reply: Reply) -> None:
        """Take the reply to a call. No closure that sends itself again: its cycle would keep every batch until it is collected."""
        if isinstance(reply, hiredis.ReplyError) and code_of(reply) == "NOSCRIPT":
            self._reader.distrust()
            batch.wire.send(partial(self._settle, batch, group, args, sent_s), b"EVAL", SCRIPT.text, *args)
            return
        if isinstance(reply, Exception):
            self._fail(batch, group, reply)
        else:
            took_s = monotonic() - sent_s
            self.round_trips.observe(took_s)
            if took_s >= SLOW_S:
                tell_slow("Redis call", "append", took_s)
            self._written(batch, group, reply)
        self._reply_came(batch)

    def _written(self, batch: _Batch, group: list[_Waiting], answers: list[bytes]) -> None:
        """Answer the drafts that are already durable; the others wait for their barrier (WAIT or WAITAOF)."""
        for waiting, answer in zip(group, answers, strict=True):
            barrier = self._policy.barrier_of(waiting[0].channel.kind) if self._policy.has_barriers else None
            if barrier is None:
                self._answer(waiting, answer)
            else:
                batch.unconfirmed.append((waiting, answer, barrier))

    def _reply_came(self, batch: _Batch) -> None:
        """Count a reply. After the last one, send the batch's barriers, once for all groups, and start the next batch."""
        batch.due -= 1
        if batch.due:
            return
        if batch.unconfirmed:
            self._secure(batch)
        elif batch.wire is self._wire:  # otherwise its channels were released when the wire was replaced
            self._moving.difference_update(batch.channels)
            self._under_way -= 1
            if self._pending:
                self._flush_soon()

    def _secure(self, batch: _Batch) -> None:
        by_barrier: dict[Barrier, list[tuple[_Waiting, bytes]]] = {}
        for waiting, answer, barrier in batch.unconfirmed:
            by_barrier.setdefault(barrier, []).append((waiting, answer))
        batch.unconfirmed.clear()
        batch.due = len(by_barrier)
        for barrier, several in by_barrier.items():
            batch.wire.send(partial(self._confirmed, batch, several, barrier), *barrier)

    def _confirmed(self, batch: _Batch, several: list[tuple[_Waiting, bytes]], barrier: Barrier, counts: Reply) -> None:
        if self._policy.reached(barrier, counts):
            for waiting, answer in several:
                self._answer(waiting, answer)
        else:
            self._fail(batch, [waiting for waiting, _ in several], counts if isinstance(counts, Exception) else None)
        self._reply_came(batch)

    def _answer(self, waiting: _Waiting, answer: bytes) -> None:
        self.appended_count += 1
        self.stored_in.observe(monotonic() - waiting[2])
        draft, done, _ = waiting
        result = read_answer(answer, self._policy.level_of(draft.channel.kind))
        if draft.wants_leaf and isinstance(result, Appended) and not result.is_duplicate and draft.lane is Lane.EVENTS:
            result = result._replace(leaf=leaf_of(draft, result).hex())
        _tell(done, result)

    def _fail(self, batch: _Batch, group: list[_Waiting], reply: Exception | None) -> None:
        why = f"the append was not confirmed: {reply}" if reply else "the append was not durable in time"
        if reply is not None and is_elsewhere(reply):
            why = "nothing was stored: the channel's partition is moving to another server of the Redis Cluster"
            self._on_elsewhere()
        error = LogUnavailable(why)
        for _, done, _ in group:
            _tell(done, error)
        if reply is not None and is_moved(reply):
            batch.wire.abort()  # so that the master is located anew


def _tell(done: Done, result: Result) -> None:
    try:
        done(result)
    except Exception:  # an error in one caller's callback must not cost the others their answer
        _log.exception("an append's callback failed")


def meta_json(draft: Draft) -> bytes:
    """`meta` as stored, without absent fields. Keys with a slash are internal and are never sent; no client can set one."""
    command = None if draft.command and "/" in draft.command else draft.command
    if draft.correlation is None and draft.causation is None and draft.traceparent is None:
        return b'{"command":"%b"}' % command.encode() if command else b"{}"
    pairs = (
        ("command", command),
        ("correlation", draft.correlation),
        ("causation", draft.causation),
        ("traceparent", draft.traceparent),
    )
    return ("{" + ",".join(f'"{k}":"{v}"' for k, v in pairs if v) + "}").encode()


def leaf_of(draft: Draft, stored: Appended) -> bytes:
    """The event's leaf in the channel's tree, computed from the bytes that were sent to Redis and not from what it has now."""
    actor, meta = actor_json(draft.actor), meta_json(draft)
    entry = Entry(stored.id.encode(), stored.seq, draft.type.encode(), b"%d" % draft.v, actor, draft.data, meta)
    return leaf_hash(line_of(entry, draft.channel.wire.encode()))


def _body_hash(draft: Draft) -> str:
    body = b"%b\n%b\n%b" % (draft.channel.encode(), draft.type.encode(), draft.data)
    return blake2b(body, digest_size=8).hexdigest()


def read_answer(answer: bytes, durability: Durability) -> Result:
    """Parse the script's answer for one draft."""
    verdict, _, rest = answer.partition(b" ")
    if verdict in {b"A", b"D", b"N"}:
        event_id, seq, *results = rest.split()
        return Appended(
            event_id.decode(), int(seq), verdict == b"D", durability, tuple(map(int, results)), verdict == b"N"
        )
    if verdict == b"G":
        field, has_value, present = rest.decode().partition(" ")
        return GuardRefused(field, present if has_value else None)
    if verdict == b"F":
        return CommandIdsFull("the user sent more commands than the log can remember")
    if verdict == b"C":
        return IdempotencyConflict("this command id was used before with another body")
    return LogUnavailable(f"Redis refused the entry: {rest.decode(errors='replace')}")
