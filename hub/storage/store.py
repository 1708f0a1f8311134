"""The interface of an object store, implemented by S3 and by the local folder. Pure.

Keys are chosen by the hub (`<tenant>/<upload_id>`); a stored object is never overwritten. Checksums are SHA-256 in
base64, as in S3.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Final, Protocol

from hub.storage.spool_budget import SpoolBudget
from streams.archive.retention import ObjectLock

DIGEST_BYTES: Final = 32


def encode_digest(digest: bytes) -> str:
    """Encodes a digest as 44 characters of base64."""
    return b64encode(digest).decode("ascii")


def decode_digest(text: str) -> bytes:
    """Decodes the 32 bytes of a digest.

    Raises:
        ValueError: not base64 of 32 bytes.
    """
    try:
        digest = b64decode(text, validate=True)
    except Base64Error as error:
        raise ValueError("a digest must be base64") from error
    if len(digest) != DIGEST_BYTES:
        raise ValueError("a SHA-256 digest must have 32 bytes")
    return digest


def sha256_of(data: bytes) -> str:
    """Returns the SHA-256 of these bytes, in base64."""
    return encode_digest(sha256(data).digest())


def composite(part_digests: Iterable[str]) -> str:
    """Returns the checksum of an object made of parts: SHA-256 over the concatenated part digests, then `-` and their number.

    Source: S3 user guide, "Checking object integrity", composite checksums. GetObjectAttributes omits the `-N`.
    """
    raw = [decode_digest(text) for text in part_digests]
    return f"{encode_digest(sha256(b''.join(raw)).digest())}-{len(raw)}"


class StoreError(Exception):
    """The base of every error of a store."""


class StoreUnavailable(StoreError):
    """The store is unreachable, timed out or answered 5xx. The call may be repeated."""


class UploadGone(StoreError):
    """There is no such multipart upload: it was never started, was aborted, or is finished."""


class AlreadyStored(StoreError):
    """The key holds an object already; objects are never overwritten."""


class BadContent(StoreError):
    """The bytes do not match the announced size or checksum, or the parts do not make up an object."""


@dataclass(frozen=True, slots=True)
class NewObject:
    """An object to be stored.

    Attributes:
        size: in bytes; a signed PUT accepts exactly this many.
        sha256: the digest in base64, which the store verifies while receiving; None leaves it unverified.
        lock: keeps the store from removing it, where the store can.
    """

    key: str
    size: int
    mime: str
    sha256: str | None = None
    lock: ObjectLock | None = None


@dataclass(frozen=True, slots=True)
class StoredPart:
    """A part, planned or stored. `tag` is the store's identifier of its content, which `finish` requires."""

    n: int
    size: int
    sha256: str | None = None
    tag: str = ""


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object as the store describes it, with at most one of the checksums.

    Attributes:
        sha256: of the whole, if the store computed or verified it while receiving.
        composite: `base64(sha256(all part digests))-N`, for an object made of verified parts.
    """

    size: int
    sha256: str | None = None
    composite: str | None = None


@dataclass(frozen=True, slots=True)
class SignedRequest:
    """A request that a client may send without a token, with exactly these headers: they are part of the signature.

    `url` is absolute for S3. For the local store, which the hub serves itself, it begins with `/`.
    """

    method: str
    url: str
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Download:
    """The `Content-Disposition` and `Content-Type` of the answer to a signed download."""

    disposition: str
    mime: str


@dataclass(frozen=True, slots=True)
class PendingUpload:
    """A multipart upload that was started but neither finished nor aborted."""

    key: str
    handle: str


class Signing(Protocol):
    """Signs requests for clients. The store refuses them (403) after `life_s` seconds."""

    async def sign_put(self, new: NewObject, life_s: int, owner: str = "") -> SignedRequest:
        """Signs one PUT of the whole object; size, type and checksum (if given) are signed headers."""

    async def sign_parts(
        self, key: str, handle: str, parts: Sequence[StoredPart], life_s: int, owner: str = ""
    ) -> list[SignedRequest]:
        """Signs one PUT per part; size and checksum (if given) are signed headers."""

    async def sign_get(self, key: str, download: Download, life_s: int) -> str:
        """Signs the URL of an object, which need not exist."""


class Multipart(Protocol):
    """Objects assembled from parts numbered from 1; each except the last has at least 5 MiB."""

    async def begin(self, key: str, mime: str, *, is_checked: bool) -> str:
        """Starts an upload; returns a handle. `is_checked`: every part will be signed or written with its digest."""

    async def write_part(self, key: str, handle: str, part: StoredPart, source: Path) -> None:
        """Stores a part from a file, which the store may move away.

        Of two parts with the same number, the later one counts.

        Raises:
            BadContent: the file does not have the part's size and digest.
            UploadGone: no such upload.
        """

    async def parts(self, key: str, handle: str) -> list[StoredPart]:
        """Returns the stored parts, by number.

        Raises:
            UploadGone: no such upload.
        """

    async def finish(self, key: str, handle: str, parts: Sequence[StoredPart]) -> None:
        """Makes the object from these parts, as returned by `parts`.

        Raises:
            AlreadyStored: the key already has an object.
            BadContent: the parts are not the stored ones, or one except the last is too small.
            UploadGone: no such upload.
        """

    async def abort(self, key: str, handle: str) -> None:
        """Removes the upload and all its parts, even those still arriving. Does nothing if there is none."""

    async def pending(self, prefix: str) -> list[PendingUpload]:
        """Returns uploads neither finished nor aborted, whose key begins with `prefix`."""


class Objects(Protocol):
    """Operations on whole objects."""

    async def put(self, new: NewObject, source: Path) -> None:
        """Stores an object from a file, which the store may move away.

        Raises:
            AlreadyStored: the key already has an object.
            BadContent: the file does not have the announced size and digest.
        """

    async def look(self, key: str) -> StoredObject | None:
        """Returns size and checksum as the store knows them; None if there is no such object."""

    def read(self, key: str, start: int = 0, size: int | None = None) -> AsyncIterator[bytes]:
        """Yields the bytes from `start` (at most `size`) in pieces of at most 1 MiB; none if the object is missing."""

    async def delete(self, key: str) -> None:
        """Removes the object. Does nothing if there is none."""

    async def keys(self, prefix: str, after: str = "") -> list[str]:
        """Returns the keys that begin with `prefix` and follow `after`, sorted."""


class ObjectStore(Signing, Multipart, Objects, Protocol):
    """The complete interface.

    Attributes:
        spool: a folder for files to be stored.
        budget: counts the bytes in it.
    """

    budget: SpoolBudget

    @property
    def spool(self) -> Path:
        """A folder whose files the store can move into place, where possible, without copying."""

    async def close(self) -> None:
        """Releases threads and connections after the calls in progress."""
