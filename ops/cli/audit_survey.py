"""Verifies the channels of a tenant, one after the other, and counts their events for a report."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from hub.config import Settings
from hub.storage.choice import reading_archive
from ops.cli.audit_access import evidence_at, no_archive
from ops.cli.audit_export import ExportProgress
from ops.cli.audit_report import ChannelReport, CheckpointReport, Period
from ops.cli.failure import CommandFailed
from ops.cli.log_access import stored_log_at
from streams.archive.heads import HeadLog
from streams.archive.notes import NoteRefused, Opened, PublicKey, open_checkpoint
from streams.audit.channel_check import ArchiveEvidence, Audit, recorded_deletions, verify_archive, verify_log
from streams.audit.deletion_records import DeletionRecords
from streams.audit.sources import ArchivedHistories, HistorySource, LoggedHistories
from streams.channel import Channel
from streams.cursor import ms_of_id
from streams.redis.stored import StoredLog
from streams.times import rfc3339


@dataclass(frozen=True, slots=True)
class Survey:
    """The log, or the archive alone, with the evidence of the archive, as an audit reads them.

    Attributes:
        source: reads the histories.
        evidence: the archive and the log of heads as it was verified; None if there is no archive.
        log: None where the archive alone is read.
        deletions: the tenant's deletions on record.
    """

    tenant: str
    source: HistorySource
    evidence: ArchiveEvidence | None
    log: StoredLog | None
    deletions: DeletionRecords

    async def channels(self) -> list[Channel]:
        """All channels of the tenant: those of the directory and those of the log of heads.

        Raises:
            CommandFailed: there is none.
        """
        found = [one.channel async for one in self.source.channels(self.tenant)]
        if not found:
            raise CommandFailed(f"tenant {self.tenant} has no channels")
        return sorted(found)

    async def verify(self, channel: Channel) -> Audit:
        """Audit a channel.

        Raises:
            ChannelUnverified: nothing knows it, or it was trimmed during every attempt.
        """
        if self.log is not None:
            return await verify_log(self.log, channel, self.evidence, self.deletions)
        assert self.evidence is not None  # noqa: S101 - without a log there is an archive, and so evidence
        return await verify_archive(channel, self.evidence, self.deletions)

    async def told_source(self) -> str:
        """The words about what was read."""
        if self.log is not None:
            return "Redis and the archive" if self.evidence else "Redis"
        count = await self.deletions.count()
        deletions = f"{count or 'no'} deletion is" if count <= 1 else f"{count:,} deletions are"
        return f"the archive alone: what came after its newest checkpoint is not known; {deletions} on record there"

    @property
    def log_faults(self) -> Sequence[str]:
        """The faults of the log of heads and of the stamps."""
        return self.evidence.faults if self.evidence else ()


@asynccontextmanager
async def survey_at(
    redis: str, data: Path, tenant: str, keys: list[PublicKey], known: list[bytes], *, is_full: bool,
    is_archive_only: bool, tsa_ca: Path | None = None,
) -> AsyncIterator[Survey]:  # fmt: skip # its arguments in two groups
    """Open what an audit reads; `is_full` compares every checkpoint, `tsa_ca` the stamps.

    Raises:
        CommandFailed: there is no log, or no archive where that is needed.
    """
    settings = replace(Settings.from_env(os.environ), data_dir=str(data), retention=None)
    async with evidence_at(data, tenant, keys, known, is_full=is_full, tsa_ca=tsa_ca) as evidence:
        if not is_archive_only:
            async with stored_log_at(redis, data) as log:
                heads = evidence.record if evidence else None
                source = LoggedHistories(log, evidence.objects if evidence else None, heads)
                yield Survey(tenant, source, evidence, log, recorded_deletions(log, tenant, evidence))
            return
        async with reading_archive(settings) as (_, cold):
            if evidence is None or cold is None:
                raise no_archive(data)
            alone = ArchivedHistories(evidence.objects, cold, evidence.record)
            yield Survey(tenant, alone, evidence, None, recorded_deletions(None, tenant, evidence))


async def report_channels(survey: Survey, channels: Sequence[Channel], period: Period) -> list[ChannelReport]:
    """Verify channels, and count their events in a period."""
    found, progress, count = [], ExportProgress("read", len(channels)), 0
    for at, channel in enumerate(channels):
        report = ChannelReport(channel, await survey.verify(channel))
        after = period.after
        while page := await survey.source.page(channel, after, period.upto):
            for entry in page:
                report.types["(damaged)" if entry.is_damaged else entry.type.decode()] += 1
                count += 1
                progress.show(count, at)
            report.first = report.first or rfc3339(ms_of_id(page[0].id))
            report.last = rfc3339(ms_of_id(page[-1].id))
            after = page[-1].id.decode()
        found.append(report)
    return found


async def report_checkpoints(
    survey: Survey, period: Period, known: list[bytes], keys: list[PublicKey]
) -> CheckpointReport:
    """The checkpoints of the tenant, those of a period, and those that were kept elsewhere."""
    if survey.evidence is None or survey.evidence.record.checkpoint is None:
        return CheckpointReport()
    record, log = survey.evidence.record, HeadLog(survey.evidence.objects, survey.tenant, "")
    first = await log.number_before(-(-period.begin_ms // 1_000), record.count) + 1 if period.begin_ms else 1
    last = await log.number_before(-(-period.end_ms // 1_000), record.count) if period.end_ms else record.count
    newest = Opened(record.checkpoint, record.signers) if record.checkpoint else None
    opened = []
    for note in known:
        try:
            opened.append(open_checkpoint(note, keys))
        except NoteRefused:  # it is among the faults of the log of heads
            continue
    stamps = survey.evidence.stamps.told if survey.evidence.stamps else ""
    return CheckpointReport(record.count, (first, last) if first <= last else None, newest, tuple(opened), stamps)
