"""Begins the archive of a channel anew after it had stopped for good: a new epoch, with a signed record of the reason.

What can still be read is saved to a file first. The events in Redis stay; what the former epoch archived stays in the store, and
clients that hold a cursor of it are told a gap.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from ops.cli.audit_export import ExportFormat, export
from ops.cli.failure import CommandFailed
from ops.cli.keeping import OwnArchive, keeper_of
from ops.cli.selection import Selection
from streams.archive.objects import ChannelFolder
from streams.audit.sources import LoggedHistories
from streams.channel import Channel
from streams.cursor import START, Position
from streams.errors import ArchiveDiffers
from streams.records.archive import ArchiveRecords, DamagedFacts
from streams.redis.log import Log
from streams.redis.server import new_epoch
from streams.redis.stored import StoredLog


@dataclass(frozen=True, slots=True)
class BegunAnew:
    """The new beginning of a channel's archive.

    Attributes:
        fault: the reason why the archive had stopped.
        after: the position before the first event of the new tree.
        saved: number of events that were saved.
    """

    fault: str
    epoch: str
    after: Position
    saved: int


async def fault_of(log: Log, kept: OwnArchive | None, channel: Channel) -> str | None:
    """The reason why a channel's archive does not go on; None if it does, up to the newest event."""
    try:
        await keeper_of(log, kept).archive_whole(channel, trims=False)
    except ArchiveDiffers as error:
        return str(error)
    return None


async def begin_anew(
    log: Log, stored: StoredLog, kept: OwnArchive, channel: Channel, fault: str, reason: str, by: str, save: Path
) -> BegunAnew:
    """Save what can be read, and begin anew after the last event that is missing or damaged.

    Raises:
        CommandFailed: the channel's record is damaged, or the channel began another epoch meanwhile. Nothing was changed.
    """
    records = ArchiveRecords(log)
    facts = await records.facts(channel)
    if facts is None or isinstance(facts, DamagedFacts):
        raise CommandFailed(f"the record of {channel.wire} in Redis is damaged: see the runbook HubArchiveStopped")
    wanted = Selection(START, "+", ())
    saved, _ = await export(LoggedHistories(stored), [channel], wanted, ExportFormat.JSONL, save)
    after, epoch = await _sound_from(stored, channel, facts.floor), new_epoch()
    folder = ChannelFolder(kept.objects, channel, epoch)
    await folder.write_begin(after)
    lines = (
        "realtime-hub/begun-anew/v1",
        channel.path,
        facts.epoch,
        epoch,
        f"time {round(time.time())}",
        by,
        reason,
        fault,
    )
    text = "".join(f"{' '.join(line.split())}\n" for line in lines).encode()
    await folder.write_note(text + b"\n" + kept.signer.sign(text))
    if not await records.begin_anew(channel, facts.epoch, epoch):
        raise CommandFailed(f"{channel.wire} began another epoch meanwhile; nothing was changed")
    return BegunAnew(fault, epoch, after, saved)


async def _sound_from(stored: StoredLog, channel: Channel, floor: Position) -> Position:
    """The position after which all events in Redis are there and undamaged."""
    found, at = floor, floor.id
    seq = floor.seq
    while page := await stored.hot_page(channel, at):
        for entry in page:
            if entry.is_damaged:
                found = Position(entry.id.decode(), entry.seq)
            elif entry.seq != seq + 1:
                found = Position(at, entry.seq - 1)
            at, seq = entry.id.decode(), entry.seq
    return found
