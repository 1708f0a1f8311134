"""Uploads a file with `await hub.upload(channel, path)`, by the strategy that the hub authorises.

After a lost connection, an expired signature or a part that the store refused, it continues with what is still
missing. With a `resume_key` another process can continue the upload.
"""

from __future__ import annotations

import asyncio
import mimetypes
from base64 import b64encode
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, repeat
from pathlib import Path
from typing import Any, Final, Protocol

from hub.client.errors import HubError, UploadFailed
from hub.client.items import History, Payload, Reply
from hub.client.signed_put import FORBIDDEN, PutRefused, measure, part_digests, put, read_piece


class Commands(Protocol):
    """The part of `HubClient` that an upload needs."""

    async def command(self, kind: str, channel: str | None = None, payload: Payload | None = None) -> Reply:
        """Sends a command and waits for its reply."""
        ...

    def submit(self, kind: str, channel: str | None = None, payload: Payload | None = None) -> asyncio.Future[Reply]:
        """Sends a command without waiting."""
        ...

    def publish_nowait(self, kind: str, channel: str, payload: Payload | None = None) -> bool:
        """Sends a message that is not answered."""
        ...

    async def history(
        self, channel: str, *, after: str | None = None, types: Sequence[str] | None = None, limit: int = 100
    ) -> History:
        """Returns a page of stored events."""
        ...


INVALID_STATE: Final = 4021
_POLLS_S: Final = (0.01, 0.01, 0.02, 0.02, *[0.03] * 5, *[0.1] * 10, *[0.2] * 10, 0.5)
_LAST_POLL_S: Final = 1.0
"""Seconds between polls. Most files are verified within 30 ms, and a late poll adds a tenth to a small upload. The short
pauses use no more than the burst of the `history` class (docs/protocol.md#rates); the later ones keep to its rate."""


async def outcome(client: Commands, channel: str, upload_id: str, after: str) -> Mapping[str, Any]:
    """Polls the history for `file.ready` after the event `after`, frequently at first; returns its payload.

    Raises:
        UploadFailed: `file.upload.failed` arrived instead.
    """
    for pause_s in chain(_POLLS_S, repeat(_LAST_POLL_S)):
        page = await client.history(channel, after=after, types=["file.ready", "file.upload.failed"], limit=100)
        for event in page.events:
            if event.payload.get("file_id") == upload_id and event.type == "file.ready":
                return event.payload
            if event.payload.get("upload_id") == upload_id and event.type == "file.upload.failed":
                raise UploadFailed(event.payload["reason"], event.payload["message"])
        after = page.events[-1].id if page.events else after
        await asyncio.sleep(pause_s)
    raise AssertionError("the pauses have no end")


async def outcome_of_another(client: Commands, channel: str, upload_id: str, error: HubError) -> Mapping[str, Any]:
    """Waits for the outcome of an upload that was already completed, for example by an earlier process.

    Args:
        client: a connected client.
        channel: the file's channel.
        upload_id: the upload.
        error: the refusal of `file.complete`: 4021, with the upload's state.

    Raises:
        UploadFailed: the upload had failed.
    """
    for pause_s in chain(_POLLS_S, repeat(_LAST_POLL_S)):
        if "failed" in str(error.details[0].get("problem")):
            break
        try:
            await client.command("file.url", channel, {"file_id": upload_id})
        except HubError as refused:
            if refused.code != INVALID_STATE:
                raise
            error = refused
            await asyncio.sleep(pause_s)
        else:
            return {"file_id": upload_id}
    raise UploadFailed("storage", "the upload had already failed") from error


OnProgress = Callable[[int, int], None]
"""Called with the bytes sent and the total, in the client's event loop."""
PARTS_AT_ONCE: Final = 6
SIGNED_AT_ONCE: Final = 50
CLAIMED_MAX_BYTES: Final = 8 * 1024 * 1024
"""Up to this size, which one PUT can send, a file's digest is announced and the store verifies it. Larger files are verified by
the digests of their parts, or by the node that receives the chunks; a digest of the whole would make the hub read it again."""
TELL_EVERY_S: Final = 1.0
PAUSE_S: Final = 1.0
"""Seconds to wait after a `window` of 0."""
STALLS_MAX: Final = 30
"""Refused chunks in a row without progress after which the upload fails."""
_NOT_FOUND, _EXPIRED = 4018, 4022


@dataclass(frozen=True, slots=True)
class UploadedFile:
    """A file that the hub has verified and that everybody who may read the channel can read.

    Attributes:
        sha256: base64, computed from the file before it was sent.
        ready: the payload of `file.ready`.
    """

    file_id: str
    filename: str
    size: int
    sha256: str
    ready: Mapping[str, Any] = field(repr=False)


async def upload(
    client: Commands,
    channel: str,
    path: Path | str,
    *,
    on_progress: OnProgress | None = None,
    filename: str | None = None,
    mime: str | None = None,
    strategy: str = "auto",
    purpose: str = "attachment",
    resume_key: str | None = None,
) -> UploadedFile:
    """Uploads a file and waits until the hub has verified it.

    Args:
        client: a connected client.
        channel: the file's channel.
        path: the file; it must not change meanwhile.
        on_progress: called as bytes are sent; the number may go back after a failed part.
        filename: the name to show; the file's own by default.
        mime: the content type; guessed from the name by default.
        strategy: `auto`, `single`, `multipart` or `socket`.
        purpose: `attachment`, `document` or `avatar`.
        resume_key: a key under which another process may continue the upload, unique for this user and channel.

    Raises:
        UploadFailed: the stored bytes do not match the file, or the upload was cancelled or expired.
        HubError: the hub refused.
        OSError: the file cannot be read, or the store is unreachable.
    """
    job = _Job(client, channel, Path(path), on_progress or (lambda _sent, _total: None))
    job.size, job.sha256 = await asyncio.to_thread(measure, job.path)
    name = filename or job.path.name
    wanted = {
        "filename": name,
        "size": job.size,
        "strategy": strategy,
        "purpose": purpose,
        "mime": mime or mimetypes.guess_type(name)[0] or "application/octet-stream",
        **({"sha256": job.sha256} if strategy == "single" or job.size <= CLAIMED_MAX_BYTES else {}),
        **({"resume_key": resume_key} if resume_key else {}),
    }
    authorized = await job.resumed(resume_key) if resume_key else None
    if authorized is None:
        authorized = dict((await client.command("file.upload.request", channel, wanted)).payload)
    ready = await job.run(authorized)
    return UploadedFile(authorized["upload_id"], name, job.size, job.sha256, ready)


@dataclass(slots=True)
class _Job:
    """One upload in progress."""

    client: Commands
    channel: str
    path: Path
    on_progress: OnProgress
    size: int = 0
    sha256: str = ""
    upload_id: str = ""
    sent: dict[int, int] = field(default_factory=dict)
    digests: dict[int, str] = field(default_factory=dict)
    told_at: float = 0.0

    async def resumed(self, resume_key: str) -> dict[str, Any] | None:
        """Looks for an upload started under this key; returns None if there is none to continue."""
        try:
            return await self._ask("file.upload.status", {"resume_key": resume_key})
        except HubError as error:
            if error.code in {_NOT_FOUND, _EXPIRED}:
                return None
            raise

    async def run(self, authorized: dict[str, Any]) -> Mapping[str, Any]:
        """Sends the bytes, reports the upload as complete, and waits for the outcome."""
        self.upload_id = authorized["upload_id"]
        if authorized["strategy"] == "single":
            await self._single(authorized)
        elif authorized["strategy"] == "multipart":
            await self._multipart(authorized)
        else:
            await self._socket(authorized)
        claim: dict[str, Any] = {"upload_id": self.upload_id}
        if self.digests:
            claim["parts"] = [{"n": n, "sha256": digest} for n, digest in sorted(self.digests.items())]
        else:
            claim["sha256"] = self.sha256
        try:
            stored = (await self.client.command("file.upload.complete", self.channel, claim)).stored
        except HubError as error:
            if error.code == INVALID_STATE and error.details and error.details[0].get("field") == "state":
                return await outcome_of_another(self.client, self.channel, self.upload_id, error)
            raise
        return await outcome(self.client, self.channel, self.upload_id, stored.id)

    # --- one PUT ---

    async def _single(self, authorized: dict[str, Any]) -> None:
        if authorized["done"]["next_offset"] and authorized["done"]["next_offset"] == self.size:
            return
        try:
            await put(authorized["single"], self.path, 0, self.size, self._note_part(0))
        except PutRefused as refused:
            if refused.status != FORBIDDEN:
                raise UploadFailed("storage", str(refused)) from refused
            fresh = await self._ask("file.upload.status", {"upload_id": self.upload_id})
            await self._put(fresh["single"], 0, self.size, 0)

    async def _put(self, signed: Mapping[str, Any], offset: int, size: int, n: int) -> None:
        try:
            await put(signed, self.path, offset, size, self._note_part(n))
        except PutRefused as refused:
            raise UploadFailed("storage", str(refused)) from refused

    # --- parts ---

    async def _multipart(self, authorized: dict[str, Any]) -> None:
        """Signs and sends the missing parts, 50 per page and 6 at a time, each with a digest that the store verifies."""
        way = authorized["multipart"]
        await self._recognise(authorized["done"]["parts"], way["part_size"])
        missing = [n for n in range(1, way["part_count"] + 1) if n not in self.sent]
        for start in range(0, len(missing), SIGNED_AT_ONCE):
            page = missing[start : start + SIGNED_AT_ONCE]
            signed = await self._sign(page, way["part_size"])
            gate = asyncio.Semaphore(PARTS_AT_ONCE)
            try:
                async with asyncio.TaskGroup() as group:
                    for n in page:
                        group.create_task(self._part(n, way["part_size"], signed[n], gate))
            except BaseExceptionGroup as failed:
                raise failed.exceptions[0] from failed

    async def _recognise(self, parts: list[dict[str, Any]], part_size: int) -> None:
        """Records the stored parts that equal those of this file: they need not be sent again."""
        digests = await asyncio.to_thread(part_digests, self.path, [part["n"] for part in parts], part_size)
        for part, digest in zip(parts, digests, strict=True):
            if part.get("sha256", digest) == digest:
                self.sent[part["n"]], self.digests[part["n"]] = part["size"], digest

    async def _sign(self, numbers: list[int], part_size: int) -> dict[int, dict[str, Any]]:
        digests = await asyncio.to_thread(part_digests, self.path, numbers, part_size)
        self.digests |= zip(numbers, digests, strict=True)
        wanted = [{"n": n, "sha256": digest} for n, digest in zip(numbers, digests, strict=True)]
        answer = await self._ask("file.upload.sign", {"upload_id": self.upload_id, "parts": wanted})
        return {part["n"]: part for part in answer["multipart"]["parts"]}

    async def _part(self, n: int, part_size: int, signed: Mapping[str, Any], gate: asyncio.Semaphore) -> None:
        offset = (n - 1) * part_size
        size = min(part_size, self.size - offset)
        async with gate:
            try:
                await put(signed, self.path, offset, size, self._note_part(n))
            except PutRefused as refused:
                if refused.status != FORBIDDEN:
                    raise UploadFailed("storage", str(refused)) from refused
                fresh = await self._sign([n], part_size)  # the signature had expired
                await self._put(fresh[n], offset, size, n)

    # --- the socket ---

    async def _socket(self, authorized: dict[str, Any]) -> None:
        flying: deque[asyncio.Future[Any]] = deque()
        try:
            await self._chunks(authorized["socket"], int(authorized["done"]["next_offset"]), flying)
        finally:
            await asyncio.gather(*flying, return_exceptions=True)

    async def _chunks(self, way: Mapping[str, Any], offset: int, flying: deque[asyncio.Future[Any]]) -> None:
        """Sends chunks, as many at a time as the hub's window allows; after a refusal, from the offset the hub gives."""
        ahead, window, stalls = offset, max(1, way["window"]), 0
        while offset < self.size:
            while ahead < self.size and len(flying) < window:
                data = await asyncio.to_thread(read_piece, self.path, ahead, way["chunk_size"])
                flying.append(self._chunk(ahead, data))
                ahead += len(data)
            answer = (await flying.popleft()).payload
            if answer["accepted"]:
                offset, stalls, window = answer["next_offset"], 0, max(1, answer["window"])
                self.sent[0] = offset
                self._tell()
                continue
            await asyncio.gather(*flying, return_exceptions=True)
            flying.clear()
            offset = ahead = answer["next_offset"]
            stalls += 1
            if stalls > STALLS_MAX:
                raise UploadFailed("storage", "the hub accepts no more bytes")
            await asyncio.sleep(0 if answer["window"] else PAUSE_S)

    def _chunk(self, offset: int, data: bytes) -> asyncio.Future[Any]:
        payload = {"upload_id": self.upload_id, "offset": offset, "data": b64encode(data).decode()}
        return self.client.submit("file.chunk", self.channel, payload)

    # --- inside ---

    async def _ask(self, kind: str, payload: dict[str, Any]) -> dict[str, Any]:
        return dict((await self.client.command(kind, self.channel, payload)).payload)

    def _note_part(self, n: int) -> Callable[[int], None]:
        def note(sent: int) -> None:
            self.sent[n] = sent
            self._tell()
            now = asyncio.get_running_loop().time()
            if now - self.told_at >= TELL_EVERY_S:
                self.told_at = now
                told = {"upload_id": self.upload_id, "sent": sum(self.sent.values())}
                self.client.publish_nowait("file.upload.progress", self.channel, told)

        return note

    def _tell(self) -> None:
        self.on_progress(min(self.size, sum(self.sent.values())), self.size)
