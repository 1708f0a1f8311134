"""Opens the object store that the settings select."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from hub.config import Settings
from hub.storage.archive import StoreArchive
from hub.storage.local import LocalStore
from hub.storage.store import ObjectStore
from streams.archive.cold import ColdReader
from streams.archive.notes import Signer
from streams.events import CATALOGUE
from streams.events.custom import ANY_OWN, OwnEvents
from streams.sealing.keys import KeyFolder
from streams.sealing.sealed import NOTHING_SEALED
from streams.sealing.seals import Seals

_PATH_STYLE: Final = {"auto": None, "yes": True, "no": False}


def open_store(settings: Settings) -> ObjectStore:
    """Opens S3 if a bucket is configured, else the folder `files` of the data directory."""
    if settings.s3_bucket is None:
        return LocalStore(Path(settings.data_dir) / "files", time.time)
    from hub.storage.s3 import S3Settings, S3Store  # boto3 takes half a second to import

    region, is_path_style = settings.s3_region or "us-east-1", _PATH_STYLE[settings.s3_path_style]
    return S3Store(S3Settings(settings.s3_bucket, region, settings.s3_endpoint_url, is_path_style))


AUDIT_NAME: Final = "hub"
"""Name of a key that is made here, and the beginning of the origin of its checkpoints."""
ARCHIVE_PREFIX: Final = "archive.v1/"
"""The archive's prefix in a bucket that it shares with uploads; no tenant's name has a dot."""


def open_archive(settings: Settings) -> StoreArchive | None:
    """Opens the archive, in the bucket or the folder `archive` of the data directory.

    Returns None if there is none: it is begun with HUB_RETENTION, and is read for ever.
    """
    if settings.s3_bucket is not None:
        return StoreArchive(open_store(settings), ARCHIVE_PREFIX, settings.archive_lock)
    folder = Path(settings.data_dir) / "archive"
    if settings.retention is None and not folder.is_dir():
        return None
    return StoreArchive(LocalStore(folder, time.time))


@asynccontextmanager
async def reading_archive(settings: Settings) -> AsyncIterator[tuple[StoreArchive | None, ColdReader | None]]:
    """Opens the archive, if there is one, with a reader of its events; closes both on exit."""
    archive = open_archive(settings)
    if archive is None:
        yield None, None
        return
    cold = ColdReader(archive)
    try:
        yield archive, cold
    finally:
        await cold.close()
        await archive.close()


def open_seals(settings: Settings, own_events: OwnEvents = ANY_OWN) -> Seals | None:
    """Opens what seals payloads and opens them again; None without HUB_SUBJECT_KEYS."""
    if settings.subject_keys is None:
        return None

    def personal(name: str) -> tuple[str, ...] | None:
        row = CATALOGUE.get(name) or own_events.find(name)
        return () if row is None else row.personal

    return Seals(KeyFolder(Path(settings.subject_keys)), settings.sealed or NOTHING_SEALED, personal)


def audit_key_path(settings: Settings) -> Path:
    """Returns the file of the key that signs checkpoints."""
    return Path(settings.audit_key) if settings.audit_key else Path(settings.data_dir) / "audit.key"


def audit_signer(settings: Settings) -> Signer:
    """Returns the signer of checkpoints; its key is made on first use, readable by this account alone.

    Raises:
        NoteRefused: the file holds something else.
    """
    path = audit_key_path(settings)
    make_key(path, AUDIT_NAME)
    return Signer.parse(path.read_text())


def make_key(path: Path, name: str) -> bool:
    """Makes a key for signatures, readable by this account alone; returns False if the file exists, which then stays."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        _write_new(path, Signer(name, secrets.token_bytes(32)))
    except FileExistsError:
        return False
    return True


def rotate_audit_key(settings: Settings) -> Signer:
    """Puts a new key before the present one, which then signs too; returns the signer.

    Raises:
        FileNotFoundError: there is no key yet.
        NoteRefused: the file holds something else.
    """
    path = audit_key_path(settings)
    return _replace_key(path, Signer.parse(path.read_text()).rotated(secrets.token_bytes(32)))


def retire_audit_keys(settings: Settings) -> Signer:
    """Ends the signing by former keys, whose public keys stay in the file; returns the signer.

    Raises:
        FileNotFoundError, NoteRefused: as `rotate_audit_key`.
    """
    path = audit_key_path(settings)
    return _replace_key(path, Signer.parse(path.read_text()).alone())


def _replace_key(path: Path, signer: Signer) -> Signer:
    draft = path.with_name(f"{path.name}.new")
    draft.unlink(missing_ok=True)
    _write_new(draft, signer)
    draft.replace(path)
    return signer


def _write_new(path: Path, signer: Signer) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(signer.to_file())
        file.flush()
        os.fsync(file.fileno())
