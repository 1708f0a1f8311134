"""Append with group commit: what comes in while one batch is on its way to Redis is the next batch.

One EVALSHA a partition carries idempotency, guards, seq, the entry, the bell and the work entry (scripts/append.lua); all
partitions of a batch go in one write. No timer delays anything: an idle node sends the first event at the end of the tick.
Right behind the batch the tail may read back what this process follows, see ops/decisions/0004-read-back.md.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Iterable
from functools import partial
from hashlib import blake2b
from typing import Final, Protocol

import hiredis

from streams.envelope import Appended, Draft, Durability, Lane
from streams.errors import GuardRefused, IdempotencyConflict, LogUnavailable, StreamsError
from streams.redis.durability import Barrier, DurabilityPolicy
from streams.redis.keys import Keys
from streams.redis.limits import DEFAULT_LIMITS, Limits
from streams.redis.scripts import load
from streams.redis.wire import Reply, Wire

Result = Appended | StreamsError
Done = Callable[[Result], None]
_Waiting = tuple[Draft, Done]
_Unconfirmed = tuple[_Waiting, bytes, Barrier]

SCRIPT: Final = load("append")
BATCH_EVENTS_MAX: Final = 500
"""Events in one script call. It holds Redis for about 9 µs an event, so 500 keep every other reader within 5 ms."""
PENDING_EVENTS_MAX: Final = 50_000
"""Drafts waiting for their batch. Beyond it a publisher is told to back off; 50,000 are about 3 s of work and 50 MB."""

_log = logging.getLogger(__name__)


class Follower(Protocol):
    """Who reads back what a batch appends (see `streams.redis.tail.Tail`)."""

    def begin_batch(self) -> bytes:
        """The label of the next batch, which its bells bear."""

    def read_back(self, wire: Wire, lanes: Iterable[bytes], on_read: Callable[[], None]) -> None:
        """The batch was sent over `wire`; it appends to the lanes under these keys. `on_read` is called once."""

    def distrust(self) -> None:
        """The batch was not carried out where it stood: its bells are news."""


class Appender:
    """Collects drafts and commits them in batches over one wire.

    Args:
        new_epoch: makes the random identity a channel gets with its first event.
        follower: reads each batch back behind it.
    """

    def __init__(
        self, keys: Keys, policy: DurabilityPolicy, new_epoch: Callable[[], str], follower: Follower,
        limits: Limits = DEFAULT_LIMITS,
    ) -> None:  # fmt: skip
        self._keys = keys
        self._follower = follower
        self._limits = limits
        self._policy = policy
        self._new_epoch = new_epoch
        self._pending: list[_Waiting] = []
        self._wire: Wire | None = None
        self._replies_due = 0
        self._unconfirmed: list[_Unconfirmed] = []
        self._is_flush_scheduled = False
        self._loop = asyncio.get_running_loop()
        self.appended_count = 0
        self.batch_count = 0

    def attach(self, wire: Wire | None) -> None:
        """Use this wire from now on; None fails what is waiting and refuses what comes, until the next wire."""
        self._wire = wire
        if wire is None:
            self._replies_due = 0
            lost, self._pending = self._pending, []
            for _, done in lost:
                _tell(done, LogUnavailable("Redis is away; nothing was stored"))

    def submit(self, draft: Draft, done: Done) -> None:
        """Append `draft`; `done` is called once, in a later tick, or in this one when Redis is known to be away."""
        if self._wire is None or len(self._pending) >= PENDING_EVENTS_MAX:
            done(LogUnavailable("Redis is away or too busy; nothing was stored"))
            return
        self._pending.append((draft, done))
        if not self._is_flush_scheduled and not self._replies_due:
            self._is_flush_scheduled = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._is_flush_scheduled = False
        if self._wire is None or not self._pending:
            return
        pending, self._pending = self._pending, []
        by_partition: dict[int, list[_Waiting]] = {}
        for waiting in pending:
            by_partition.setdefault(self._keys.of(waiting[0].channel).partition, []).append(waiting)
        with self._wire.in_one_write():
            self._send_all(self._wire, by_partition)

    def _send_all(self, wire: Wire, by_partition: dict[int, list[_Waiting]]) -> None:
        label = self._follower.begin_batch()
        for partition, group in by_partition.items():
            for start in range(0, len(group), BATCH_EVENTS_MAX):
                self._send(wire, partition, group[start : start + BATCH_EVENTS_MAX], label)
        lanes = [self._lane(draft) for group in by_partition.values() for draft, _ in group]
        self._replies_due += 1  # the next batch's reading begins where this one's ended
        self._follower.read_back(wire, lanes, partial(self._reply_came, wire))

    def _lane(self, draft: Draft) -> bytes:
        names = self._keys.of(draft.channel)
        return names.stream if draft.lane is Lane.EVENTS else names.live

    def _send(self, wire: Wire, partition: int, group: list[_Waiting], label: bytes) -> None:
        args = self._arguments(partition, [draft for draft, _ in group], label)
        self.batch_count += 1
        self._replies_due += 1

        def settle(reply: Reply) -> None:
            if isinstance(reply, hiredis.ReplyError) and str(reply).startswith("NOSCRIPT"):
                self._follower.distrust()
                wire.send(settle, b"EVAL", SCRIPT.text, *args)
                return
            if isinstance(reply, Exception):
                self._fail(wire, group, reply)
            else:
                self._written(group, reply)
            self._reply_came(wire)

        wire.send(settle, b"EVALSHA", SCRIPT.digest, *args)

    def _written(self, group: list[_Waiting], answers: list[bytes]) -> None:
        """Answer what is durable as it is; the rest waits for its barrier."""
        for waiting, answer in zip(group, answers, strict=True):
            barrier = self._policy.barrier_of(waiting[0].channel.kind) if self._policy.has_barriers else None
            if barrier is None:
                self._answer(waiting, answer)
            else:
                self._unconfirmed.append((waiting, answer, barrier))

    def _reply_came(self, wire: Wire) -> None:
        """After a flush's last reply: its barriers, once for all groups (each would wait its full time), then the next flush."""
        self._replies_due = max(0, self._replies_due - 1)
        if self._replies_due:
            return
        if self._unconfirmed:
            unconfirmed, self._unconfirmed = self._unconfirmed, []
            by_barrier: dict[Barrier, list[tuple[_Waiting, bytes]]] = {}
            for waiting, answer, barrier in unconfirmed:
                by_barrier.setdefault(barrier, []).append((waiting, answer))
            self._replies_due = len(by_barrier)
            for barrier, several in by_barrier.items():
                wire.send(partial(self._confirmed, wire, several, barrier), *barrier)
            return
        if self._pending and not self._is_flush_scheduled:
            self._is_flush_scheduled = True
            self._loop.call_soon(self._flush)

    def _confirmed(self, wire: Wire, several: list[tuple[_Waiting, bytes]], barrier: Barrier, counts: Reply) -> None:
        if self._policy.reached(barrier, counts):
            for waiting, answer in several:
                self._answer(waiting, answer)
        else:
            self._fail(wire, [waiting for waiting, _ in several], counts if isinstance(counts, Exception) else None)
        self._reply_came(wire)

    def _answer(self, waiting: _Waiting, answer: bytes) -> None:
        self.appended_count += 1
        _tell(waiting[1], read_answer(answer, self._policy.level_of(waiting[0].channel.kind)))

    def _fail(self, wire: Wire, group: list[_Waiting], reply: Exception | None) -> None:
        error = LogUnavailable(f"the append was not confirmed: {reply}" if reply else "not durable in time")
        for _, done in group:
            _tell(done, error)
        if str(reply).startswith(("READONLY", "MASTERDOWN")):
            wire.abort()  # this server is a replica now: look for the master anew

    def _arguments(self, partition: int, drafts: list[Draft], label: bytes) -> list[bytes | str | int]:
        """KEYS and ARGV of scripts/append.lua."""
        keys: list[bytes] = [self._keys.bell(partition), self._keys.work(partition)]
        places: dict[bytes, int] = {}

        def place(key: bytes, *followers: bytes) -> int:
            at = places.get(key)
            if at is None:
                keys.append(key)
                at = places[key] = len(keys)
                keys.extend(followers)
            return at

        kept = self._limits
        argv: list[bytes | str | int] = [
            self._new_epoch(), kept.idempotency_entries, kept.idempotency_ttl_s, kept.live_entries, kept.bell_entries,
            len(self._keys.prefix(partition)), label,
        ]  # fmt: skip
        for draft in drafts:
            argv.extend(self._record(draft, place))
        return [len(keys), *keys, *argv]

    def _record(self, draft: Draft, place: Callable[..., int]) -> tuple[bytes | str | int, ...]:
        names = self._keys.of(draft.channel)
        is_event = draft.lane is Lane.EVENTS
        idem, digest = 0, ""
        if draft.command and is_event:
            key = self._keys.idempotency(names.partition, draft.channel.tenant, draft.actor.id)
            idem = place(key, key + b":old")
            digest = _body_hash(draft)
        extra = self._extra(draft, place, names.open) if draft.guards or draft.open_text else b""
        return (
            "E" if is_event else "L", place(names.stream if is_event else names.live), place(names.meta) if is_event else 0,
            idem, draft.command or b"", digest, draft.type, draft.v, draft.actor.to_json(), draft.data, draft.meta_json(),
            "w" if draft.is_wanted else b"", extra,
        )  # fmt: skip

    def _extra(self, draft: Draft, place: Callable[..., int], open_key: bytes) -> str:
        guards = [
            {
                "k": place(self._keys.guard(draft.channel, g.name.removesuffix("@id"))),
                "c": g.checks,
                "s": g.sets,
                "i": g.increments,
                "d": g.decrements,
                "n": g.name.endswith("@id"),
                "t": g.ttl_s,
            }
            for g in draft.guards
        ]
        extra: dict[str, object] = {"g": guards} if guards else {}
        if (o := draft.open_text) is not None:
            head = json.dumps({"run_id": o.run_id, "attempt": o.attempt}, separators=(",", ":"))
            kept = {"k": place(open_key), "m": o.message_id, "h": head, "s": o.track, "f": o.offset, "e": o.end}
            extra["o"] = kept | ({"t": o.text} if o.text is not None else {}) | ({"r": True} if o.is_reset else {})
        return json.dumps(extra, ensure_ascii=False, separators=(",", ":"))


def _body_hash(draft: Draft) -> str:
    body = b"%b\n%b\n%b" % (draft.channel.path.encode(), draft.type.encode(), draft.data)
    return blake2b(body, digest_size=8).hexdigest()


def read_answer(answer: bytes, durability: Durability) -> Result:
    """One string of the script's reply as a value."""
    verdict, _, rest = answer.partition(b" ")
    if verdict in {b"A", b"D"}:
        event_id, seq, *results = rest.split()
        return Appended(event_id.decode(), int(seq), verdict == b"D", durability, tuple(map(int, results)))
    if verdict == b"G":
        field, has_value, present = rest.decode().partition(" ")
        return GuardRefused(field, present if has_value else None)
    if verdict == b"C":
        return IdempotencyConflict("this command id was used before with another body")
    return LogUnavailable(f"Redis refused the entry: {rest.decode(errors='replace')}")


def _tell(done: Done, result: Result) -> None:
    try:
        done(result)
    except Exception:  # one caller's fault must not cost the others their answer
        _log.exception("an append's callback failed")
