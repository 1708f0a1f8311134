"""Opens what an auditor's commands read: keys, the archive with its log of heads, and the source of the histories."""

from __future__ import annotations

import os
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from hub.config import Settings
from hub.storage.choice import audit_key_path, make_key, reading_archive, retire_audit_keys, rotate_audit_key
from ops.cli.failure import EXIT_USAGE, CommandFailed
from ops.cli.log_access import archive_at, stored_log_at
from streams.archive.notes import NoteRefused, PublicKey, Signer
from streams.audit.archive_check import HeadRecord, read_heads
from streams.audit.channel_check import ArchiveEvidence
from streams.audit.sources import ArchivedHistories, HistorySource, LoggedHistories

if TYPE_CHECKING:
    from cryptography.x509 import Certificate


def keys_of(given: list[str], data: Path) -> list[PublicKey]:
    """The keys given, or those of the hub on this data folder, former ones included; none if there is no such key.

    Raises:
        CommandFailed: one of them is no key.
    """
    try:
        if given:
            return [PublicKey.parse(line) for text in given for line in text.split()]
        path = audit_key_path(_settings(data))
        return list(Signer.parse(path.read_text()).publics) if path.exists() else []
    except NoteRefused as error:
        raise CommandFailed(str(error), EXIT_USAGE if given else 1) from error


@asynccontextmanager
async def evidence_at(
    data: Path, tenant: str, keys: list[PublicKey], known: list[bytes], *, is_full: bool, tsa_ca: Path | None = None
) -> AsyncIterator[ArchiveEvidence | None]:
    """Open the archive, with the tenant's log of heads verified; None if there is no archive.

    With `tsa_ca`, a file of certificates, the stamps are verified, too.

    Raises:
        CommandFailed: there is none, but something is to be held against it; or the file has no certificates.
    """
    authorities = authorities_in(tsa_ca)
    async with archive_at(data) as archive:
        if archive is None:
            if known or authorities:
                raise CommandFailed(f"there is no archive in {data} to hold against it; see --data and S3_BUCKET")
            yield None
            return
        again = partial(read_heads, archive, tenant, keys, known)
        stamps = None
        if authorities:
            from streams.audit.stamp_check import read_stamps

            stamps = await read_stamps(archive, tenant, authorities, is_full=is_full)
        yield ArchiveEvidence(archive, await again(is_full=is_full), again, stamps)


def authorities_in(file: Path | None) -> Sequence[Certificate]:
    """The certificates of time-stamping authorities in a file; none without one.

    Raises:
        CommandFailed: it has none, or the package that reads stamps is not installed.
    """
    if file is None:
        return ()
    try:
        from streams.archive.stamps import read_authorities

        return read_authorities(file.read_bytes())
    except ImportError as missing:
        raise CommandFailed("--tsa-ca needs pip install 'realtime-hub[audit]'", EXIT_USAGE) from missing
    except (OSError, ValueError) as error:
        raise CommandFailed(f"{file} has no certificates in PEM form: {error}", EXIT_USAGE) from error


@asynccontextmanager
async def source_at(
    redis: str, data: Path, tenant: str, *, is_archive_only: bool, opens: bool = False
) -> AsyncIterator[HistorySource]:
    """Open the histories of a tenant; `opens` opens sealed payloads of a log, if there is a store of their keys.

    Raises:
        CommandFailed: there is no log, or no archive where only that is read.
    """
    async with reading_archive(_settings(data)) as (archive, cold):
        if is_archive_only:
            if archive is None or cold is None:
                raise no_archive(data)
            yield ArchivedHistories(archive, cold, await read_heads(archive, tenant, ()))
            return
        async with stored_log_at(redis, data, opens=opens) as log:
            heads = await read_heads(archive, tenant, ()) if archive else HeadRecord()
            yield LoggedHistories(log, archive, heads)


def signer_at(file: Path | None, data: Path) -> Signer:
    """The signer of a key file; without one, that of the hub on this data folder.

    Raises:
        CommandFailed: there is no key.
    """
    path = file or audit_key_path(_settings(data))
    try:
        return Signer.parse(path.read_text())
    except FileNotFoundError as missing:
        told = f"there is no key in {path} to sign with: `hub audit key --new FILE` makes one for --signer"
        raise CommandFailed(told, EXIT_USAGE) from missing
    except NoteRefused as error:
        raise CommandFailed(f"{path}: {error}", EXIT_USAGE) from error


def changed_keys(data: Path, *, is_rotating: bool) -> list[PublicKey]:
    """Rotate the hub's key, or retire the former ones; returns the public keys.

    Raises:
        CommandFailed: there is no key yet, or the file holds something else.
    """
    settings = _settings(data)
    try:
        signer = rotate_audit_key(settings) if is_rotating else retire_audit_keys(settings)
    except FileNotFoundError as missing:
        raise CommandFailed("there is no key yet: a worker makes it when HUB_RETENTION is set") from missing
    except NoteRefused as error:
        raise CommandFailed(f"{audit_key_path(settings)}: {error}") from error
    return list(signer.publics)


def made_key(path: Path, name: str) -> list[PublicKey]:
    """Make a key in a file; returns its public key.

    Raises:
        CommandFailed: the file exists, or the name cannot be that of a key.
    """
    if not re.fullmatch(r"[^\s+]{1,64}", name):
        raise CommandFailed("--name must be 1 to 64 characters without spaces and +", EXIT_USAGE)
    if not make_key(path, name):
        raise CommandFailed(f"{path} exists already; nothing was changed", EXIT_USAGE)
    return [Signer.parse(path.read_text()).public]


def _settings(data: Path) -> Settings:
    return replace(Settings.from_env(os.environ), data_dir=str(data), retention=None)


def no_archive(data: Path) -> CommandFailed:
    """The error for a place without an archive."""
    return CommandFailed(f"there is no archive in {data}; see --data and S3_BUCKET")
