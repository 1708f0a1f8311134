"""Handles uploads on a node: accepts requests and chunks, signs parts, reports status, and tells clients how to send the bytes.

Of an upload's events a node appends only the request; workers append its end (hub.uploads.finishing).
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from hub.auth.permissions import refuse_unlisted
from hub.errors import ErrorDetail, HubError
from hub.limits.quotas import Quotas
from hub.protocol.commands import Caller
from hub.storage.store import NewObject, ObjectStore, SignedRequest, StoredPart, UploadGone
from hub.uploads.limits import UploadLimits
from hub.uploads.receiver import ChunkTaken, spool_owner
from hub.uploads.sockets import ProgressReporter, SocketUploads
from streams.channel import Channel
from streams.cursor import ms_of_id
from streams.envelope import Appended, Draft
from streams.errors import GuardRefused, IdempotencyConflict
from streams.events.declaration import Action
from streams.events.files import FileUploadRequest, FileUploadSign, FileUploadStatus
from streams.records.settings import SettingsRecords
from streams.records.upload_store import OpenUploads, UploadStore
from streams.records.uploads import (
    CHUNK_BYTES,
    OPEN,
    SIGNED_PARTS_MAX,
    WINDOW_CHUNKS,
    FailReason,
    Strategy,
    UploadRecord,
    UploadState,
    file_id_of,
    make_plan,
)
from streams.redis.log import Log
from streams.times import rfc3339


def own(upload: UploadRecord | None, user: str) -> UploadRecord:
    """Requires the upload to be this user's.

    Raises:
        HubError: 4018: not in this channel; 4003: another user's.
    """
    if upload is None:
        raise HubError(4018, "there is no such upload in this channel")
    if upload.user != user:
        raise HubError(4003, "only the user who began an upload may continue it")
    return upload


def not_expired(upload: UploadRecord, now: float) -> UploadRecord:
    """Requires that the upload has not expired at `now` (Unix seconds).

    Raises:
        HubError: 4022.
    """
    is_past = upload.state in OPEN and now * 1000 > upload.expires_ms
    if is_past or upload.reason is FailReason.EXPIRED:
        raise HubError(4022, "the upload has expired; request another one")
    return upload


def taking(upload: UploadRecord, now: float) -> UploadRecord:
    """Requires that the upload still accepts bytes.

    Raises:
        HubError: 4022: it has expired; 4021: its state does not allow it.
    """
    not_expired(upload, now)
    if upload.state not in OPEN:
        raise wrong_state(upload.state)
    return upload


def wrong_state(state: UploadState | str) -> HubError:
    """Builds the error 4021 with the current state."""
    shown = UploadState(state).shown
    return HubError(4021, f"the upload is {shown}", details=(ErrorDetail("state", f"is {shown}"),))


Json = dict[str, Any]
_NOTHING: Final[Json] = {"parts": [], "next_offset": 0}


def absolute(origin: str, url: str) -> str:
    """Makes a store's URL absolute: a relative one is served by this hub."""
    return origin + url if url.startswith("/") else url


@dataclass(frozen=True, slots=True)
class UploadAuthorizer:
    """Builds `file.upload.authorized`, which tells a client how to send bytes: the position so far, and URLs for the rest."""

    store: ObjectStore
    limits: UploadLimits

    async def authorize(
        self,
        upload: UploadRecord,
        origin: str,
        now_ms: int,
        wanted: Sequence[StoredPart] | None = None,
        held: int | None = None,
        *,
        is_new: bool = False,
    ) -> Json:
        """Builds the whole answer.

        Args:
            upload: the record.
            origin: the first part of the hub's URLs, such as `https://hub.example`.
            now_ms: Unix milliseconds.
            wanted: the parts to sign; by default the first 50 missing ones.
            held: number of bytes of a socket upload that this node has, if any.
            is_new: True if no bytes can have arrived yet; then the store is not asked.
        """
        done = dict(_NOTHING) if is_new else await self._done(upload, held)
        life_s = max(1, min(self.limits.url_life_s, (upload.expires_ms - now_ms) // 1000))
        strategy = upload.plan.strategy
        expires_ms = upload.expires_ms if strategy is Strategy.SOCKET else now_ms + life_s * 1000
        answer: Json = {"upload_id": upload.id, "strategy": strategy.value, "expires_at": rfc3339(expires_ms)}
        if strategy is Strategy.SINGLE:
            answer["single"] = await self._single(upload, origin, life_s)
        elif strategy is Strategy.MULTIPART:
            parts = self._missing(upload, done) if wanted is None else wanted
            answer["multipart"] = await self._multipart(upload, origin, life_s, parts)
        else:
            is_open = upload.state in OPEN
            answer["socket"] = {"chunk_size": CHUNK_BYTES, "window": WINDOW_CHUNKS if is_open else 0}
        return answer | {"done": done}

    async def _single(self, upload: UploadRecord, origin: str, life_s: int) -> Json:
        new = NewObject(upload.key, upload.size, upload.mime, upload.sha256)
        signed = await self.store.sign_put(new, life_s, spool_owner(upload))
        return {"method": signed.method, "url": absolute(origin, signed.url), "headers": dict(signed.headers)}

    async def _multipart(self, upload: UploadRecord, origin: str, life_s: int, parts: Sequence[StoredPart]) -> Json:
        signed: list[SignedRequest] = []
        if parts and upload.state in OPEN:
            signed = await self.store.sign_parts(upload.key, upload.handle, parts, life_s, spool_owner(upload))
        rows = [
            {"n": part.n, "url": absolute(origin, request.url), "headers": dict(request.headers)}
            for part, request in zip(parts, signed, strict=False)
        ]
        return {"part_size": upload.plan.part_size, "part_count": upload.plan.part_count, "parts": rows}

    @staticmethod
    def _missing(upload: UploadRecord, done: Json) -> list[StoredPart]:
        """Returns the first missing parts, to be sent without digests; none if this upload's parts need digests."""
        if upload.is_checked:
            return []
        there = {part["n"] for part in done["parts"]}
        numbers = (n for n in range(1, upload.plan.part_count + 1) if n not in there)
        return [
            StoredPart(n, upload.plan.part_bytes(n)) for n, _ in zip(numbers, range(SIGNED_PARTS_MAX), strict=False)
        ]

    async def _done(self, upload: UploadRecord, held: int | None) -> Json:
        """Returns the stored parts and the next offset."""
        if upload.state not in OPEN:
            return {"parts": [], "next_offset": upload.size}
        if not upload.plan.is_multipart:
            stored = await self.store.look(upload.key)
            return {"parts": [], "next_offset": stored.size if stored else held or 0}
        try:
            parts = await self.store.parts(upload.key, upload.handle)
        except UploadGone:
            return dict(_NOTHING)
        rows = [{"n": p.n, "size": p.size, **({"sha256": p.sha256} if p.sha256 else {})} for p in parts]
        return {"parts": rows, "next_offset": max(_contiguous(parts), held or 0)}


def _contiguous(parts: Sequence[StoredPart]) -> int:
    """Returns the number of bytes that these parts hold from the start of the file without a gap."""
    offset = 0
    for n, part in enumerate(parts, 1):
        if part.n != n:
            break
        offset += part.size
    return offset


_REFUSALS = {
    "open": "finish or cancel some of your open uploads first",
    "bytes": "your organisation has reached its limit of file storage; cancel uploads, or request a larger limit",
    "quota": "your organisation has reached its storage limit, files included; cancel uploads, or request a larger quota",
}


class UploadRequests:
    """Authorises uploads and accepts their bytes.

    Args:
        log: stores the requests, and the records of uploads.
        store: the object store.
        limits: limits on files.
        clock: returns Unix seconds.
        monotonic: returns seconds that never go back.
        quotas: limits on stored bytes; none by default.

    Attributes:
        sockets: the uploads over this node's sockets.
    """

    def __init__(
        self,
        log: Log,
        store: ObjectStore,
        limits: UploadLimits,
        clock: Callable[[], float],
        monotonic: Callable[[], float],
        quotas: Quotas | None = None,
    ) -> None:
        self.limits = limits
        self._quotas = quotas or Quotas()
        self.store = store
        self.records = UploadStore(log)
        self._log = log
        self._clock = clock
        self._authorizer = UploadAuthorizer(store, limits)
        self.listed = OpenUploads(log)
        self._progress = ProgressReporter(log, self.listed, monotonic)
        self._settings = SettingsRecords(log)
        self.sockets = SocketUploads(store, self._admit_chunk, self._note_chunk, monotonic)

    async def request(
        self, draft: Draft, payload: FileUploadRequest, caller: Caller, origin: str
    ) -> tuple[Json, Appended]:
        """Reserves space, appends the request, creates its record, and returns how to send the bytes.

        The same command sent again gets the same upload.

        Raises:
            HubError: 4005, 4017.
            StreamsError: as in `Log.append`.
        """
        self.limits.check(payload.filename, payload.size, payload.mime)
        plan = make_plan(payload.strategy, payload.size, takes_binary="binary_chunks" in caller.capabilities)
        planned = UploadRecord(
            id="",
            channel=draft.channel,
            user=caller.principal.user,
            filename=payload.filename,
            mime=payload.mime,
            plan=plan,
            event_id="",
            slot=draft.command or secrets.token_hex(8),
            sha256=payload.sha256,
            expires_ms=self.now_ms() + self.limits.life_s * 1000,
        )
        appended = await self._append(draft, planned)
        upload = await self._open(planned, appended, payload.resume_key)
        upload = await self._begin(upload, is_checked=False)
        is_new = not appended.is_duplicate
        return await self._authorizer.authorize(upload, origin, self.now_ms(), is_new=is_new), appended

    async def sign(self, channel: Channel, payload: FileUploadSign, caller: Caller, origin: str) -> Json:
        """Signs further parts. If digests are sent before any part, the store verifies the parts of this upload.

        Raises:
            HubError: 4003, 4005, 4018, 4021, 4022.
        """
        upload = await self.admit(channel, payload.upload_id, caller.principal.user)
        if upload.plan.strategy is not Strategy.MULTIPART:
            raise HubError(
                4021,
                "only multipart uploads have parts to sign",
                details=(ErrorDetail("strategy", f"is {upload.plan.strategy}"),),
            )
        if any(part.n > upload.plan.part_count for part in payload.parts):
            raise HubError(
                4005,
                f"there are {upload.plan.part_count} parts",
                details=(ErrorDetail("parts", "names a part beyond the last"),),
            )
        await self.records.move(upload, UploadState.UPLOADING)
        upload = await self._prefer_digests(upload, payload)
        wanted = [StoredPart(part.n, upload.plan.part_bytes(part.n), part.sha256) for part in payload.parts]
        return await self._authorizer.authorize(upload, origin, self.now_ms(), wanted)

    async def status(self, channel: Channel, payload: FileUploadStatus, caller: Caller, origin: str) -> Json:
        """Returns the state of an upload, with fresh URLs for the missing parts.

        Raises:
            HubError: 4003, 4018, 4022.
        """
        user = caller.principal.user
        if payload.upload_id is not None:
            found = await self.records.read(channel, payload.upload_id)
        else:
            found = await self.records.find(channel, user, payload.resume_key or "")
        upload = own(found, user)
        if upload.state in OPEN:
            taking(upload, self._clock())
            upload = await self._begin(upload, is_checked=False)
        elif upload.state in {UploadState.FAILING, UploadState.FAILED}:
            raise HubError(
                4022, "the upload has failed; request another one", details=(ErrorDetail("state", "is failed"),)
            )
        return await self._authorizer.authorize(upload, origin, self.now_ms(), held=self.sockets.position(upload))

    async def admit(self, channel: Channel, upload_id: str, user: str) -> UploadRecord:
        """Returns an upload to which this user may send bytes now.

        Raises:
            HubError: 4003, 4018, 4021, 4022.
        """
        return taking(own(await self.records.read(channel, upload_id), user), self._clock())

    async def close(self) -> None:
        """Stops accepting chunks, and closes the store."""
        await self.sockets.close()
        await self._progress.close()
        await self.store.close()

    async def _admit_chunk(self, channel: Channel | None, upload_id: str, caller: Caller) -> UploadRecord:
        """Like `admit`; for a chunk that names no channel, it finds the channel and checks the permission as well."""
        user, tenant = caller.principal.user, caller.principal.tenant
        if channel is None:
            channel = await self.records.home(tenant, upload_id)
            if channel is None:
                raise HubError(4018, "there is no such upload")
            if not caller.principal.grants.allows(channel.wire, Action.UPLOAD):
                raise HubError(4003, "your token does not grant `upload` on this channel")
            refuse_unlisted(await self._settings.access(channel), user, Action.UPLOAD)
        upload = await self.admit(channel, upload_id, user)
        if upload.state is UploadState.REQUESTED:
            await self.records.move(upload, UploadState.UPLOADING)
        return upload

    def _note_chunk(self, upload: UploadRecord, taken: ChunkTaken) -> None:
        self._progress.report(upload, taken.next_offset)

    def now_ms(self) -> int:
        """Unix milliseconds."""
        return int(self._clock() * 1000)

    async def _append(self, draft: Draft, planned: UploadRecord) -> Appended:
        answer = await self._reserve(planned)
        if answer in _REFUSALS:
            details = (
                ErrorDetail("upload", "would be one too many")
                if answer == "open"
                else ErrorDetail("size", "is more than the space that is left"),
            )
            raise HubError(4017, _REFUSALS[answer], details=details)
        try:
            return await self._log.append(draft)
        except (GuardRefused, IdempotencyConflict):
            if answer == "new":
                await self.records.release(planned, is_kept=False)
            raise  # otherwise it may have been stored: the slot stays for a repetition of the command, or expires

    async def _reserve(self, planned: UploadRecord) -> str:
        """Reserves space in the records; returns "quota" if the file would exceed the tenant's storage quota."""
        tenant = planned.channel.tenant
        answer, stored_bytes = await self.records.reserve(
            planned, self.now_ms(), self.limits.open_max, self.limits.tenant_max_bytes
        )
        if self._quotas.quota.bytes_stored is None:
            return answer
        self._quotas.note_total(tenant, stored_bytes)
        if answer != "new" or not self._quotas.is_full(tenant):
            return answer
        self._quotas.note_total(tenant, await self.records.release(planned, is_kept=False))
        return "quota"

    async def _open(self, planned: UploadRecord, appended: Appended, resume_key: str | None) -> UploadRecord:
        """Creates the record of the requested upload, or returns the one created when the command was first sent."""
        event_ms = ms_of_id(appended.id)
        upload = replace(
            planned,
            id=file_id_of(planned.channel, appended.id),
            event_id=appended.id,
            expires_ms=event_ms + self.limits.life_s * 1000,
        )
        await self.records.watch(upload.channel, upload.event_id, upload.expires_ms)
        opened = await self.records.open(upload, resume_key, self.limits.life_s)
        if opened.state in {UploadState.READY, UploadState.FAILED}:
            await self.records.release(planned, is_kept=opened.state is UploadState.READY)
            await self.records.unwatch(upload.channel, upload.event_id)
        elif not appended.is_duplicate:
            await self.listed.put(opened)
        return opened

    async def _begin(self, upload: UploadRecord, *, is_checked: bool, handle: str = "") -> UploadRecord:
        """Starts a multipart upload in the store, if it needs one and the record still has `handle`."""
        if not upload.plan.is_multipart or upload.handle != handle or upload.state not in OPEN:
            return upload
        checked = is_checked or upload.plan.strategy is Strategy.SOCKET
        new = await self.store.begin(upload.key, upload.mime, is_checked=checked)
        if await self.records.set_handle(upload, new, is_checked=checked) is None:
            return replace(upload, handle=new, is_checked=checked)
        await self.store.abort(upload.key, new)  # another node has started one first
        return await self.records.read(upload.channel, upload.id) or upload

    async def _prefer_digests(self, upload: UploadRecord, payload: FileUploadSign) -> UploadRecord:
        """Makes the store verify each part, if the client sends digests before any part has arrived.

        The upload was started without digests, because its first URLs were signed before any was known, and
        AWS then accepts none. So it is started again. If parts have arrived already it stays as it is, and
        verification reads the bytes.
        """
        has_all = all(part.sha256 for part in payload.parts)
        if upload.is_checked:
            if not has_all:
                raise HubError(
                    4005,
                    "the parts of this upload have checksums",
                    details=(ErrorDetail("parts.sha256", "is required"),),
                )
            return upload
        if not has_all or await self.store.parts(upload.key, upload.handle):
            return upload
        old = upload.handle
        upload = await self._begin(upload, is_checked=True, handle=old)
        if upload.handle != old:
            await self.store.abort(upload.key, old)
        return upload
