"""The port to an object store: what is asked of S3 and of the local folder alike. Pure.

Keys are ours (`<tenant>/<upload_id>`); a stored object is never overwritten. Checksums are SHA-256 in base64, as S3 writes them.
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

DIGEST_BYTES: Final = 32


def encode_digest(digest: bytes) -> str:
    """Write a digest as 44 characters of base64."""
    return b64encode(digest).decode("ascii")


def decode_digest(text: str) -> bytes:
    """Read the 32 bytes of a digest.

    Raises:
        ValueError: not base64 of 32 bytes.
    """
    try:
        digest = b64decode(text, validate=True)
    except Base64Error as error:
        raise ValueError("a digest is base64") from error
    if len(digest) != DIGEST_BYTES:
        raise ValueError("a SHA-256 digest has 32 bytes")
    return digest


def sha256_of(data: bytes) -> str:
    """Hash these bytes."""
    return encode_digest(sha256(data).digest())


def composite(part_digests: Iterable[str]) -> str:
    """The checksum of an object made of parts: SHA-256 of the raw part digests joined, and how many they were.

    Source: S3 user guide, "Checking object integrity", composite checksums. GetObjectAttributes leaves the `-N` out.
    """
    raw = [decode_digest(text) for text in part_digests]
    return f"{encode_digest(sha256(b''.join(raw)).digest())}-{len(raw)}"


class StoreError(Exception):
    """The base of every error of a store."""


class StoreUnavailable(StoreError):
    """The store is unreachable, hangs or answered 5xx. The same call may be repeated."""


class UploadGone(StoreError):
    """No such multipart upload: never begun, aborted, or already finished."""


class AlreadyStored(StoreError):
    """The key holds an object already; objects are never overwritten."""


class BadContent(StoreError):
    """The bytes are not the ones announced (size or checksum), or the parts do not make up an object."""


@dataclass(frozen=True, slots=True)
class NewObject:
    """An object about to be put.

    Attributes:
        size: bytes; a signed PUT accepts exactly these many.
        sha256: base64 of the digest, verified by the store while it receives; None leaves it unverified.
    """

    key: str
    size: int
    mime: str
    sha256: str | None = None


@dataclass(frozen=True, slots=True)
class StoredPart:
    """A part, planned or stored. `tag` is the store's own name for its content and is passed back to `finish`."""

    n: int
    size: int
    sha256: str | None = None
    tag: str = ""


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object as the store describes it, with at most one of the checksums.

    Attributes:
        sha256: of the whole, where the store computed or verified it while receiving.
        composite: `base64(sha256(all part digests))-N`, for an object made of checked parts.
    """

    size: int
    sha256: str | None = None
    composite: str | None = None


@dataclass(frozen=True, slots=True)
class SignedRequest:
    """A request a client may make without a token. It must send exactly these headers: they are part of the signature.

    `url` is absolute for S3 and begins with `/` for the local store, which the hub serves itself.
    """

    method: str
    url: str
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Download:
    """The `Content-Disposition` and `Content-Type` a signed download is answered with."""

    disposition: str
    mime: str


@dataclass(frozen=True, slots=True)
class PendingUpload:
    """A multipart upload begun and neither finished nor aborted."""

    key: str
    handle: str


class Signing(Protocol):
    """Requests that clients carry out themselves. `life_s` is the seconds until the store refuses them (403)."""

    async def sign_put(self, new: NewObject, life_s: int, owner: str = "") -> SignedRequest:
        """One PUT of the whole object; size, type and checksum (if given) are signed headers."""

    async def sign_parts(
        self, key: str, handle: str, parts: Sequence[StoredPart], life_s: int, owner: str = ""
    ) -> list[SignedRequest]:
        """One PUT for each part; size and checksum (if given) are signed headers."""

    async def sign_get(self, key: str, download: Download, life_s: int) -> str:
        """The address of the object, which need not exist."""


class Multipart(Protocol):
    """Objects put together from parts numbered from 1; each but the last has at least 5 MiB."""

    async def begin(self, key: str, mime: str, *, is_checked: bool) -> str:
        """Begin; returns a handle. `is_checked`: every part will be signed or written with its digest."""

    async def write_part(self, key: str, handle: str, part: StoredPart, source: Path) -> None:
        """Store a part from a file, which the store may move away. Of two with one number the last counts.

        Raises:
            BadContent: the file does not have the part's size and digest.
            UploadGone: no such upload.
        """

    async def parts(self, key: str, handle: str) -> list[StoredPart]:
        """The parts stored, by number.

        Raises:
            UploadGone: no such upload.
        """

    async def finish(self, key: str, handle: str, parts: Sequence[StoredPart]) -> None:
        """Make the object of these parts, as `parts` listed them.

        Raises:
            AlreadyStored: the key holds an object.
            BadContent: the parts are not what is stored, or one but the last is too small.
            UploadGone: no such upload.
        """

    async def abort(self, key: str, handle: str) -> None:
        """Drop the upload and all its parts, even those still arriving. Does nothing when there is none."""

    async def pending(self, prefix: str) -> list[PendingUpload]:
        """Uploads neither finished nor aborted, of keys beginning with `prefix`."""


class Objects(Protocol):
    """Whole objects."""

    async def put(self, new: NewObject, source: Path) -> None:
        """Store an object from a file, which the store may move away.

        Raises:
            AlreadyStored: the key holds an object.
            BadContent: the file does not have the size and digest announced.
        """

    async def look(self, key: str) -> StoredObject | None:
        """Size and checksum as the store knows them; None when there is no such object."""

    def read(self, key: str, start: int = 0, size: int | None = None) -> AsyncIterator[bytes]:
        """Read the bytes from `start` (at most `size` of them) in pieces of at most 1 MiB. A missing object has no bytes."""

    async def delete(self, key: str) -> None:
        """Drop the object. Does nothing when there is none."""

    async def keys(self, prefix: str) -> list[str]:
        """The keys of the objects that begin with `prefix`, sorted."""


class ObjectStore(Signing, Multipart, Objects, Protocol):
    """The whole port.

    Attributes:
        spool: a folder for files on their way into the store.
        budget: counts the bytes in it.
    """

    budget: SpoolBudget

    @property
    def spool(self) -> Path:
        """Files made here are moved into the store where that is possible, not copied."""

    async def close(self) -> None:
        """Release threads and connections after the calls under way."""
