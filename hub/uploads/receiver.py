"""Receives one socket upload on one node: takes chunks in order and stores them part by part.

A stored part survives the node. A part that is only spooled here does not; it is sent again from `stored_offset`.
Memory use: the current chunk.
"""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Final, Protocol, Self

from hub.storage.spool_budget import SpoolBudget
from hub.storage.store import (
    AlreadyStored,
    NewObject,
    ObjectStore,
    StoredPart,
    StoreError,
    StoreUnavailable,
    UploadGone,
    encode_digest,
    sha256_of,
)
from hub.storage.threads import Threads
from hub.uploads.chunks import Chunk, ChunkProblem, ChunkVerdict, PartSlice, judge, slices
from streams.records.uploads import WINDOW_CHUNKS, UploadRecord


class RunningHash(Protocol):
    """A running SHA-256, as returned by hashlib."""

    def update(self, data: memoryview, /) -> None:
        """Adds bytes."""

    def copy(self) -> Self:
        """Returns an independent copy."""

    def digest(self) -> bytes:
        """Returns the digest of the bytes so far."""


class PartSpool:
    """One part of a socket upload before it is stored: a file that grows by chunks and is hashed meanwhile. Blocking.

    It keeps nothing in memory; `close` or `drop` must be called in the end.

    Args:
        folder: the folder of the file.
        n: the part's number.
        whole: the running hash of everything before this part, which it continues; None if unknown.
        budget: counts the bytes until `drop`.
        owner: the user whose limit they count towards.

    Attributes:
        whole: the running hash of the whole file up to the last added byte.
    """

    def __init__(self, folder: Path, n: int, whole: RunningHash | None, budget: SpoolBudget, owner: str) -> None:
        self.n = n
        self._budget, self._owner, self._counted = budget, owner, 0
        self.whole = whole.copy() if whole is not None else None
        self.path = folder / f"{secrets.token_hex(16)}.part"
        self._file = self.path.open("wb", buffering=0)
        self._digest = sha256()
        self._size = 0

    def count(self, size_bytes: int) -> None:
        """Counts bytes that are about to be added. Like `drop`, it is called in the event loop."""
        self._counted += size_bytes
        self._budget.add(self._owner, size_bytes)

    def add(self, data: memoryview) -> None:
        """Appends bytes to the part."""
        self._file.write(data)
        self._digest.update(data)
        if self.whole is not None:
            self.whole.update(data)
        self._size += len(data)

    def close(self) -> StoredPart:
        """Completes the part; returns its size and digest."""
        self._file.close()
        return StoredPart(self.n, self._size, encode_digest(self._digest.digest()))

    def drop(self) -> None:
        """Deletes the file, whether stored or not. May be called again."""
        self._file.close()
        self.path.unlink(missing_ok=True)
        self._budget.give_back(self._owner, self._counted)
        self._counted = 0


_PROBLEMS: Final = {ChunkVerdict.OFFSET: ChunkProblem.OFFSET, ChunkVerdict.CHECKSUM: ChunkProblem.CHECKSUM}


class ChunkBeyondEnd(Exception):
    """A chunk exceeds the announced size of the upload."""


@dataclass(frozen=True, slots=True)
class ChunkTaken:
    """The position after a chunk. `problem` is None if it was accepted."""

    problem: ChunkProblem | None
    next_offset: int
    stored_offset: int
    window: int


async def stored_bytes(store: ObjectStore, upload: UploadRecord) -> int:
    """Returns the number of bytes that are stored from the start of the file without a gap; any node can continue after them."""
    if not upload.plan.is_multipart:
        stored = await store.look(upload.key)
        return upload.size if stored is not None and stored.size == upload.size else 0
    offset = 0
    for n, part in enumerate(await store.parts(upload.key, upload.handle), 1):
        if part.n != n or part.size != upload.plan.part_bytes(n):
            break
        offset += part.size
    return offset


async def put_empty(store: ObjectStore, upload: UploadRecord) -> None:
    """Stores an empty file, for which no chunk is ever sent."""
    path = store.spool / f"{secrets.token_hex(16)}.part"
    path.touch()
    try:
        await store.put(NewObject(upload.key, 0, upload.mime, sha256_of(b"")), path)
    except AlreadyStored:
        return
    finally:
        path.unlink(missing_ok=True)


def spool_owner(upload: UploadRecord) -> str:
    """Returns the user whose limit an upload's spooled bytes count towards."""
    return f"{upload.channel.tenant}/{upload.user}"


class UploadReceiver:
    """Receives the chunks of one upload. `take` must not be called again before it has returned.

    Args:
        store: receives the parts.
        upload: the record of the upload.
        threads: runs the disk operations.
        stored_offset: number of bytes from the start that are stored already.
    """

    def __init__(self, store: ObjectStore, upload: UploadRecord, threads: Threads, stored_offset: int) -> None:
        self.upload = upload
        self.next_offset = self.stored_offset = stored_offset
        self._store = store
        self._threads = threads
        self._spool: PartSpool | None = None
        self._storing: asyncio.Task[None] | None = None
        self._is_paused = False
        self._spooled: RunningHash | None = sha256() if stored_offset == 0 else None
        self._stored: RunningHash | None = self._spooled

    @property
    def streamed_sha256(self) -> str:
        """The digest of everything stored, if all of it passed through this node; otherwise empty."""
        return encode_digest(self._stored.digest()) if self._stored is not None else ""

    @property
    def is_spooling(self) -> bool:
        """True while it has bytes that are not stored yet."""
        return self._spool is not None or self._storing is not None

    async def take(self, chunk: Chunk) -> ChunkTaken:
        """Accepts a chunk, or reports its problem.

        If the store did not accept a part, the answer is a wrong offset, so that the client sends again from
        there.

        Raises:
            ChunkBeyondEnd: it exceeds the announced size.
            SpoolFull: nothing was accepted; the same chunk may be passed again later.
            UploadGone: the upload was ended elsewhere.
            StoreUnavailable: the node's disk is full.
        """
        await self._reap()
        verdict = judge(chunk, self.next_offset, self.upload.size)
        if verdict is ChunkVerdict.TOO_LONG:
            raise ChunkBeyondEnd
        if verdict is ChunkVerdict.TAKE:
            self._store.budget.require(spool_owner(self.upload), len(chunk.data))
            await self._spool_chunk(chunk)
            self._is_paused = self._is_paused and self.next_offset < chunk.offset + len(chunk.data)
            if self.next_offset == self.upload.size:
                await self.drain()
        problem = _PROBLEMS.get(verdict)
        if verdict is ChunkVerdict.TAKE and self.next_offset < chunk.offset + len(chunk.data):
            problem = ChunkProblem.OFFSET
        return self.held(problem)

    def held(self, problem: ChunkProblem | None = None) -> ChunkTaken:
        """Returns the current position."""
        window = 0 if self._is_paused else WINDOW_CHUNKS
        return ChunkTaken(problem, self.next_offset, self.stored_offset, window)

    async def drain(self) -> None:
        """Waits for the part that is being stored.

        Raises:
            UploadGone: the upload was ended elsewhere.
        """
        if self._storing is not None:
            await asyncio.wait({self._storing})
            await self._reap()

    async def close(self) -> None:
        """Releases everything. Spooled bytes are lost, but a part that is being stored is completed."""
        if self._storing is not None:
            await asyncio.wait({self._storing})
            self._storing.exception()
            self._storing = None
        self._drop_spool()

    async def _spool_chunk(self, chunk: Chunk) -> None:
        try:
            await self._take(chunk)
        except OSError as error:  # the disk is full, so the spooled beginning of this part is useless
            self._start_over()
            raise StoreUnavailable("the node's disk is full") from error

    async def _take(self, chunk: Chunk) -> None:
        view = memoryview(chunk.data)
        for piece in slices(chunk.offset, len(chunk.data), self.upload.plan.part_size, self.upload.size):
            if self._spool is None:
                budget, owner = self._store.budget, spool_owner(self.upload)
                self._spool = PartSpool(self._store.spool, piece.n, self._spooled, budget, owner)
            self._spool.count(piece.end - piece.start)
            await self._threads.run(self._spool.add, view[piece.start : piece.end])
            self.next_offset += piece.end - piece.start
            if piece.is_last and not await self._send_part(piece):
                return

    async def _send_part(self, piece: PartSlice) -> bool:
        """Starts storing a complete part while the next one is spooled. Only one is stored at a time."""
        await self.drain()
        spool = self._spool
        if (
            spool is None or spool.n != piece.n
        ):  # the previous part was not stored, so everything after it is sent again
            return False
        self._spool, self._spooled = None, spool.whole
        self._storing = asyncio.create_task(self._put(spool))
        return True

    async def _put(self, spool: PartSpool) -> None:
        try:
            part = await self._threads.run(spool.close)
            upload = self.upload
            if upload.plan.is_multipart:
                await self._store.write_part(upload.key, upload.handle, part, spool.path)
            else:
                await self._put_whole(NewObject(upload.key, part.size, upload.mime, part.sha256), spool)
            self.stored_offset = (part.n - 1) * upload.plan.part_size + part.size
            self._stored = spool.whole
        finally:
            spool.drop()

    async def _put_whole(self, new: NewObject, spool: PartSpool) -> None:
        try:
            await self._store.put(new, spool.path)
        except AlreadyStored:
            return  # the answer of an earlier attempt was lost; verification checks the stored object

    async def _reap(self) -> None:
        """Handles the result of storing the last part."""
        if self._storing is None or not self._storing.done():
            return
        error = self._storing.exception()
        self._storing = None
        if error is None:
            return
        self._start_over()
        if isinstance(error, UploadGone) or not isinstance(error, StoreError):
            raise error

    def _start_over(self) -> None:
        """Continues from the stored bytes, after a pause."""
        self._drop_spool()
        self.next_offset, self._spooled = self.stored_offset, self._stored
        self._is_paused = True

    def _drop_spool(self) -> None:
        if self._spool is not None:
            self._spool.drop()
            self._spool = None
