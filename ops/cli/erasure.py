"""Erases a person: counts what is sealed by the person's keys, destroys the key, and records it in `system:erasures`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final, cast

from streams.audit.archived_lives import ArchivedLives
from streams.audit.channel_check import ArchiveEvidence
from streams.channel import Channel, Kind
from streams.cursor import START
from streams.envelope import SYSTEM, Draft, Entry
from streams.events import CATALOGUE
from streams.events.operators import ERASED_KEYS_MAX
from streams.events.validation import appendable
from streams.json_bytes import Json, JsonObject, parse
from streams.records.listed_channels import listed_channels
from streams.redis.log import Log
from streams.redis.stored import StoredLog
from streams.sealing.keys import KeyFolder, subject_of
from streams.sealing.sealed import SealBroken, is_sealed, key_ids

ERASURES: Final = "erasures"
"""The name of the channel of records, of the kind `system`."""
_EVENT: Final = "operator.erasure"


def erasures_of(tenant: str) -> Channel:
    """The channel with the records of the tenant's erasures."""
    return Channel(tenant, Kind.SYSTEM, ERASURES)


@dataclass(slots=True)
class Reach:
    """The events of a person, as they are stored.

    Attributes:
        sealed, sealed_in: events that are sealed by the person's keys, and the channels they are in.
        plain, plain_in: events with words of the person that are not sealed, and the channels they are in.
        settings: changes of settings by the person, titles and instructions among them; they are never sealed.
        uploads: IDs of the events by which the person requested uploads, with their channels.
    """

    sealed: int = 0
    sealed_in: set[str] = field(default_factory=set)
    plain: int = 0
    plain_in: set[str] = field(default_factory=set)
    settings: int = 0
    uploads: int = 0

    def take(self, channel: Channel, entry: Entry, user: str, ids: frozenset[str]) -> None:
        """Count one event."""
        if is_sealed(entry.data):
            if ids.intersection(_ids(entry)):
                self.sealed += 1
                self.sealed_in.add(channel.wire)
            return
        if not is_by(entry, user):
            return
        name = entry.type.decode()
        if name in _SETTINGS:
            self.settings += 1
        elif name == "file.upload.request":
            self.uploads += 1
        elif (row := CATALOGUE.get(name)) is None or row.personal is not None:
            self.plain += 1
            self.plain_in.add(channel.wire)


_SETTINGS: Final = frozenset({"chat.configure", "channel.configure"})


def is_by(entry: Entry, user: str) -> bool:
    """True if a person of this name is the event's actor, on whatever device."""
    begun = b'{"kind":"user","id":"%b"' % user.encode()
    return entry.actor.startswith((begun + b"}", begun + b","))


def _ids(entry: Entry) -> tuple[str, ...]:
    try:
        return key_ids(entry.data)
    except SealBroken:
        return ()


async def look_for(log: StoredLog, tenant: str, user: str, ids: frozenset[str]) -> Reach:
    """Count the person's events in all channels of the tenant, archived ones included, as they are stored."""
    reach = Reach()
    async for one in listed_channels(log, tenant, "*"):
        if one.channel.kind is not Kind.SYSTEM:
            async for entry in _entries(log, one.channel):
                reach.take(one.channel, entry, user, ids)
    return reach


async def _entries(log: StoredLog, channel: Channel) -> AsyncIterator[Entry]:
    after = START
    while page := await log.page(channel, after):
        for entry in page:
            yield entry
        after = page[-1].id.decode()


async def erase(log: Log, keys: KeyFolder, tenant: str, user: str, by: str, reach: Reach) -> tuple[list[str], bool]:
    """Destroy the person's key and record it. Returns the IDs of all keys destroyed so far; false if nothing new was recorded.

    A call that was cut off is completed by the next one.
    """
    at = datetime.now(UTC).isoformat(timespec="seconds")
    ids = keys.destroy(tenant, user, at)
    place = erasures_of(tenant)
    subject = subject_of(tenant, user)
    if await _recorded(log, place, subject, ids):
        return ids, False
    payload: JsonObject = {
        "subject": subject,
        "keys": list(ids[-ERASED_KEYS_MAX:]),
        "by": by,
        "events": reach.sealed,
        "channels": len(reach.sealed_in),
        "plain": reach.plain,
    }
    data = appendable(place, _EVENT, payload).data
    await log.append(Draft(place, _EVENT, data, SYSTEM, command=f"erasure/{subject[:32]}/{ids[-1]}"))
    return ids, True


@dataclass(frozen=True, slots=True)
class ErasedAgain:
    """The keys that were destroyed again.

    Attributes:
        records: number of erasures on record that could be read.
        keys: IDs of the keys that were there.
        unread: number of erasures that are under a checkpoint and can no longer be read.
        faults: the reasons why records cannot be read, as sentences.
    """

    records: int
    keys: Sequence[str]
    unread: int
    faults: Sequence[str]


async def erase_recorded(log: Log, keys: KeyFolder, tenant: str, evidence: ArchiveEvidence | None) -> ErasedAgain:
    """Destroy every key that the records name: a restored backup may have brought some back.

    The records of all lives of `system:erasures` count: Redis has the present one, the archive also those before.
    """
    place = erasures_of(tenant)
    heads = evidence.heads_of(place) if evidence else ()
    lives = ArchivedLives(evidence.objects, place, heads) if evidence else None
    events, ids = set[bytes](), dict[str, None]()
    records = unread = covered = 0
    if lives is not None:
        async for entry in lives.entries():
            events.add(entry.id)
            records += _note_keys(entry, ids)
        present = (await log.look(place)).epoch
        covered = max((head.begin + head.size for head in heads if head.epoch == present), default=0)
        unread = sum(lives.unread.values())
    async for entry in _stored(log, place):
        if entry.id not in events:
            records += _note_keys(entry, ids)
            unread -= entry.seq <= covered
    faults = [*evidence.record.faults, *lives.faults] if evidence and lives else []
    destroyed = keys.destroy_keys(ids, datetime.now(UTC).isoformat(timespec="seconds"))
    return ErasedAgain(records, destroyed, unread, faults)


def _note_keys(entry: Entry, ids: dict[str, None]) -> bool:
    """Add the keys that a record names; false if it is none."""
    found = _record_in(entry)
    if found is None:
        return False
    ids.update((str(key_id), None) for key_id in cast("list[Json]", found["keys"]))
    return True


async def _recorded(log: Log, place: Channel, subject: str, ids: list[str]) -> bool:
    wanted = (subject, ids[-ERASED_KEYS_MAX:])
    return any([(found["subject"], found["keys"]) == wanted async for found in _records(log, place)])


async def _records(log: Log, place: Channel) -> AsyncIterator[JsonObject]:
    async for entry in _stored(log, place):
        if (found := _record_in(entry)) is not None:
            yield found


async def _stored(log: Log, place: Channel) -> AsyncIterator[Entry]:
    after = START
    while page := await log.page(place, after):
        for entry in page:
            yield entry
        after = page[-1].id.decode()


def _record_in(entry: Entry) -> JsonObject | None:
    found = parse(entry.data) if entry.type.decode() == _EVENT else None
    return found if isinstance(found, dict) else None
