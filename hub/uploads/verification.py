"""Verifies that the stored bytes are the announced file (size, checksums, content type); also the interface of a virus scanner.

It changes nothing, except that it assembles an object from its parts. By default nothing is scanned, and `file.ready`
says so.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from hashlib import sha256
from typing import Final, Protocol

from hub.storage.store import (
    AlreadyStored,
    BadContent,
    ObjectStore,
    StoredObject,
    StoredPart,
    UploadGone,
    composite,
    encode_digest,
)
from hub.uploads.content_types import SNIFFED_BYTES, contradicts, detect
from hub.uploads.limits import REFUSED_TYPES, plain_type
from streams.records.uploads import FailReason, UploadRecord


class ScanVerdict(StrEnum):
    """The result of a scan."""

    CLEAN = "clean"
    SKIPPED = "skipped"
    INFECTED = "infected"


@dataclass(frozen=True, slots=True)
class ScanResult:
    """The scanner's name and verdict. `detail` (at most 200 characters) is shown if the file is rejected."""

    engine: str
    verdict: ScanVerdict
    detail: str = ""


class Scanner(Protocol):
    """Scans a file before anybody can read it."""

    async def scan(self, upload: UploadRecord, content: AsyncIterator[bytes]) -> ScanResult:
        """Scans a file; it may be called again for the same one. After exceptions it is retried until the upload fails."""


class NoScanner:
    """Scans nothing."""

    async def scan(self, upload: UploadRecord, content: AsyncIterator[bytes]) -> ScanResult:  # noqa: ARG002
        """Returns that the file was not scanned."""
        return SKIPPED


SKIPPED: Final = ScanResult("none", ScanVerdict.SKIPPED)


class Rejected(Exception):
    """The file is not the announced one, or must not be kept. The text is shown to users, at most 500 characters."""

    def __init__(self, reason: FailReason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class UploadClaim:
    """The uploader's claims (`file.upload.complete`): the digest of the whole file, and of parts by number."""

    sha256: str | None = None
    parts: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Verified:
    """The verified facts. `checksum` is the digest of the whole file or, if `is_composite`, of its parts' digests."""

    checksum: str
    is_composite: bool
    detected: str


async def verify(store: ObjectStore, upload: UploadRecord, claim: UploadClaim) -> Verified:
    """Verifies the stored bytes, after assembling the object if it is still in parts. May be repeated.

    Raises:
        Rejected: the file is not the announced one.
        StoreUnavailable: nothing is known; call again.
    """
    digests = await _assemble(store, upload, claim) if upload.plan.is_multipart else []
    stored = await store.look(upload.key)
    if stored is None:
        raise Rejected(FailReason.SIZE, f"none of the {upload.size} bytes arrived")
    if stored.size != upload.size:
        raise Rejected(FailReason.SIZE, f"{stored.size} bytes arrived, but {upload.size} were announced")
    checksum, is_composite = await _checksum(store, upload, claim, stored, digests)
    detected = await _detect(store, upload)
    return Verified(checksum, is_composite, detected)


async def _assemble(store: ObjectStore, upload: UploadRecord, claim: UploadClaim) -> list[str]:
    """Assembles the object from its parts; returns their digests if the store knows them, none after an earlier attempt."""
    try:
        parts = await store.parts(upload.key, upload.handle)
        _check_parts(upload, parts, claim)
        await store.finish(upload.key, upload.handle, parts)
    except (UploadGone, AlreadyStored):
        return []  # an earlier attempt finished it; if not, `look` finds no object
    except BadContent as error:
        raise Rejected(FailReason.CHECKSUM, str(error)) from error
    return [part.sha256 for part in parts if part.sha256]


def _check_parts(upload: UploadRecord, parts: Sequence[StoredPart], claim: UploadClaim) -> None:
    """Compares the parts with the plan: numbers without holes, sizes, and the sender's digests."""
    plan = upload.plan
    if [part.n for part in parts] != list(range(1, plan.part_count + 1)):
        raise Rejected(FailReason.SIZE, f"only {len(parts)} of {plan.part_count} parts arrived")
    if not claim.parts.keys() <= {part.n for part in parts}:
        raise Rejected(FailReason.CHECKSUM, "a checksum was given for a part that does not exist")
    for part in parts:
        if part.size != plan.part_bytes(part.n):
            raise Rejected(
                FailReason.SIZE, f"part {part.n} has {part.size} bytes, but {plan.part_bytes(part.n)} were announced"
            )
        claimed = claim.parts.get(part.n)
        if claimed and part.sha256 and claimed != part.sha256:
            raise Rejected(FailReason.CHECKSUM, f"part {part.n} does not have the checksum its sender claims")


async def _checksum(
    store: ObjectStore, upload: UploadRecord, claim: UploadClaim, stored: StoredObject, digests: Sequence[str]
) -> tuple[str, bool]:
    """Returns the checksum to publish. The bytes are read only if the store has not verified what is claimed."""
    claims = {digest for digest in (upload.sha256, claim.sha256) if digest}
    is_composite_enough = stored.composite is not None and not claims and len(claim.parts) <= len(digests)
    if is_composite_enough and stored.composite is not None:
        if digests and composite(digests) != stored.composite:
            raise Rejected(FailReason.CHECKSUM, "the stored parts are not the ones that arrived")
        return stored.composite, True
    found, found_parts = stored.sha256, digests
    if found is None and upload.streamed and digests and composite(digests) == stored.composite:
        found = upload.streamed  # the digest of the same stream whose parts the store has verified
    if found is None:
        found, found_parts = await _read_digests(store.read(upload.key), upload.plan.part_size)
    if claims - {found}:
        raise Rejected(FailReason.CHECKSUM, "the file does not have the SHA-256 its sender claims")
    if any(not 0 < n <= len(found_parts) or found_parts[n - 1] != digest for n, digest in claim.parts.items()):
        raise Rejected(FailReason.CHECKSUM, "a part does not have the SHA-256 its sender claims")
    return found, False


async def _read_digests(content: AsyncIterator[bytes], part_size: int) -> tuple[str, list[str]]:
    """Hashes the whole file and each part. 1 MiB takes a millisecond, so the loop is not blocked for long."""
    whole, part, room = sha256(), sha256(), part_size
    parts: list[str] = []
    async for piece in content:
        whole.update(piece)
        view = memoryview(piece)
        while view:
            part.update(view[:room])
            view, room = view[room:], room - len(view[:room])
            if room == 0:
                parts.append(encode_digest(part.digest()))
                part, room = sha256(), part_size
    if room < part_size:
        parts.append(encode_digest(part.digest()))
    return encode_digest(whole.digest()), parts


async def _detect(store: ObjectStore, upload: UploadRecord) -> str:
    """Detects the content type from the first bytes."""
    head = b"".join([piece async for piece in store.read(upload.key, 0, SNIFFED_BYTES)]) if upload.size else b""
    detected = detect(head)
    declared = plain_type(upload.mime)
    if detected in REFUSED_TYPES:
        raise Rejected(FailReason.TYPE, f"the file is {detected}, which is not accepted")
    if contradicts(declared, detected):
        raise Rejected(FailReason.TYPE, f"the file is {detected}, not {declared}")
    return detected
