"""One part of a socket upload on its way to the store: a file that grows by chunks and is hashed as it grows. Blocking."""

from __future__ import annotations

import secrets
from hashlib import sha256
from pathlib import Path
from typing import Protocol, Self

from hub.storage.digests import encode_digest
from hub.storage.store import Part


class Hash(Protocol):
    """A running SHA-256, as hashlib makes it."""

    def update(self, data: memoryview, /) -> None:
        """Go on."""

    def copy(self) -> Self:
        """Another that goes its own way from here."""

    def digest(self) -> bytes:
        """The digest so far."""


class PartSpool:
    """A part in the making. It holds nothing in memory; `close` or `drop` must be called in the end.

    Args:
        folder: where the file is made.
        n: the part's number.
        whole: the digest of everything before this part, which goes on with it; None when that is not known.

    Attributes:
        whole: the digest of the file up to what was added last.
    """

    def __init__(self, folder: Path, n: int, whole: Hash | None) -> None:
        self.n = n
        self.whole = whole.copy() if whole is not None else None
        self.path = folder / f"{secrets.token_hex(16)}.part"
        self._file = self.path.open("wb", buffering=0)
        self._digest = sha256()
        self._size = 0

    def add(self, data: memoryview) -> None:
        """Append bytes of the part."""
        self._file.write(data)
        self._digest.update(data)
        if self.whole is not None:
            self.whole.update(data)
        self._size += len(data)

    def close(self) -> Part:
        """The part is whole."""
        self._file.close()
        return Part(self.n, self._size, encode_digest(self._digest.digest()))

    def drop(self) -> None:
        """It is not wanted any more, or was stored. Again: nothing."""
        self._file.close()
        self.path.unlink(missing_ok=True)
