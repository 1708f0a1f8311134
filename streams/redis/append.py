"""Append with group commit: what comes in while batches are on their way to Redis is the next batch.

One EVALSHA a partition carries idempotency, guards, seq, the entry, the bell and the work entry (scripts/append.lua); all
partitions of a batch go in one write. No timer delays anything: an idle node sends the first event at the end of the tick.
Right behind the batch the tail reads back what this process follows (ops/decisions/0004-read-back.md).

Several batches may be on their way, so that this process and Redis work at the same time, but a channel is in one of them at most:
its order, and where its next read begins, never depend on how two batches fare.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from functools import partial
from typing import Final, Protocol

import hiredis

from streams.channel import Channel
from streams.envelope import Draft, Lane
from streams.errors import LogUnavailable
from streams.redis.append_call import AppendCall, Result, read_answer
from streams.redis.calls import code_of, is_moved
from streams.redis.durability import Barrier, DurabilityPolicy
from streams.redis.keys import Keys
from streams.redis.limits import DEFAULT_LIMITS, Limits
from streams.redis.scripts import load
from streams.redis.wire import Reply, Wire

Done = Callable[[Result], None]
_Waiting = tuple[Draft, Done]
_Unconfirmed = tuple[_Waiting, bytes, Barrier]

SCRIPT: Final = load("append")
BATCHES_MAX: Final = 4
"""Batches on their way at a time. With one, this process and Redis wait for each other in turn."""
EARLY_CHANNELS: Final = 16
"""So many channels make a batch before the tick is over: Redis begins with it while the rest of the tick is read."""
BATCH_EVENTS_MAX: Final = 500
"""Events in one script call. It holds Redis for about 9 µs an event, so 500 keep every other reader within 5 ms."""
PENDING_EVENTS_MAX: Final = 50_000
"""Drafts waiting for their batch. Beyond it a publisher is told to back off; 50,000 are about 3 s of work and 50 MB."""

_log = logging.getLogger(__name__)


class ReadBack(Protocol):
    """Who reads back what a batch appends (see `streams.redis.tail.Tail`)."""

    def begin_batch(self) -> bytes:
        """The label of the next batch, which its bells bear."""

    def read_back(self, wire: Wire, lanes: Iterable[bytes], on_read: Callable[[], None]) -> None:
        """The batch was sent over `wire`; it appends to the lanes under these keys. `on_read` is called once."""

    def distrust(self) -> None:
        """The batch was not carried out where it stood: its bells are news."""


class _Batch:
    """Drafts on their way over one wire, until every reply has come."""

    __slots__ = ("channels", "due", "label", "unconfirmed", "wire")

    def __init__(self, wire: Wire, label: bytes) -> None:
        self.wire = wire
        self.label = label
        self.channels: list[Channel] = []
        self.due = 1  # the sending itself: a closed wire answers at once
        self.unconfirmed: list[_Unconfirmed] = []


class Appender:
    """Collects drafts and commits them in batches over one wire.

    Args:
        new_epoch: makes the random identity a channel gets with its first event.
        reader: reads each batch back behind it.
    """

    def __init__(
        self, keys: Keys, policy: DurabilityPolicy, new_epoch: Callable[[], str], reader: ReadBack,
        limits: Limits = DEFAULT_LIMITS,
    ) -> None:  # fmt: skip
        self._keys = keys
        self._call = AppendCall(keys, new_epoch, limits)
        self._reader = reader
        self._policy = policy
        self._pending: dict[Channel, list[_Waiting]] = {}
        self._pending_count = 0
        self._free_count = 0
        self._moving: set[Channel] = set()
        self._under_way = 0
        self._wire: Wire | None = None
        self._is_flush_scheduled = False
        self._loop = asyncio.get_running_loop()
        self.appended_count = 0
        self.batch_count = 0

    def attach(self, wire: Wire | None) -> None:
        """Use this wire from now on; None fails what is waiting and refuses what comes, until the next wire."""
        self._wire = wire
        self._moving.clear()
        self._under_way = 0
        if wire is None:
            lost, self._pending, self._pending_count = self._pending, {}, 0
            for group in lost.values():
                for _, done in group:
                    _tell(done, LogUnavailable("Redis is away; nothing was stored"))

    def submit(self, draft: Draft, done: Done) -> None:
        """Append `draft`; `done` is called once, in a later tick, or in this one when Redis is known to be away."""
        if self._wire is None or self._pending_count >= PENDING_EVENTS_MAX:
            done(LogUnavailable("Redis is away or too busy; nothing was stored"))
            return
        self._pending_count += 1
        group = self._pending.get(draft.channel)
        if group is not None:
            group.append((draft, done))
            return
        self._pending[draft.channel] = [(draft, done)]
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
        """What goes with this batch, by partition; a channel's rest waits until the batch is through."""
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
        lanes = {self._lane(draft) for group in groups.values() for draft, _ in group}
        batch.due += 1
        self._reader.read_back(batch.wire, lanes, partial(self._reply_came, batch))

    def _lane(self, draft: Draft) -> bytes:
        names = self._keys.of(draft.channel)
        return names.stream if draft.lane is Lane.EVENTS else names.live

    def _send(self, batch: _Batch, partition: int, group: list[_Waiting]) -> None:
        args = self._call.arguments(partition, [draft for draft, _ in group], batch.label)
        self.batch_count += 1
        batch.due += 1

        def settle(reply: Reply) -> None:
            if isinstance(reply, hiredis.ReplyError) and code_of(reply) == "NOSCRIPT":
                self._reader.distrust()
                batch.wire.send(settle, b"EVAL", SCRIPT.text, *args)
                return
            if isinstance(reply, Exception):
                self._fail(batch, group, reply)
            else:
                self._written(batch, group, reply)
            self._reply_came(batch)

        batch.wire.send(settle, b"EVALSHA", SCRIPT.digest, *args)

    def _written(self, batch: _Batch, group: list[_Waiting], answers: list[bytes]) -> None:
        """Answer what is durable as it is; the rest waits for its barrier."""
        for waiting, answer in zip(group, answers, strict=True):
            barrier = self._policy.barrier_of(waiting[0].channel.kind) if self._policy.has_barriers else None
            if barrier is None:
                self._answer(waiting, answer)
            else:
                batch.unconfirmed.append((waiting, answer, barrier))

    def _reply_came(self, batch: _Batch) -> None:
        """After a batch's last reply: its barriers, once for all groups (each would wait its full time), then the next batch."""
        batch.due -= 1
        if batch.due:
            return
        if batch.unconfirmed:
            self._secure(batch)
        elif batch.wire is self._wire:  # else its channels were given back when the wire was
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
        _tell(waiting[1], read_answer(answer, self._policy.level_of(waiting[0].channel.kind)))

    def _fail(self, batch: _Batch, group: list[_Waiting], reply: Exception | None) -> None:
        error = LogUnavailable(f"the append was not confirmed: {reply}" if reply else "not durable in time")
        for _, done in group:
            _tell(done, error)
        if reply is not None and is_moved(reply):
            batch.wire.abort()  # look for the master anew


def _tell(done: Done, result: Result) -> None:
    try:
        done(result)
    except Exception:  # one caller's fault must not cost the others their answer
        _log.exception("an append's callback failed")
