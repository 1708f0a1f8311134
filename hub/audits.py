"""Verifies one channel for a node: opens Redis and the archive anew, because it runs in a thread with an event loop of its own."""

from __future__ import annotations

from functools import partial
from typing import Any, Final

from hub.config import Settings
from hub.errors import HubError
from hub.storage.choice import audit_key_path, reading_archive
from streams.archive.heads import HeadLog
from streams.archive.notes import NoteRefused, PublicKey, Signer, read_checkpoint
from streams.archive.objects import ArchiveObjects, ChannelFolder
from streams.audit.archive_check import read_heads
from streams.audit.channel_check import ArchiveEvidence, verify_log
from streams.channel import Channel
from streams.errors import ArchiveDiffers, LogUnavailable
from streams.redis.stored import ChannelRecord, StoredLog

EVENTS_MAX: Final = 50_000
"""Maximum number of events that a node verifies: about a second of the interpreter, shared with its loop."""
BYTES_MAX: Final = 67_108_864
"""Maximum bytes of these events: a page of 500 of them is held at a time, and the largest would take 250 MB."""
HEADS_MAX: Final = 50_000


async def verify_channel(settings: Settings, channel: Channel) -> dict[str, Any]:
    """The report on a channel, with the result in words as `told`.

    Raises:
        HubError: 4011: the channel, or the tenant's log of heads, is too long to verify in a node.
        ChannelUnverified: nothing knows the channel.
        LogUnavailable: Redis or the archive does not answer.
    """
    async with reading_archive(settings) as (archive, cold):
        log = await StoredLog.open(settings.redis_url or "", cold)
        if log is None:
            raise LogUnavailable("there is no log in this Redis")
        try:
            record = await log.record(channel)
            heads = await _head_count(archive, channel.tenant) if archive else 0
            size_bytes = await _size_bytes(log, archive, record, channel)
            _require_short(channel, record.seq - log.floor_of(record).seq, size_bytes, heads)
            evidence = None
            if archive is not None:
                again = partial(read_heads, archive, channel.tenant, _keys(settings))
                evidence = ArchiveEvidence(archive, await again(), again)
            found = await verify_log(log, channel, evidence)
            return found.to_json()
        finally:
            log.close()


async def _size_bytes(log: StoredLog, archive: ArchiveObjects | None, record: ChannelRecord, channel: Channel) -> int:
    """The bytes of the channel's events in Redis and in the archive, where those of both count twice."""
    size_bytes = await log.memory_bytes(channel)
    if archive is None or record.epoch is None or not record.mark.number:
        return size_bytes
    try:
        manifest = await ChannelFolder(archive, channel, record.epoch).manifest(record.mark.number)
    except ArchiveDiffers:  # the audit says so
        return size_bytes
    return size_bytes + sum(segment.raw_bytes for segment in manifest.segments) if manifest else size_bytes


async def _head_count(archive: ArchiveObjects, tenant: str) -> int:
    heads = HeadLog(archive, tenant, "")
    number = await heads.checkpoint_count()
    note = await heads.checkpoint(number) if number else None
    try:
        return read_checkpoint(note).size if note else 0
    except NoteRefused:  # the audit says so
        return 0


def _keys(settings: Settings) -> tuple[PublicKey, ...]:
    """The hub's public keys, if this process may read its key file; without them signatures are not checked."""
    try:
        return Signer.parse(audit_key_path(settings).read_text()).publics
    except (OSError, NoteRefused):
        return ()


def _require_short(channel: Channel, events: int, size_bytes: int, heads: int) -> None:
    measured = {
        "events": (events, EVENTS_MAX),
        "bytes": (size_bytes, BYTES_MAX),
        "heads of the log": (heads, HEADS_MAX),
    }
    for name, (number, most) in measured.items():
        if number > most:
            command = f"hub audit verify {channel.wire} --tenant {channel.tenant}"
            raise HubError(4011, f"{number:,} {name} are too many to verify here; an operator runs `{command}`")
