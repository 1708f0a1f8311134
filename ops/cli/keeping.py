"""Opens the archive of a hub for commands that fill it, as the keeper in a worker does."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from hub.config import Settings
from hub.storage.choice import audit_key_path, audit_signer, open_archive
from ops.cli.failure import EXIT_USAGE, CommandFailed
from streams.archive.keeper import Keeper
from streams.archive.notes import Signer
from streams.archive.objects import ArchiveObjects
from streams.archive.retention import RetentionPolicy
from streams.records.archive import ArchivedLog

_INTERVAL_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class OwnArchive:
    """The archive of a hub, with the right to sign in its name.

    Attributes:
        policy: names the channels under legal hold.
        signer: signs the checkpoints.
    """

    objects: ArchiveObjects
    policy: RetentionPolicy
    signer: Signer


@asynccontextmanager
async def own_archive(data: Path, *, is_needed: bool) -> AsyncIterator[OwnArchive | None]:
    """Open the archive; None if there is none.

    Raises:
        CommandFailed: the settings are not those of the hub that keeps the archive, or there is none although it is needed.
    """
    settings = replace(Settings.from_env(os.environ), data_dir=str(data))
    archive, key = open_archive(settings), audit_key_path(settings)
    try:
        if archive is None or (settings.retention is None and not is_needed and not key.exists()):
            yield None  # or a bucket for files, without an archive
            return
        if settings.retention is None:
            raise CommandFailed("set HUB_RETENTION as the hub has it: a legal hold is named there", EXIT_USAGE)
        if not key.exists():
            told = f"the key that signs checkpoints is not at {key}: set HUB_AUDIT_KEY as the worker has it"
            raise CommandFailed(told)
        yield OwnArchive(archive, settings.retention, audit_signer(settings))
    finally:
        if archive is not None:
            await archive.close()


def keeper_of(log: ArchivedLog, archive: OwnArchive | None) -> Keeper:
    """A keeper of single channels.

    Raises:
        CommandFailed: there is no archive.
    """
    if archive is None:
        raise CommandFailed("there is no archive: HUB_RETENTION begins one")
    return Keeper(log, archive.objects, archive.policy, archive.signer, _INTERVAL_S)
