"""Events before they are appended and after they are read back. Pure.

A `Draft` is an event about to be appended. An `Entry` is an event read back: its fields are the stored bytes, and `Entry.wire`
joins them into the JSON that every reader gets, so any two readers see equal bytes for one seq.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Any, Final, NamedTuple

from streams.channel import Channel


class Lane(StrEnum):
    """The destination of an event: the channel's durable stream, its short live stream, or a single connection."""

    EVENTS = "events"
    LIVE = "live"
    CONNECTION = "connection"


class Durability(StrEnum):
    """The failures that an acknowledged event survives. Each acknowledgement states its level."""

    MEMORY = "memory"
    FSYNC = "fsync"
    REPLICATED = "replicated"


class Actor(NamedTuple):
    """The author of an event: a person, an agent or the hub."""

    kind: str
    id: str
    client: str | None = None


SYSTEM: Final = Actor("system", "hub")


@lru_cache(maxsize=16_384)
def actor_json(actor: Actor) -> bytes:
    """The actor as JSON, as stored and sent, without absent fields. Names contain no characters that need escaping."""
    client = f',"client":"{actor.client}"' if actor.client else ""
    return f'{{"kind":"{actor.kind}","id":"{actor.id}"{client}}}'.encode()


@dataclass(frozen=True, slots=True)
class Guard:
    """A compare-and-set on one hash of the channel's partition, carried out by the script that appends the event.

    Attributes:
        name: selects the hash: its key is `hub:{p}:<tenant>:guard:<name>`, e.g. `run:r1`. If the name ends in `@id`, the ID of
            the new event takes its place; such a hash cannot exist yet, so it is set without being checked.
        checks: (field, operator, value) triples, all of which must hold. Operators: `eq` (value "" = absent or empty), `ne`,
            `free_or` (absent, or equal to the value), `in` (value is a comma-separated list), `lt`, `le` (numbers; absent
            counts as 0), `newer` (the value is the ID of an event later than the stored one; an absent field is older than
            every ID).
        sets: (field, value) pairs written when the event is appended. `@id` and `@seq` are replaced by the new event's.
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
    """The change that an append makes to the stored text of an answer in progress (the channel's `…:open` hash).

    A delta extends the text of its track only if its `offset` equals the stored length, so a repeated delta changes nothing.
    `text=None` deletes everything stored for the message, because its end was appended. `is_reset` cuts the text track to `end`
    code points and deletes the reasoning.

    Attributes:
        offset: the stored length before the delta. Counted in Unicode code points, like `end`.
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
        data: the payload as validated JSON, stored and sent byte for byte.
        command: idempotency key, unique per tenant and user; None skips the duplicate check.
        correlation, causation: the `meta` of an event derived from another; the append adds `command` to it.
        guards: conditions and effects, all checked before anything is written.
        is_wanted: at least one handler processes this event, so a work entry is written with it.
        traceparent: the trace that the event belongs to, stored in its `meta`.
        wants_leaf: the result has the hash of the stored bytes.
        sealed_for: IDs of the keys that the event's source is sealed by; its payload may quote the source.
        digest: the digest for the duplicate check, if it is not to be computed from `data`.
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
    traceparent: str | None = None
    wants_leaf: bool = False
    sealed_for: tuple[str, ...] = ()
    digest: str | None = None


class Appended(NamedTuple):
    """The result of appending one draft.

    `results` holds the new values of the fields that the guards increment. A duplicate returns the first result again,
    `results` included. Entries of the live lane have an ID of that lane and seq 0. `is_first` is true if this was the channel's
    first event.

    Attributes:
        leaf: the event's leaf in the channel's Merkle tree, in hexadecimal, where the draft wants it; "" for a duplicate, whose
            bytes this process has not seen.
    """

    id: str
    seq: int
    is_duplicate: bool
    durability: Durability
    results: tuple[int, ...] = ()
    is_first: bool = False
    leaf: str = ""


DAMAGED: Final = b"damaged"
"""Replaces the type of an event whose stored bytes do not match their checksum. No event type has this name."""
FOREIGN: Final = b"foreign"
"""The type of an entry that is no event: it was added to the stream by hand. No event type has this name."""
_EVENT_FIELDS: Final = 12
_LIVE_FIELDS: Final = 10


class Entry(NamedTuple):
    """One stored event, as bytes. An entry of the live lane has seq 0 and is sent without ID and seq.

    `sealed_for` has the IDs of the keys by which the payload is sealed in the log. `is_erased` is true if one of them was
    destroyed; the payload is empty then.
    """

    id: bytes
    seq: int
    type: bytes
    v: bytes
    actor: bytes
    data: bytes
    meta: bytes
    sealed_for: tuple[str, ...] = ()
    is_erased: bool = False

    def wire(self, channel: bytes) -> bytes:
        """The event as JSON for the wire (docs/protocol.md#messages), built by joining bytes; `channel` is its `kind:name`."""
        meta = b"" if self.meta == b"{}" else b',"meta":' + self.meta
        if self.is_erased:
            meta += b',"erased":true'
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
        """True if the stored bytes did not match their checksum; then only ID and seq are available."""
        return self.type == DAMAGED

    @property
    def is_foreign(self) -> bool:
        """True if this is no event; then only the ID is available. Readers pass over such entries."""
        return self.type == FOREIGN

    @property
    def payload(self) -> dict[str, Any]:
        """The parsed payload, for folds and handlers. The path from stream to socket never parses it."""
        value: dict[str, Any] = json.loads(self.data)
        return value


def read_entry(raw: Sequence[Any]) -> Entry:
    """Read an entry of an events lane as XRANGE and XREAD return it: `[id, [name, value, …]]`, fields in stored order."""
    f = raw[1]
    return Entry(raw[0], int(f[1]), f[3], f[5], f[7], f[9], f[11])


def read_live_entry(raw: Sequence[Any]) -> Entry:
    """Read an entry of a live lane, which has the same fields except seq."""
    f = raw[1]
    return Entry(raw[0], 0, f[1], f[3], f[5], f[7], f[9])


def read_own_entries(raw: Sequence[Sequence[Any]]) -> list[Entry]:
    """Read the entries of an events lane without those that somebody added to the stream by hand."""
    try:
        return [read_entry(entry) for entry in raw if entry[1][0] == b"seq"]
    except (IndexError, ValueError):
        return [read_entry(entry) for entry in raw if is_own(entry[1]) and entry[1][1].isdigit()]


def is_own(fields: Sequence[bytes]) -> bool:
    """True if these are the fields of an event, and not of an entry that somebody added by hand."""
    return len(fields) >= _EVENT_FIELDS and fields[0] == b"seq"


def read_own_live_entries(raw: Sequence[Sequence[Any]]) -> list[Entry]:
    """Read the entries of a live lane without those that somebody added to the stream by hand."""
    return [read_live_entry(entry) for entry in raw if len(entry[1]) >= _LIVE_FIELDS and entry[1][0] == b"type"]


def until_damage(entries: list[Entry]) -> list[Entry]:
    """The entries before the first damaged one, or all of them if none is damaged."""
    for at, entry in enumerate(entries):
        if entry.type == DAMAGED:
            return entries[:at]
    return entries


def unbroken(entries: list[Entry], after_seq: int) -> list[Entry]:
    """The entries that follow `after_seq` without a hole: all of them, or those before the first missing event."""
    if entries and entries[0].seq == after_seq + 1 and entries[-1].seq == after_seq + len(entries):
        return entries
    count = 0
    while count < len(entries) and entries[count].seq == after_seq + 1 + count:
        count += 1
    return entries[:count]
