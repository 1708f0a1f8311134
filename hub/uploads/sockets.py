"""The socket uploads of one node. Each has its own queue, so that chunks delay neither chat nor other uploads.

A queue outlives its socket: a client that reconnects to this node continues at `next_offset`, on another at
`stored_offset`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from hub.errors import ErrorDetail, HubError
from hub.protocol.commands import Caller
from hub.storage.spool_budget import SpoolFull
from hub.storage.store import ObjectStore, StoreError, UploadGone
from hub.storage.threads import Threads
from hub.uploads.chunks import Chunk, ChunkProblem
from hub.uploads.receiver import ChunkBeyondEnd, ChunkTaken, UploadReceiver, put_empty, spool_owner, stored_bytes
from streams.channel import Channel
from streams.envelope import Actor, Draft, Lane
from streams.errors import LogUnavailable
from streams.json_bytes import to_json
from streams.records.upload_store import OpenUploads
from streams.records.uploads import WINDOW_CHUNKS, Strategy, UploadRecord, UploadState
from streams.redis.log import Log

REPORT_EVERY_S: Final = 1.0
_REPORTED_MAX: Final = 4_096
"""Maximum uploads whose last report is remembered; beyond it the oldest is dropped and may be reported once too often."""


def progress_json(upload: UploadRecord, sent: int, state: UploadState) -> bytes:
    """Builds the payload of `file.upload.progress`."""
    payload = {
        "upload_id": upload.id,
        "user": upload.user,
        "sent": min(sent, upload.size),
        "total": upload.size,
        "state": state.shown,
    }
    return to_json(payload)


class ProgressReporter:
    """Appends `file.upload.progress` to the live lane, at most once per second and upload, without waiting.

    A lost report is made up for by the next one, or by the event that ends the upload.

    Args:
        log: the log.
        listed: the open uploads that states show.
        monotonic: returns seconds.
    """

    def __init__(self, log: Log, listed: OpenUploads, monotonic: Callable[[], float]) -> None:
        self._log = log
        self._listed = listed
        self._monotonic = monotonic
        self._reported_at: dict[tuple[Channel, str], float] = {}
        self._listing: set[asyncio.Task[None]] = set()

    def report(self, upload: UploadRecord, sent: int) -> None:
        """Reports the number of bytes, unless there was a report within the last second.

        The last byte is always reported.
        """
        now, key = self._monotonic(), (upload.channel, upload.id)
        if sent < upload.size and now - self._reported_at.get(key, -REPORT_EVERY_S) < REPORT_EVERY_S:
            return
        self._reported_at.pop(key, None)
        if len(self._reported_at) >= _REPORTED_MAX:
            del self._reported_at[next(iter(self._reported_at))]
        self._reported_at[key] = now
        data = progress_json(upload, sent, UploadState.UPLOADING)
        draft = Draft(upload.channel, "file.upload.progress", data, Actor("user", upload.user), Lane.LIVE)
        self._log.submit(draft, lambda _: None)
        task = asyncio.create_task(self._list(upload, sent))
        self._listing.add(task)
        task.add_done_callback(self._listing.discard)

    async def close(self) -> None:
        """Waits for writes in progress."""
        await asyncio.gather(*self._listing)

    async def _list(self, upload: UploadRecord, sent: int) -> None:
        with contextlib.suppress(LogUnavailable):  # the next report makes up for it
            await self._listed.change(upload, sent, UploadState.UPLOADING)


WAITING_MAX: Final = 2 * WINDOW_CHUNKS
"""Maximum chunks of one upload in memory. A client that keeps to the window stays well below."""
IDLE_S: Final = 600.0
"""Seconds for which an idle queue is kept, so that a client that reconnects need not send the spooled bytes again."""
RECHECK_S: Final = 1.0
"""Seconds between reads of an upload's record while chunks arrive, so that a cancel on another node is noticed."""
REST_S: Final = 0.025
"""After this many idle seconds the record is read at once: the client may have continued, and finished, on another node."""

OnAnswer = Callable[[ChunkTaken | Exception], None]
Admit = Callable[[Channel | None, str, Caller], Awaitable[UploadRecord]]
"""Returns the upload (channel, id) if the caller may send bytes to it now, and raises HubError otherwise. Binary chunks have no
channel (None)."""


class Arrived(NamedTuple):
    """The number of bytes stored from the start, and their SHA-256 if all passed through this node, else ""."""

    size: int
    sha256: str = ""


class _Offer(NamedTuple):
    channel: Channel | None
    caller: Caller
    chunk: Chunk
    answer: OnAnswer


@dataclass(slots=True)
class _ChunkQueue:
    waiting: deque[_Offer] = field(default_factory=deque)
    receiver: UploadReceiver | None = None
    task: asyncio.Task[None] | None = None
    used_at: float = 0.0
    checked_at: float = 0.0


class SocketUploads:
    """Receives chunks, in order within each upload, and answers each.

    Args:
        store: the object store.
        admit: checks who may send to an upload.
        on_taken: called after each accepted chunk with the upload and its position.
        monotonic: returns seconds.
    """

    def __init__(
        self,
        store: ObjectStore,
        admit: Admit,
        on_taken: Callable[[UploadRecord, ChunkTaken], None],
        monotonic: Callable[[], float],
    ) -> None:
        self._store = store
        self._admit = admit
        self._on_taken = on_taken
        self._monotonic = monotonic
        self._threads = Threads("upload-spool", 4)
        self._queues: dict[tuple[str, str], _ChunkQueue] = {}
        self._closing: set[asyncio.Task[None]] = set()

    def offer(self, channel: Channel | None, caller: Caller, chunk: Chunk, answer: OnAnswer) -> None:
        """Queues a chunk; `answer` is called exactly once. A binary chunk has no channel."""
        key = (caller.principal.tenant, chunk.upload_id)
        queue = self._queues.get(key)
        if queue is None:
            self._drop_idle()
            queue = self._queues[key] = _ChunkQueue()
        if len(queue.waiting) >= WAITING_MAX:
            held = queue.receiver.held() if queue.receiver else ChunkTaken(None, 0, 0, 0)
            answer(ChunkTaken(ChunkProblem.OFFSET, held.next_offset, held.stored_offset, 0))
            return
        queue.waiting.append(_Offer(channel, caller, chunk, answer))
        if queue.task is None:
            queue.task = asyncio.create_task(self._run(key, queue))

    def position(self, upload: UploadRecord) -> int | None:
        """Returns this node's next offset; None if it has nothing of the upload."""
        queue = self._queues.get(_key(upload))
        return queue.receiver.next_offset if queue is not None and queue.receiver is not None else None

    def recheck(self, upload: UploadRecord) -> None:
        """Makes the next chunk read the upload's record again, because it is about to change."""
        queue = self._queues.get(_key(upload))
        if queue is not None:
            queue.checked_at = -RECHECK_S

    async def finish(self, upload: UploadRecord) -> Arrived:
        """Waits until everything sent is stored, and returns it."""
        if upload.size == 0:
            await put_empty(self._store, upload)
        queue = self._queues.pop(_key(upload), None)
        if queue is None:
            return Arrived(await stored_bytes(self._store, upload))
        while queue.task is not None:
            await asyncio.wait({queue.task})
        if queue.receiver is not None:
            await queue.receiver.drain()
            if queue.receiver.stored_offset < upload.size:
                self._queues.setdefault(_key(upload), queue)
            return Arrived(queue.receiver.stored_offset, queue.receiver.streamed_sha256)
        return Arrived(await stored_bytes(self._store, upload))

    async def close(self) -> None:
        """Stops accepting chunks; parts that are being stored are completed."""
        queues, self._queues = self._queues, {}
        for queue in queues.values():
            if queue.task is not None:
                queue.task.cancel()
                await asyncio.wait({queue.task})
            if queue.receiver is not None:
                await queue.receiver.close()
        await asyncio.gather(*self._closing, return_exceptions=True)
        await self._threads.close()

    async def _run(self, key: tuple[str, str], queue: _ChunkQueue) -> None:
        try:
            while queue.waiting:
                offer = queue.waiting.popleft()
                offer.answer(await self._answer(queue, offer))
                queue.used_at = self._monotonic()
        finally:
            queue.task = None
            if queue.receiver is None and self._queues.get(key) is queue and not queue.waiting:
                del self._queues[key]

    async def _answer(self, queue: _ChunkQueue, offer: _Offer) -> ChunkTaken | Exception:
        try:
            receiver = await self._receiver(queue, offer)
            taken = await self._take(receiver, offer.chunk)
        except ChunkBeyondEnd:
            return HubError(
                4017,
                "the chunk goes beyond the announced size",
                details=(ErrorDetail("offset", "is too large"),),
            )
        except UploadGone:
            await self._forget(queue)
            return HubError(4022, "the upload has ended; request another one")
        except SpoolFull as full:
            whose = "of your bytes" if full.owner else "bytes"
            text = f"too many {whose} are waiting to be stored on this node; send the same chunk again later"
            return HubError(4013, text, retry_after_ms=1_000)
        except StoreError:
            return HubError(
                4013, "the file store is unreachable; send the same chunk again later", retry_after_ms=1_000
            )
        except Exception as error:
            await self._forget(queue)
            return error
        if taken.problem is None:
            self._on_taken(receiver.upload, taken)
        return taken

    async def _take(self, receiver: UploadReceiver, chunk: Chunk) -> ChunkTaken:
        """Passes a chunk to its receiver; if the spool is full, drops spooled parts of idle uploads first, longest idle first.

        Raises:
            SpoolFull: no idle upload has a spooled part.
        """
        while True:
            try:
                return await receiver.take(chunk)
            except SpoolFull as full:
                if not await self._make_room(full.owner):
                    raise

    async def _make_room(self, owner: str) -> bool:
        """Drops the spooled part of the longest idle upload of this user, or ("") of anybody.

        Its client sends the bytes again.
        """
        resting = [
            (queue.used_at, key)
            for key, queue in self._queues.items()
            if queue.task is None
            and queue.receiver is not None
            and queue.receiver.is_spooling
            and owner in {"", spool_owner(queue.receiver.upload)}
        ]
        if not resting:
            return False
        await self._forget(self._queues.pop(min(resting)[1]))
        return True

    async def _receiver(self, queue: _ChunkQueue, offer: _Offer) -> UploadReceiver:
        """Returns the queue's receiver, after checking that this user may (still) send."""
        now = self._monotonic()
        receiver = queue.receiver
        is_fresh = now - queue.checked_at < RECHECK_S and now - queue.used_at < REST_S
        if receiver is not None and is_fresh and _is_for(receiver.upload, offer):
            return receiver
        upload = await self._admit(offer.channel, offer.chunk.upload_id, offer.caller)
        if upload.plan.strategy is not Strategy.SOCKET:
            raise HubError(
                4021,
                "this upload accepts no chunks; use its signed URLs",
                details=(ErrorDetail("strategy", f"is {upload.plan.strategy}"),),
            )
        queue.checked_at = now
        if receiver is None:
            stored = 0 if upload.state is UploadState.REQUESTED else await stored_bytes(self._store, upload)
            receiver = queue.receiver = UploadReceiver(self._store, upload, self._threads, stored)
        return receiver

    async def _forget(self, queue: _ChunkQueue) -> None:
        receiver, queue.receiver = queue.receiver, None
        if receiver is not None:
            await receiver.close()

    def _drop_idle(self) -> None:
        deadline = self._monotonic() - IDLE_S
        for key, queue in list(self._queues.items()):
            if queue.task is None and queue.used_at < deadline:
                del self._queues[key]
                task = asyncio.create_task(self._forget(queue))
                self._closing.add(task)
                task.add_done_callback(self._closing.discard)


def _key(upload: UploadRecord) -> tuple[str, str]:
    return upload.channel.tenant, upload.id


def _is_for(upload: UploadRecord, offer: _Offer) -> bool:
    """True if the check of the upload's previous chunk applies to this one: same user and channel."""
    return upload.user == offer.caller.principal.user and offer.channel in {None, upload.channel}
