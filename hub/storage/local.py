"""The local object store: a folder, and signed requests that the hub itself serves.

It makes the same guarantees as S3 (signed size, type and checksum; parts; no overwriting), so that the code above
need not know which store it uses. A signature works like SigV4 query signing, in the smallest form: it covers the
method, the key, every query parameter and the named headers, so that the holder of a URL cannot change, omit or add
any of them.
"""

from __future__ import annotations

import asyncio
import hmac
import os
import secrets
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Final
from urllib.parse import quote, urlencode

from hub.storage.local_files import LocalFiles
from hub.storage.spool_budget import SpoolBudget, SpoolFull
from hub.storage.store import BadContent, Download, NewObject, PendingUpload, SignedRequest, StoredObject, StoredPart
from hub.storage.threads import Threads

PATH: Final = "/_store/"
"""The path prefix under which the hub serves the local store."""
SIGNATURE: Final = "signature"
EXPIRES: Final = "expires"
SIGNED_HEADERS: Final = "headers"


class SignatureRefused(Exception):
    """The request is not the one that was signed, or has expired. The client gets 403 and no details."""


@dataclass(frozen=True, slots=True)
class LocalRequest:
    """A request to the local store, as signed or as received.

    Attributes:
        query: parameters by name, without the signature.
        headers: the signed headers by lower-case name.
    """

    method: str
    key: str
    query: Mapping[str, str]
    headers: Mapping[str, str]

    def canonical(self) -> bytes:
        """Returns the text to sign: names sorted, values escaped, so that no two requests have the same text."""
        query = urlencode(sorted(self.query.items()))
        headers = urlencode(sorted(self.headers.items()))
        return "\n".join((self.method, quote(self.key), query, headers)).encode()


def sign(secret: bytes, method: str, key: str, headers: Mapping[str, str], query: Mapping[str, str]) -> str:
    """Returns path and query of a signed request; `query` must contain `expires` (Unix seconds)."""
    full = dict(query)
    if headers:
        full[SIGNED_HEADERS] = ";".join(sorted(headers))
    ticket = LocalRequest(method, key, full, headers)
    signature = hmac.digest(secret, ticket.canonical(), sha256).hex()
    return f"{PATH}{quote(key)}?{urlencode([*sorted(full.items()), (SIGNATURE, signature)])}"


def check(secret: bytes, arrived: LocalRequest, now: float) -> LocalRequest:
    """Verifies a received request; returns it with only the signed headers.

    Args:
        secret: the store's signing key.
        arrived: the request with all its headers and its whole query, including the signature.
        now: Unix seconds.

    Raises:
        SignatureRefused: the signature is wrong or missing, or the request has expired.
    """
    rest = {name: value for name, value in arrived.query.items() if name != SIGNATURE}
    names = [name for name in rest.get(SIGNED_HEADERS, "").split(";") if name]
    ticket = LocalRequest(arrived.method, arrived.key, rest, {name: arrived.headers.get(name, "") for name in names})
    expected = hmac.digest(secret, ticket.canonical(), sha256).hex()
    if not hmac.compare_digest(expected.encode(), arrived.query.get(SIGNATURE, "").encode()):
        raise SignatureRefused("this request is not the one that was signed; send it unchanged")
    if not rest.get(EXPIRES, "").isdigit() or now > int(rest[EXPIRES]):
        raise SignatureRefused("this URL has expired; request a new one")
    return ticket


CHECKSUM_HEADER: Final = "x-amz-checksum-sha256"
"""The header name that S3 uses, so that the same CORS rules and clients work with both stores."""
_PART: Final = "part"
_HANDLE: Final = "upload"
_OWNER: Final = "by"
"""A digest that identifies the uploading user, since bytes in transit are limited per user."""
_JOIN_BYTES: Final = 1024 * 1024
"""Bytes collected before a thread writes them. Fewer cost a thread switch (60 µs) every 64 KiB, more cost memory."""
_SECRET_BYTES: Final = 32
PUTS_MAX: Final = 128
"""Maximum PUTs that a node receives at a time: each may use 1 MiB of memory, and its size on disk."""
PUTS_BY_OWNER_MAX: Final = 32
"""Maximum PUTs of one user at a time, so that nobody uses all of a node's."""
PUTS_BY_KEY_MAX: Final = 8
"""Maximum PUTs of one file at a time; how many files a user uploads at once is limited separately."""
GRACE_S: Final = 10.0
PACE_BYTES_PER_S: Final = 16_384
"""Minimum bytes per second of a body over any ten seconds. A slower or stalled body is refused, however fast it started."""


class MinimumPace:
    """Checks that a body arrives at a minimum rate, by a credit in seconds: time consumes it and bytes add to it, up to a maximum.

    Without credit the body is too slow. As the credit is limited, a body that was fast at first may not stall for
    longer than a new one.

    Args:
        bytes_per_s: the rate that keeps the credit constant.
        grace_s: the initial and maximum credit in seconds.
        now: monotonic seconds.
    """

    def __init__(self, bytes_per_s: float, grace_s: float, now: float) -> None:
        self._bytes_per_s, self._grace_s = bytes_per_s, grace_s
        self._credit_s, self._at = grace_s, now

    def came(self, size_bytes: int, now: float) -> float:
        """Adds bytes that arrived; returns the time by which more must arrive."""
        left_s = self._credit_s - (now - self._at) + size_bytes / self._bytes_per_s
        self._credit_s, self._at = min(self._grace_s, left_s), now
        return now + self._credit_s

    def rest_until(self, now: float) -> float:
        """Ignores the time since the last bytes, which was spent writing them to disk; returns the new deadline."""
        self._at = now
        return now + self._credit_s


class TooManyPuts(Exception):
    """The part is being received already, or too many are; it can be sent again later."""


class TooSlow(Exception):
    """The body arrives too slowly."""


def _digest_of(owner: str) -> str:
    return sha256(owner.encode()).hexdigest()[:16]


def _secret_of(root: Path) -> bytes:
    """Returns the signing key of this folder, created on first use: all processes that share the folder share the key."""
    path = root / "signing.key"
    with suppress(FileExistsError):
        draft = root / f"signing.{secrets.token_hex(8)}"
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_bytes(_SECRET_BYTES))
        try:
            os.link(draft, path)
        finally:
            draft.unlink()
    return path.read_bytes()


class LocalStore:
    """An `ObjectStore` in a folder.

    Args:
        root: the folder, created if missing. Several nodes may share it.
        clock: returns Unix seconds.
        threads: maximum disk operations at a time.
    """

    def __init__(self, root: Path, clock: Callable[[], float], *, threads: int = 4) -> None:
        self.files = LocalFiles(root)
        self.secret = _secret_of(root)
        self._clock = clock
        self._threads = Threads("local-store", threads)
        self.budget = SpoolBudget()
        self._receiving: dict[tuple[str, str, str], str] = {}
        """PUTs in progress: key, upload and part → user."""

    @property
    def spool(self) -> Path:
        """A folder beside the objects, so that a file created here is moved into place by a rename."""
        return self.files.spool

    def _sign(
        self, method: str, key: str, headers: dict[str, str], query: dict[str, str], life_s: int
    ) -> SignedRequest:
        query[EXPIRES] = str(int(self._clock()) + life_s)
        return SignedRequest(method, sign(self.secret, method, key, headers, query), headers)

    async def sign_put(self, new: NewObject, life_s: int, owner: str = "") -> SignedRequest:
        """See ObjectStore."""
        headers = {"content-length": str(new.size), "content-type": new.mime, "if-none-match": "*"}
        if new.sha256:
            headers[CHECKSUM_HEADER] = new.sha256
        return self._sign("PUT", new.key, headers, {_OWNER: _digest_of(owner)}, life_s)

    async def sign_parts(
        self, key: str, handle: str, parts: Sequence[StoredPart], life_s: int, owner: str = ""
    ) -> list[SignedRequest]:
        """See ObjectStore."""
        signed = []
        for part in parts:
            headers = {"content-length": str(part.size)}
            if part.sha256:
                headers[CHECKSUM_HEADER] = part.sha256
            signed.append(
                self._sign(
                    "PUT", key, headers, {_HANDLE: handle, _PART: str(part.n), _OWNER: _digest_of(owner)}, life_s
                )
            )
        return signed

    async def sign_get(self, key: str, download: Download, life_s: int) -> str:
        """See ObjectStore."""
        query = {"disposition": download.disposition, "type": download.mime}
        return self._sign("GET", key, {}, query, life_s).url

    async def receive(self, ticket: LocalRequest, body: AsyncIterator[bytes]) -> str:
        """Carries out a signed PUT; returns the digest of the stored bytes.

        Raises:
            AlreadyStored: as in `put`.
            BadContent: as in `put` and `write_part`.
            UploadGone: as in `write_part`.
            TooManyPuts: too many PUTs at a time; it can be sent again later.
            TooSlow: the body is below the minimum rate.
        """
        own = (ticket.key, ticket.query.get(_HANDLE, ""), ticket.query.get(_PART, ""))
        owner, size = ticket.query.get(_OWNER, ""), int(ticket.headers["content-length"])
        by_key = sum(key == ticket.key for key, _, _ in self._receiving)
        by_owner = sum(other == owner for other in self._receiving.values())
        is_full = by_key >= PUTS_BY_KEY_MAX or by_owner >= PUTS_BY_OWNER_MAX or len(self._receiving) >= PUTS_MAX
        if own in self._receiving or is_full:
            raise TooManyPuts("this part is being received already, or too many parts are; send it again in a second")
        try:
            self.budget.require(owner, size)
        except SpoolFull as full:
            raise TooManyPuts("too many bytes are being uploaded; send these again in a second") from full
        self._receiving[own] = owner
        self.budget.add(owner, size)
        try:
            return await self._receive(ticket, body)
        finally:
            del self._receiving[own]
            self.budget.give_back(owner, size)

    async def _receive(self, ticket: LocalRequest, body: AsyncIterator[bytes]) -> str:
        size = int(ticket.headers["content-length"])
        sha256 = ticket.headers.get(CHECKSUM_HEADER)
        handle = ticket.query.get(_HANDLE)
        if handle is not None:
            await self._threads.run(self.files.has_upload, ticket.key, handle)
        path = self.spool / secrets.token_hex(16)
        try:
            try:
                async with asyncio.timeout(GRACE_S) as deadline:
                    await self._spool(path, body, size, deadline)
            except TimeoutError:
                raise TooSlow("the bytes arrive too slowly; send them again") from None
            if handle is not None:
                part = StoredPart(int(ticket.query[_PART]), size, sha256)
                stored = await self._threads.run(self.files.keep_part, ticket.key, handle, part, path)
                return stored.sha256 or ""
            new = NewObject(ticket.key, size, ticket.headers["content-type"], sha256)
            return await self._threads.run(self.files.put, new, path)
        finally:
            path.unlink(missing_ok=True)

    async def _spool(self, path: Path, body: AsyncIterator[bytes], size: int, deadline: asyncio.Timeout) -> None:
        """Writes a body to a file, with at most 1 MiB plus one network read in memory."""
        waiting = bytearray()
        left, now = size, asyncio.get_running_loop().time
        pace = MinimumPace(PACE_BYTES_PER_S, GRACE_S, now())
        with path.open("wb", buffering=0) as file:
            async for piece in body:
                left -= len(piece)
                if left < 0:
                    raise BadContent("more bytes arrived than were announced")
                deadline.reschedule(pace.came(len(piece), now()))
                waiting += piece
                if len(waiting) >= _JOIN_BYTES:
                    deadline.reschedule(None)  # the client is not to blame for a slow disk, or a pool that is busy
                    await self._threads.run(file.write, bytes(waiting))
                    waiting.clear()
                    deadline.reschedule(pace.rest_until(now()))
            deadline.reschedule(None)
            await self._threads.run(file.write, bytes(waiting))
        if left:
            raise BadContent("fewer bytes arrived than were announced")

    async def begin(self, key: str, mime: str, *, is_checked: bool) -> str:  # noqa: ARG002 - every part is hashed here
        """See ObjectStore."""
        return await self._threads.run(self.files.begin, key, mime)

    async def write_part(self, key: str, handle: str, part: StoredPart, source: Path) -> None:
        """See ObjectStore."""
        await self._threads.run(self.files.keep_part, key, handle, part, source)

    async def parts(self, key: str, handle: str) -> list[StoredPart]:
        """See ObjectStore."""
        return await self._threads.run(self.files.parts, key, handle)

    async def finish(self, key: str, handle: str, parts: Sequence[StoredPart]) -> None:
        """See ObjectStore."""
        await self._threads.run(self.files.finish, key, handle, parts)

    async def abort(self, key: str, handle: str) -> None:
        """See ObjectStore."""
        await self._threads.run(self.files.abort, key, handle)

    async def pending(self, prefix: str) -> list[PendingUpload]:
        """See ObjectStore."""
        return await self._threads.run(self.files.pending, prefix)

    async def put(self, new: NewObject, source: Path) -> None:
        """See ObjectStore."""
        await self._threads.run(self.files.put, new, source)

    async def look(self, key: str) -> StoredObject | None:
        """See ObjectStore."""
        return await self._threads.run(self.files.look, key)

    async def read(self, key: str, start: int = 0, size: int | None = None) -> AsyncIterator[bytes]:
        """See ObjectStore."""
        pieces: Iterator[bytes] = self.files.read(key, start, size)
        while (piece := await self._threads.run(next, pieces, b"")) != b"":
            yield piece

    async def delete(self, key: str) -> None:
        """See ObjectStore."""
        await self._threads.run(self.files.delete, key)

    async def keys(self, prefix: str, after: str = "") -> list[str]:
        """See ObjectStore."""
        return await self._threads.run(self.files.keys, prefix, after)

    async def close(self) -> None:
        """See ObjectStore."""
        await self._threads.close()
