"""The layout of the local store's folder: objects and parts on disk. Blocking; signatures are checked elsewhere.

    objects/<tenant>/<name>/       one object: its parts as files and `manifest.json`; it appears complete, by one rename
    uploads/<handle>/              a multipart upload: `upload.json` and the parts stored so far
    spool/                         files being received

A part is a file `<number>-<digest>`. As the name contains the checksum, a part and its digest become visible
together. An object is made from its parts by renaming their folder: finishing 5 GiB copies nothing.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Final

from hub.storage.store import (
    AlreadyStored,
    BadContent,
    NewObject,
    PendingUpload,
    StoredObject,
    StoredPart,
    UploadGone,
    composite,
    encode_digest,
)

PART_MIN_BYTES: Final = 5 * 1024 * 1024
"""S3's minimum size of every part except the last; required here too, so that what works locally works on S3."""
READ_BYTES: Final = 1024 * 1024
SPOOL_LIFE_S: Final = 86_400
_MANIFEST: Final = "manifest.json"
_PART: Final = re.compile(r"\d{5,}-[A-Za-z0-9_=-]+")
_UPLOAD: Final = "upload.json"


def digest_file(path: Path) -> str:
    """Returns the SHA-256 of a file."""
    digest = sha256()
    with path.open("rb") as file:
        while piece := file.read(READ_BYTES):
            digest.update(piece)
    return encode_digest(digest.digest())


def sync_folder(path: Path) -> None:
    """Makes renames into this folder survive a power failure (fsync(2): a folder's entries are its content)."""
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _sync_file(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _part_name(n: int, sha256_b64: str) -> str:
    return f"{n:05}-{sha256_b64.replace('/', '_').replace('+', '-')}"


def _part_of(path: Path) -> StoredPart:
    n, _, digest = path.name.partition("-")
    return StoredPart(int(n), path.stat().st_size, digest.replace("_", "/").replace("-", "+"), path.name)


class LocalFiles:
    """The folder of the store. Several processes may share it: everything becomes visible by a rename."""

    def __init__(self, root: Path) -> None:
        self.spool = root / "spool"
        self._objects = root / "objects"
        self._uploads = root / "uploads"
        for folder in (self.spool, self._objects, self._uploads):
            folder.mkdir(parents=True, exist_ok=True)
            folder.chmod(0o700)  # keeps other local accounts out, even if an operator created the folder above
        self._sweep_spool()

    def _sweep_spool(self) -> None:
        """Removes spooled files that killed processes left behind: those not written to for a day."""
        for path in self.spool.iterdir():
            with suppress(FileNotFoundError):
                if time.time() - path.stat().st_mtime > SPOOL_LIFE_S:
                    shutil.rmtree(path) if path.is_dir() else path.unlink()

    def _object(self, key: str) -> Path:
        """Returns the folder of an object, after checking that the key does not lead out of the store."""
        path = (self._objects / key).resolve()
        if not path.is_relative_to(self._objects.resolve()) or path == self._objects.resolve():
            raise BadContent("a key must stay inside the store")
        return path

    def _upload(self, key: str, handle: str) -> Path:
        path = self._uploads / handle
        if not handle.isalnum() or not path.is_dir() or json.loads((path / _UPLOAD).read_bytes())["key"] != key:
            raise UploadGone("no such upload")
        return path

    def begin(self, key: str, mime: str) -> str:
        """Starts a multipart upload; returns its handle."""
        self._object(key)
        handle = secrets.token_hex(16)
        draft = self.spool / handle
        draft.mkdir()
        (draft / _UPLOAD).write_text(json.dumps({"key": key, "mime": mime}))
        draft.rename(self._uploads / handle)
        sync_folder(self._uploads)
        return handle

    def has_upload(self, key: str, handle: str) -> None:
        """Raises UploadGone unless the upload is open."""
        self._upload(key, handle)

    def keep_part(self, key: str, handle: str, part: StoredPart, source: Path) -> StoredPart:
        """Moves a file in as a part. `part.sha256`, if given, is compared with the file's own digest."""
        digest = _matching_digest(source, part.size, part.sha256)
        folder = self._upload(key, handle)
        _sync_file(source)
        target = folder / _part_name(part.n, digest)
        try:
            source.replace(target)
        except FileNotFoundError as error:
            raise UploadGone("the upload ended while the part was arriving") from error
        for older in folder.glob(f"{part.n:05}-*"):
            if older != target:
                older.unlink(missing_ok=True)
        sync_folder(folder)
        return StoredPart(part.n, part.size, digest, target.name)

    def parts(self, key: str, handle: str) -> list[StoredPart]:
        """Returns the stored parts, by number."""
        return sorted(_parts_in(self._upload(key, handle)), key=lambda part: part.n)

    def finish(self, key: str, handle: str, parts: Sequence[StoredPart]) -> None:
        """Turns an upload into an object by renaming its folder; rename(2) never replaces a folder that is not empty."""
        folder = self._upload(key, handle)
        stored = {part.tag: part for part in _parts_in(folder)}
        numbers = [part.n for part in parts]
        if not parts or numbers != sorted(set(numbers)) or any(stored.get(part.tag) != part for part in parts):
            raise BadContent("the parts do not match the stored ones")
        if any(part.size < PART_MIN_BYTES for part in parts[:-1]):
            raise BadContent("every part except the last needs at least 5 MiB")
        for name in stored.keys() - {part.tag for part in parts}:
            (folder / name).unlink()
        mime = json.loads((folder / _UPLOAD).read_bytes())["mime"]
        self._publish(key, folder, mime, {"composite": composite([part.sha256 or "" for part in parts])})

    def abort(self, key: str, handle: str) -> None:
        """Removes an upload. Its folder is renamed first, so that a part still arriving does not find it."""
        with suppress(UploadGone):
            folder = self._upload(key, handle)
            doomed = self.spool / f"{handle}.dropped"
            folder.rename(doomed)
            shutil.rmtree(doomed)

    def pending(self, prefix: str) -> list[PendingUpload]:
        """Returns open uploads whose key has this prefix."""
        found = []
        for folder in self._uploads.iterdir():
            with suppress(FileNotFoundError):
                key = json.loads((folder / _UPLOAD).read_bytes())["key"]
                if key.startswith(prefix):
                    found.append(PendingUpload(key, folder.name))
        return sorted(found, key=lambda pending: (pending.key, pending.handle))

    def put(self, new: NewObject, source: Path) -> str:
        """Moves a file in as an object; returns its digest."""
        self._object(new.key)
        digest = _matching_digest(source, new.size, new.sha256)
        _sync_file(source)
        folder = self.spool / f"{secrets.token_hex(16)}.put"
        folder.mkdir()
        source.replace(folder / _part_name(1, digest))
        try:
            self._publish(new.key, folder, new.mime, {"sha256": digest})
        except AlreadyStored:
            shutil.rmtree(folder)
            raise
        return digest

    def _publish(self, key: str, folder: Path, mime: str, checksums: dict[str, str]) -> None:
        (folder / _MANIFEST).write_text(json.dumps({"mime": mime, **checksums}))
        _sync_file(folder / _MANIFEST)
        target = self._object(key)
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            folder.rename(target)
        except OSError as error:
            if not target.is_dir():
                raise
            raise AlreadyStored("objects are never overwritten") from error
        sync_folder(target.parent)

    def look(self, key: str) -> StoredObject | None:
        """Describes the object under the key; sizes are those on disk, not the announced ones."""
        manifest = self._manifest(key)
        if manifest is None:
            return None
        size = sum(path.stat().st_size for path in self._part_paths(key))
        return StoredObject(size, manifest.get("sha256"), manifest.get("composite"))

    def _manifest(self, key: str) -> dict[str, str] | None:
        """Returns the object's manifest, or None if there is no such object."""
        try:
            manifest: dict[str, str] = json.loads((self._object(key) / _MANIFEST).read_bytes())
        except FileNotFoundError:
            return None
        return manifest

    def _part_paths(self, key: str) -> list[Path]:
        return sorted(path for path in self._object(key).iterdir() if _PART.fullmatch(path.name))

    def read(self, key: str, start: int, size: int | None) -> Iterator[bytes]:
        """Yields the bytes from `start`, at most `size`, in pieces."""
        if self._manifest(key) is None:
            return
        left = float("inf") if size is None else size
        for path in self._part_paths(key):
            length = path.stat().st_size
            if start >= length:
                start -= length
                continue
            with path.open("rb") as file:
                file.seek(start)
                start = 0
                while left > 0 and (piece := file.read(int(min(READ_BYTES, left)))):
                    left -= len(piece)
                    yield piece

    def delete(self, key: str) -> None:
        """Removes an object. It is renamed first, so that no reader sees half of it."""
        doomed = self.spool / f"{secrets.token_hex(16)}.dropped"
        with suppress(FileNotFoundError):
            self._object(key).rename(doomed)
            shutil.rmtree(doomed)

    def keys(self, prefix: str, after: str) -> list[str]:
        """Returns the keys with this prefix that follow `after`, sorted. Folders without such keys are not looked into."""
        parent, found = "".join(prefix.rpartition("/")[:2]), list[str]()
        folder = self._objects / parent
        if not folder.is_dir():
            return []
        with os.scandir(folder) as children:
            for child in children:
                name = parent + child.name
                if name.startswith(prefix[: len(name)]) and (name >= after or after.startswith(name)):
                    inner = Path(child.path).rglob(_MANIFEST)
                    found += (str(path.parent.relative_to(self._objects)) for path in inner)
        return sorted(name for name in found if name.startswith(prefix) and name > after)


def _parts_in(folder: Path) -> list[StoredPart]:
    """Returns the newest file of each part; a crash between a rename and the removal of the old file leaves two.

    Files that the hub did not write, such as those of a file manager, are passed over.
    """
    parts = (path for path in folder.iterdir() if _PART.fullmatch(path.name))
    paths = sorted(parts, key=lambda path: path.stat().st_mtime_ns)
    return list({part.n: part for part in map(_part_of, paths)}.values())


def _matching_digest(source: Path, size: int, expected: str | None) -> str:
    if source.stat().st_size != size:
        raise BadContent("the size is not the one announced")
    digest = digest_file(source)
    if expected is not None and digest != expected:
        raise BadContent("the checksum is not the one announced")
    return digest
