"""A witness: cosigns a hub's checkpoints, each only if it continues the one that was cosigned before.

Another party runs it, under an account and a folder of its own, with read access to the archive. It keeps what it has signed,
so that a log that was forked or rolled back is refused, even if whoever did it has Redis, the archive and the hub's key.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

from streams.archive.heads import HeadLog
from streams.archive.merkle import is_consistent
from streams.archive.notes import Checkpoint, NoteRefused, PublicKey, Signer, open_checkpoint
from streams.archive.objects import ArchiveObjects
from streams.archive.proofs import consistency_path
from streams.errors import ArchiveDiffers
from streams.times import rfc3339

_KEY: Final = "witness.key"
_NEWEST: Final = "newest"


class CosigningRefused(Exception):
    """A checkpoint does not continue the one that was cosigned before; the text says why. It is kept as evidence."""


class Witnessed(NamedTuple):
    """A cosigned checkpoint, and true if it was cosigned only now."""

    checkpoint: Checkpoint
    is_new: bool


def witness_signer(folder: Path, name: str) -> Signer:
    """The witness's key in its folder, made on first use."""
    folder.mkdir(parents=True, exist_ok=True)
    with suppress(FileExistsError):
        descriptor = os.open(folder / _KEY, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(f"{Signer(name, secrets.token_bytes(32))}\n")
    return Signer.parse((folder / _KEY).read_text(), is_witness=True)


class Witness:
    """A witness of one tenant's log.

    Args:
        objects: the archive, which is only read.
        tenant: the tenant.
        keys: the keys of the hub.
        signer: the witness's own.
        folder: the witness's own folder; it holds every checkpoint that was cosigned.
    """

    def __init__(
        self, objects: ArchiveObjects, tenant: str, keys: Sequence[PublicKey], signer: Signer, folder: Path
    ) -> None:
        self._log = HeadLog(objects, tenant, "")
        self._keys, self._signer = keys, signer
        self._folder = folder / tenant
        self._folder.mkdir(parents=True, exist_ok=True)

    @property
    def newest(self) -> Checkpoint | None:
        """The newest checkpoint that was cosigned; None if there is none.

        Raises:
            CosigningRefused: the witness's own record is damaged, or lost.
        """
        path = self._folder / _NEWEST
        if not path.exists():
            cosigned = sorted(one.name for one in self._folder.iterdir() if one.name.isdecimal())
            if cosigned:
                told = f"{path} is gone, but {len(cosigned)} checkpoints were cosigned"
                raise CosigningRefused(f"{told}: look who removed it, then copy {cosigned[-1]} to {_NEWEST}")
            return None
        try:
            return open_checkpoint(path.read_bytes(), [self._signer.public]).checkpoint
        except NoteRefused as error:
            raise CosigningRefused(f"{path} is not what this witness has written: {error}") from error

    async def look(self, now_s: int) -> Witnessed | None:
        """Cosign the newest checkpoint of the archive; None if there is none yet.

        Raises:
            CosigningRefused: it does not continue what was cosigned, or the witness has lost its own record.
            ArchiveUnavailable: the archive cannot be read.
        """
        number = await self._log.checkpoint_count()
        before = self.newest
        note = await self._log.checkpoint(number) if number else None
        if note is None:
            if before is not None:
                raise CosigningRefused(f"the archive has no checkpoint any more; {before.size} heads were cosigned")
            return None
        try:
            checkpoint = open_checkpoint(note, self._keys).checkpoint
        except NoteRefused as error:
            raise self._refused(note, f"checkpoint {number} cannot be trusted: {error}") from error
        if before is not None:
            await self._require_continued(before, checkpoint, note)
            if before == checkpoint:
                return Witnessed(checkpoint, is_new=False)
        text = note.partition(b"\n\n")[0] + b"\n"
        self._keep(checkpoint, note + self._signer.sign(text, now_s))
        return Witnessed(checkpoint, is_new=True)

    async def _require_continued(self, before: Checkpoint, now: Checkpoint, note: bytes) -> None:
        if now.origin != before.origin:
            raise self._refused(note, f"the log is called {now.origin}, not {before.origin}")
        if now.size < before.size:
            raise self._refused(note, f"the log was rolled back: it has {now.size} heads, {before.size} were cosigned")
        try:
            path = await consistency_path(self._log.tree, before.size, now.size) if before.size != now.size else []
        except (ArchiveDiffers, ValueError) as error:
            raise self._refused(note, f"nothing proves that it continues the cosigned one: {error}") from error
        if not is_consistent(before.size, now.size, path, before.root, now.root):
            raise self._refused(note, f"the log was forked: its first {before.size} heads are not the cosigned ones")
        if now.time_s < before.time_s or (now.size == before.size and now != before):
            told = (
                f"it is dated {rfc3339(now.time_s * 1000)}, the one that was cosigned {rfc3339(before.time_s * 1000)}"
            )
            raise self._refused(note, f"{told}: a clock was set back, or the checkpoint was written anew")

    def _refused(self, note: bytes, why: str) -> CosigningRefused:
        (self._folder / "refused").write_bytes(note)
        return CosigningRefused(why)

    def _keep(self, checkpoint: Checkpoint, note: bytes) -> None:
        """Store a cosigned checkpoint under its size, and as the newest; a crash leaves the one before."""
        (self._folder / f"{checkpoint.size:012}").write_bytes(note)
        draft = self._folder / f"{_NEWEST}.draft"
        with draft.open("wb") as file:
            file.write(note)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(self._folder / _NEWEST)
