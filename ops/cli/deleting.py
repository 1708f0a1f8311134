"""Deletes channels: archives them first, ends their life, removes files and records, and puts the deletion on record.

The steps of a channel follow each other so that a deletion that was cut off at any of them is completed by the next one:
archive what is there; end the life in one step, after which nobody reads or continues it; remove files and parked work;
archive what was added meanwhile; record the deletion; forget the events.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import Any

from hub.storage.store import ObjectStore
from ops.cli.failure import CommandFailed
from ops.cli.keeping import OwnArchive, keeper_of
from streams.archive.keeper import Keeper
from streams.archive.objects import ChannelFolder
from streams.channel import Channel, parse_channel
from streams.errors import ArchiveDiffers
from streams.records.archive import ArchiveRecords, ChannelFacts, DamagedFacts
from streams.records.deletions import Deletions, SideKeys, deletions_of, is_of_deleted
from streams.records.uploads import UploadRecord, UploadState
from streams.redis.deleted import DeletedLog
from streams.redis.log import Log


class ChannelDeleter:
    """Deletes channels.

    Args:
        log: the log.
        files: the store of uploaded files.
        archive: the archive; None if there is none.
        by: who deletes.
        archives: archive the channel's events before they are removed.
        purges: remove its archived events, too.
        sweep_after_ms: time after which no signed URL is valid any more, and bytes that were sent meanwhile are removed.
    """

    def __init__(
        self, log: Log, files: ObjectStore, archive: OwnArchive | None, by: str, *, archives: bool, purges: bool,
        sweep_after_ms: int,
    ) -> None:  # fmt: skip # its arguments in two groups
        self._log, self._files, self._archive = log, files, archive
        self._archives, self._purges = archives, purges
        self._sweep_after_ms = sweep_after_ms
        self._deletions = Deletions(log, by)
        self._waiting = DeletedLog(log)
        self._records, self._waiting_records = ArchiveRecords(log), ArchiveRecords(self._waiting)
        self._side: SideKeys | None = None

    def refuse_held(self, channel: Channel) -> None:
        """Refuse a channel under legal hold if events of it would be removed for good.

        Raises:
            CommandFailed: it is under hold.
        """
        if self._archive is None or (self._archives and not self._purges):
            return
        if self._archive.policy.of(channel).is_held:
            told = f"{channel.wire} is under legal hold (HUB_RETENTION): it can be deleted only with all of it archived"
            raise CommandFailed(told)

    async def plan(self, channel: Channel) -> dict[str, Any] | None:
        """The things that a deletion would remove, and those that stay in the archive; None if there is nothing."""
        facts = await self._facts(channel)
        is_begun = await self._deletions.unfinished(channel) is not None
        side = await self._side_keys(channel.tenant)
        uploads, beside = await self._deletions.files(channel, side), side.of(channel)
        files = [one for one in uploads if one.state is not UploadState.FAILED]
        if facts is None and not files and not beside and not is_begun:
            return None
        found: dict[str, Any] = {"channel": channel.wire, "events": facts.seq if facts else 0}
        found |= {"bytes": await self._records.memory_bytes(channel), "keys": len(beside) + 2 * (facts is not None)}
        found |= {"files": len(files), "file_bytes": sum(one.size for one in files)}
        if self._archive is not None and facts is not None and facts.mark.number:
            folder = ChannelFolder(self._archive.objects, channel, facts.epoch)
            manifest = await folder.newest_manifest(facts.mark.number)
            segments = manifest.segments if manifest else ()
            found |= {"segments": len(segments), "segment_bytes": sum(one.bytes for one in segments)}
        return found | ({"is_begun": True} if is_begun else {})

    async def unfinished(self, tenant: str) -> list[Channel]:
        """The channels of a tenant whose deletion was cut off."""
        return [parse_channel(tenant, wire) for wire in (await self._side_keys(tenant)).unfinished]

    async def delete(self, channel: Channel) -> dict[str, Any]:
        """Delete a channel, or complete its deletion; returns what was done.

        Raises:
            CommandFailed: it is under legal hold.
            ArchiveDiffers, LogUnavailable: it is not deleted, or not completely; the next call completes it.
        """
        done = await self._end(channel)
        self._side = None  # files that were uploaded since the last scan must go, too
        return done or await self._complete(channel)

    async def delete_several(self, channels: Sequence[Channel]) -> AsyncIterator[dict[str, Any]]:
        """Delete channels of one tenant, as `delete` does. All of them end first, then one scan finds their files."""
        ended = [(channel, await self._end(channel)) for channel in channels]
        self._side = None
        settled = [(channel, done, None if done else await self._settle(channel)) for channel, done in ended]
        await self.archive_records(channels[0].tenant)
        for channel, done, made in settled:
            if made is not None:
                await self._deletions.forget(channel)
            yield done or made or _nothing(channel)

    async def _end(self, channel: Channel) -> dict[str, Any] | None:
        """Archive a channel and end its life; returns what was done if nothing is left to complete."""
        self.refuse_held(channel)
        done: dict[str, Any] | None = None
        if await self._deletions.unfinished(channel) is not None:
            done = await self._complete(channel)
        found = await self._side_keys(channel.tenant)
        facts, side = await self._facts(channel), found.of(channel)
        if facts is None or not facts.seq:  # nothing was written, or not since it was deleted
            uploads = await self._deletions.files(channel, found)
            await self._deletions.end_life(channel, side, uploads)
            files = await self._drop_files(uploads)
            return done or {"channel": channel.wire, "events": 0, "files": files}
        if self._archives:
            await self._keeper(self._log).archive_whole(channel, trims=False)
        await self._deletions.end_life(channel, side, await self._deletions.files(channel, found))
        return None

    async def give_back(self, tenant: str) -> None:
        """Give a tenant whose channels are all deleted back what they counted in the quota."""
        await self._deletions.give_back(tenant)

    async def archive_records(self, tenant: str) -> None:
        """Archive the records of the tenant's deletions, so that a restore from the archive leaves these channels out."""
        if self._archive is not None:
            await self._keeper(self._log).archive_whole(deletions_of(tenant), trims=False)

    async def _complete(self, channel: Channel) -> dict[str, Any]:
        done = await self._settle(channel)
        if done is None:
            return _nothing(channel)
        await self.archive_records(channel.tenant)
        await self._deletions.forget(channel)
        return done

    async def _settle(self, channel: Channel) -> dict[str, Any] | None:
        """Do and record all of a deletion but its end; None if another command has completed it.

        It ends once the record is archived, too: else a restore from the archive would bring the channel back.
        """
        deletion = await self._deletions.unfinished(channel)
        if deletion is None:
            return None
        await self._deletions.drop_parked(channel)
        files = await self._drop_files([
            one for one in await self._deletions.files(channel, await self._side_keys(channel.tenant))
            if is_of_deleted(one, deletion)
        ])  # fmt: skip # one list
        if self._archives:
            await self._keeper(self._waiting).archive_whole(channel, trims=True)
        facts = await self._waiting_records.facts(channel)
        archived_to = facts.mark.upto.seq if isinstance(facts, ChannelFacts) else 0
        if self._purges and isinstance(facts, ChannelFacts) and self._archive is not None:
            await self._keeper(self._waiting).remove_whole(facts)
        told = {"archived_to": archived_to, "is_purged": self._purges, "files": files}
        await self._deletions.record(channel, deletion, told)
        return {"channel": channel.wire, "events": deletion.seq, **told}

    async def _facts(self, channel: Channel) -> ChannelFacts | None:
        facts = await self._records.facts(channel)
        if isinstance(facts, DamagedFacts):
            raise ArchiveDiffers(f"the record of {channel.wire} in Redis (the meta hash) is damaged")
        return facts

    async def _side_keys(self, tenant: str) -> SideKeys:
        if self._side is None:
            self._side = await self._deletions.side_keys(tenant)
        return self._side

    def _keeper(self, log: Log | DeletedLog) -> Keeper:
        if self._archive is None:
            raise CommandFailed("there is no archive (HUB_RETENTION begins one); --without-archive deletes without it")
        return keeper_of(log, self._archive)

    async def _drop_files(self, uploads: Sequence[UploadRecord]) -> int:
        """Remove the bytes of files and of uploads in progress; returns the number of files that were ready."""
        for upload in uploads:
            ended = upload if await self._deletions.fail(upload) else replace(upload, state=UploadState.READY)
            for pending in await self._files.pending(upload.key):
                await self._files.abort(pending.key, pending.handle)
            await self._files.delete(upload.key)
            await self._deletions.drop_file(ended, self._sweep_after_ms)
        return sum(upload.state is UploadState.READY for upload in uploads)


def _nothing(channel: Channel) -> dict[str, Any]:
    return {"channel": channel.wire, "events": 0}
