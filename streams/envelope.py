"""Events on their way into and out of the log. Pure.

A `Draft` is an event about to be appended. An `Entry` is an event read back: its fields are the stored bytes, and
`Entry.wire` joins them into the JSON every reader gets, so any two readers see equal bytes for one seq.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, NamedTuple

from streams.channel import Channel


class Lane(StrEnum):
    """The destination of an event: the durable stream, the short live stream beside it, or one connection only."""

    EVENTS = "events"
    LIVE = "live"
    CONNECTION = "connection"


class Durability(StrEnum):
    """The failures that an acknowledged event survives. The ack names it."""

    MEMORY = "memory"
    FSYNC = "fsync"
    REPLICATED = "replicated"


class Actor(NamedTuple):
    """The cause of an event: a person, an agent or the hub."""

    kind: str
    id: str
    client: str | None = None


SYSTEM: Final = Actor("system", "hub")


@dataclass(frozen=True, slots=True)
class Guard:
    """A compare-and-set on one hash of the channel's partition, carried out in the script that appends the event.

    Attributes:
        name: which hash: the key is `hub:{p}:<tenant>:guard:<name>`, e.g. `run:r1`. A name that ends in `@id` names the
            hash of the event that is being appended: it does not exist before, so it is not looked at, only set.
        checks: (field, operator, value) triples, all of which must hold. Operators: `eq` (value "" = absent or empty),
            `ne`, `free_or` (absent, or the value), `in` (value is comma-separated), `lt`, `le` (numbers; absent counts as 0),
            `newer` (value is the id of a later event than the one there; absent is before all).
        sets: (field, value) pairs written when the event is appended. `@id` and `@seq` stand for the new event's.
        increments: fields raised by one; their new values come back in `Appended.results`, in this order.
        decrements: fields lowered by one; their new values are not returned.
        removes: fields deleted.
        ttl_s: lifetime of the hash from now; 0 leaves it unchanged.
    """

    name: str
    checks: tuple[tuple[str, str, str], ...] = ()
    sets: tuple[tuple[str, str], ...] = ()
    increments: tuple[str, ...] = ()
    decrements: tuple[str, ...] = ()
    removes: tuple[str, ...] = ()
    ttl_s: int = 0


@dataclass(frozen=True, slots=True)
class OpenText:
    """The effect of an append on the stored text of an answer in progress (the channel's `…:open` hash).

    A delta extends the text of its track only if its `offset` equals the length stored so far, so a repeated delta changes
    nothing. `text=None` deletes everything stored for the message: its end was appended. `is_reset` cuts the
    text track to `end` code points and deletes the reasoning.

    Attributes:
        offset: code points stored before. Counted in Unicode code points, like `end`.
    """

    message_id: str
    run_id: str
    attempt: int
    track: str = "text"
    offset: int = 0
    end: int = 0
    text: str | None = None
    is_reset: bool = False


@dataclass(slots=True)
class Draft:
    """An event to append.

    Attributes:
        data: the payload as JSON, validated; it is stored and sent as these bytes.
        command: idempotency key within (tenant, user); None appends without a look-up.
        meta: `correlation` and `causation` of a derived event; `command` is added by the append.
        guards: conditions and effects, all checked before anything is written.
        is_wanted: some handler handles it: a work entry is written with it.
    """

    channel: Channel
    type: str
    data: bytes
    actor: Actor
    lane: Lane = Lane.EVENTS
    v: int = 1
    command: str | None = None
    correlation: str | None = None
    causation: str | None = None
    guards: tuple[Guard, ...] = ()
    open_text: OpenText | None = None
    is_wanted: bool = False


class Appended(NamedTuple):
    """The script's answer for one draft.

    `results` are the new values of the guards' increments. A duplicate repeats the first answer, results included.
    Live entries have an id of their lane and seq 0. `is_first` is true when the channel had never been written to.
    """

    id: str
    seq: int
    is_duplicate: bool
    durability: Durability
    results: tuple[int, ...] = ()
    is_first: bool = False


DAMAGED: Final = b"damaged"
"""Stands in place of the type of an event whose bytes are not those that were appended. No event of the catalogue is named so."""


class Entry(NamedTuple):
    """One stored event of the events lane, as bytes. `live` entries have seq 0 and are sent without id and seq."""

    id: bytes
    seq: int
    type: bytes
    v: bytes
    actor: bytes
    data: bytes
    meta: bytes

    def wire(self, channel: bytes) -> bytes:
        """The event as JSON on the wire (docs/protocol.md#messages), by joining bytes; `channel` is its `kind:name`."""
        meta = b"" if self.meta == b"{}" else b',"meta":' + self.meta
        head = b'{"id":"%b","seq":%d,' % (self.id, self.seq) if self.seq else b"{"
        return b'%b"channel":"%b","type":"%b","v":%b,"actor":%b%b,"payload":%b}' % (
            head,
            channel,
            self.type,
            self.v,
            self.actor,
            meta,
            self.data,
        )

    @property
    def is_damaged(self) -> bool:
        """Its stored bytes did not match their checksum: only id and seq remain."""
        return self.type == DAMAGED

    @property
    def payload(self) -> dict[str, Any]:
        """The parsed payload. For folds and handlers; never used between stream and socket."""
        value: dict[str, Any] = json.loads(self.data)
        return value


def read_entry(raw: Sequence[Any]) -> Entry:
    """An entry of an events lane as XRANGE and XREAD return it: `[id, [name, value, …]]`, the fields in stored order."""
    f = raw[1]
    return Entry(raw[0], int(f[1]), f[3], f[5], f[7], f[9], f[11])


def read_live_entry(raw: Sequence[Any]) -> Entry:
    """An entry of a live lane: the same fields without seq."""
    f = raw[1]
    return Entry(raw[0], 0, f[1], f[3], f[5], f[7], f[9])


def until_damage(entries: list[Entry]) -> list[Entry]:
    """The entries before the first damaged one, or all of them if none is damaged."""
    for at, entry in enumerate(entries):
        if entry.type == DAMAGED:
            return entries[:at]
    return entries


def unbroken(entries: list[Entry], after_seq: int) -> list[Entry]:
    """The entries that follow `after_seq` without a hole: all of them, or those before the first missing one."""
    if entries and entries[0].seq == after_seq + 1 and entries[-1].seq == after_seq + len(entries):
        return entries
    count = 0
    while count < len(entries) and entries[count].seq == after_seq + 1 + count:
        count += 1
    return entries[:count]
