"""Opens what an auditor's commands read: keys, the archive with its log of heads, and the source of the histories."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

from hub.config import Settings
from hub.storage.choice import audit_key_path, reading_archive
from ops.cli.failure import EXIT_USAGE, CommandFailed
from ops.cli.log_access import archive_at, stored_log_at
from streams.archive.notes import NoteRefused, PublicKey, Signer
from streams.audit.archive_check import HeadRecord, read_heads
from streams.audit.channel_check import ArchiveEvidence
from streams.audit.sources import ArchivedHistories, HistorySource, LoggedHistories


def keys_of(given: list[str], data: Path) -> list[PublicKey]:
    """The keys given, or the one of the hub on this data folder; none if there is no such key.

    Raises:
        CommandFailed: one of them is no key.
    """
    try:
        if given:
            return [PublicKey.parse(text) for text in given]
        path = audit_key_path(replace(Settings.from_env(os.environ), data_dir=str(data)))
        return [Signer.parse(path.read_text()).public] if path.exists() else []
    except NoteRefused as error:
        raise CommandFailed(str(error), EXIT_USAGE if given else 1) from error


@asynccontextmanager
async def evidence_at(
    data: Path, tenant: str, keys: list[PublicKey], known: list[bytes], *, is_full: bool
) -> AsyncIterator[ArchiveEvidence | None]:
    """Open the archive, with the tenant's log of heads verified; None if there is no archive.

    Raises:
        CommandFailed: there is none, but a checkpoint was kept elsewhere.
    """
    async with archive_at(data) as archive:
        if archive is None:
            if known:
                raise CommandFailed(f"there is no archive in {data} to hold against it; see --data and S3_BUCKET")
            yield None
            return
        again = partial(read_heads, archive, tenant, keys, known)
        yield ArchiveEvidence(archive, await again(is_full=is_full), again)


@asynccontextmanager
async def source_at(redis: str, data: Path, tenant: str, *, is_archive_only: bool) -> AsyncIterator[HistorySource]:
    """Open the histories of a tenant.

    Raises:
        CommandFailed: there is no log, or no archive where only that is read.
    """
    settings = replace(Settings.from_env(os.environ), data_dir=str(data), retention=None)
    async with reading_archive(settings) as (archive, cold):
        if is_archive_only:
            if archive is None or cold is None:
                raise no_archive(data)
            yield ArchivedHistories(archive, cold, await read_heads(archive, tenant, ()))
            return
        async with stored_log_at(redis, data) as log:
            heads = await read_heads(archive, tenant, ()) if archive else HeadRecord()
            yield LoggedHistories(log, archive, heads)


def no_archive(data: Path) -> CommandFailed:
    """The error for a place without an archive."""
    return CommandFailed(f"there is no archive in {data}; see --data and S3_BUCKET")
