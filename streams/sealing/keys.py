"""The store of people's keys: the interface, and the implementation in a folder that all nodes and workers share.

The folder:

* `store`: the identity of the store, which the log remembers, so that a process with another folder does not start.
* `subjects/<xx>/<hash of tenant and user>/<n>`: the ID of the person's n-th key; all but the newest are destroyed.
* `keys/<xx>/<id>`: the key, 32 bytes; once it is destroyed, the text `destroyed` and the time.
* `destroyed`: a line for each destroyed key. Processes look at its length to learn that they must forget keys.

A file appears under its name complete and on disk, or not at all.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path
from typing import Final, Protocol

from streams.errors import ConfigurationRefused
from streams.sealing.sealed import KEY_BYTES, SubjectKey

LOST: Final = b""
"""Takes the place of a key that the store never had, or lost: not the same as a destroyed one."""
_ID_BYTES: Final = 12
_DESTROYED: Final = b"destroyed "


def subject_of(tenant: str, user: str) -> str:
    """The hash by which the store and the record of an erasure name a person."""
    return sha256(f"{tenant}\n{user}".encode()).hexdigest()


class KeyStore(Protocol):
    """Keeps a key for each person. Methods block, are called in threads, and raise OSError if the store does not answer."""

    def identity(self) -> str:
        """The identity of the store; a new store gets one."""
        ...

    def current(self, tenant: str, user: str) -> SubjectKey:
        """The person's key, which is made if there is none."""
        ...

    def read(self, ids: Iterable[str]) -> dict[str, bytes | None]:
        """The keys by ID: None for one that was destroyed, `LOST` for one that is not there."""
        ...

    def mark(self) -> int:
        """A number that grows whenever a key is destroyed."""
        ...


class KeyFolder:
    """Keeps the keys in a folder."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def identity(self) -> str:
        """The identity of the store; an empty folder gets one.

        Raises:
            ConfigurationRefused: the folder holds something else.
        """
        file = self._root / "store"
        if not file.exists():
            self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
            if any(self._root.iterdir()) and not file.exists():
                told = f"{self._root} is not empty, and is no store of subject keys; name another folder in HUB_SUBJECT_KEYS"
                raise ConfigurationRefused(told)
            self._create(file, secrets.token_hex(16).encode())
        return file.read_text().strip()

    def current(self, tenant: str, user: str) -> SubjectKey:
        """The person's key, which is made if there is none."""
        (self._root / "store").stat()  # a folder that is not mounted must not be filled
        number = 1
        while True:
            file = self._subject(tenant, user) / str(number)
            try:
                held = file.read_text()
            except FileNotFoundError:
                made = SubjectKey(secrets.token_hex(_ID_BYTES), secrets.token_bytes(KEY_BYTES))
                self._create(self._key(made.id), made.key)
                if self._create(file, made.id.encode()):
                    return made
                self._key(made.id).unlink()  # another process was first
                continue
            if key := self._read(held):
                return SubjectKey(held, key)
            number += 1

    def read(self, ids: Iterable[str]) -> dict[str, bytes | None]:
        """The keys by ID: None for one that was destroyed, `LOST` for one that is not there."""
        (self._root / "store").stat()  # a folder that is not mounted must not look like lost keys
        return {key_id: self._read(key_id) for key_id in ids}

    def mark(self) -> int:
        """The length of the list of destroyed keys."""
        (self._root / "store").stat()
        try:
            with (self._root / "destroyed").open("rb") as file:  # opened, because a network file system then looks anew
                return os.fstat(file.fileno()).st_size
        except FileNotFoundError:
            return 0

    def all_of(self, tenant: str, user: str) -> dict[str, bool]:
        """The IDs of the keys that the person ever had, oldest first: true for one that is not destroyed."""
        found: dict[str, bool] = {}
        with contextlib.suppress(FileNotFoundError):
            while True:
                key_id = (self._subject(tenant, user) / str(len(found) + 1)).read_text()
                found[key_id] = self._read(key_id) is not None
        return found

    def destroy(self, tenant: str, user: str, at: str) -> list[str]:
        """Destroy the person's key, and return the IDs of all keys that the person ever had.

        The key's bytes are overwritten before they are replaced; a file system or a disk may keep copies of its own. All
        processes are told, whether or not there was a key: an earlier call may have been cut off before.
        """
        ids = self.all_of(tenant, user)
        self.destroy_keys(ids, at)
        return list(ids)

    def destroy_keys(self, ids: Iterable[str], at: str) -> list[str]:
        """Destroy the keys with these IDs, as after a backup was restored; returns those that were there."""
        ids = list(ids)
        found = [key_id for key_id in ids if self._read(key_id)]
        for key_id in (one for one in ids if self._read(one) is not None):
            self._overwrite(self._key(key_id), _DESTROYED + at.encode())
        handle = os.open(self._root / "destroyed", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(handle, "".join(f"{key_id} {at}\n" for key_id in ids or ("none",)).encode())
            os.fsync(handle)
        finally:
            os.close(handle)
        return found

    def _overwrite(self, file: Path, content: bytes) -> None:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if file.exists():
            with file.open("r+b") as opened:
                opened.write(bytes(KEY_BYTES))
                opened.flush()
                os.fsync(opened.fileno())
        temporary = file.with_name(f".{secrets.token_hex(8)}")
        _write(temporary, content)
        temporary.replace(file)
        _sync(file.parent)

    def _read(self, key_id: str) -> bytes | None:
        if not (key_id.isalnum() and key_id.isascii()):
            return LOST
        try:
            held = self._key(key_id).read_bytes()
        except FileNotFoundError:
            return LOST
        if held.startswith(_DESTROYED) or not any(held):
            return None
        if len(held) != KEY_BYTES:
            return LOST
        return held

    def _subject(self, tenant: str, user: str) -> Path:
        subject = subject_of(tenant, user)
        return self._root / "subjects" / subject[:2] / subject

    def _key(self, key_id: str) -> Path:
        return self._root / "keys" / key_id[:2] / key_id

    def _create(self, file: Path, content: bytes) -> bool:
        """Create a file with its content; False if there is one of that name."""
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary = file.with_name(f".{secrets.token_hex(8)}")
        _write(temporary, content)
        try:
            os.link(temporary, file)
        except FileExistsError:
            return False
        finally:
            temporary.unlink()
        _sync(file.parent)
        return True


def _write(file: Path, content: bytes) -> None:
    handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.write(handle, content)
        os.fsync(handle)
    finally:
        os.close(handle)


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
