"""Ends uploads: either verified and ready, or failed and removed. Any number of workers may run it, and repeat every step.

Each step is a compare-and-set on the record, or an append guarded by it. So exactly one of `file.ready` and
`file.upload.failed` is ever appended, and the bytes of a failed upload are removed before its event.
"""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Final

from hub.config import Settings
from hub.storage.choice import open_store
from hub.storage.store import ObjectStore
from hub.uploads.limits import UploadLimits, limits_of
from hub.uploads.verification import (
    NoScanner,
    Rejected,
    Scanner,
    ScanResult,
    ScanVerdict,
    UploadClaim,
    Verified,
    verify,
)
from streams.channel import Channel
from streams.cursor import ms_of_id
from streams.envelope import SYSTEM, Draft, Guard
from streams.errors import GuardRefused
from streams.events.validation import appendable
from streams.histogram import Histogram
from streams.records.upload_store import FAILED_LIFE_S, OpenUploads, UploadStore, guard_name
from streams.records.uploads import FINAL, FailReason, UploadRecord, UploadState, file_id_of, make_plan, sources
from streams.redis.log import Log

SWEEP_AFTER_MS: Final = 60_000
"""Milliseconds after the last signed URL expired until a failed upload's key is checked again, since the URL may have been used."""
VERIFY_LIFE_MS: Final = 15 * 60_000
"""Milliseconds that verification may take from its latest attempt: hashing 5 GiB takes a minute or two."""
REAPED_AT_ONCE: Final = 100
_MESSAGES: Final = {
    FailReason.CANCELLED: "the upload was cancelled",
    FailReason.EXPIRED: "the upload was not completed in time",
    FailReason.STORAGE: "the file could not be verified in time",
}


class UploadFinisher:
    """Ends uploads, each exactly once.

    Args:
        log: the log, with the records of uploads.
        store: holds the bytes.
        limits: limits on files, and the lifetime of uploads.
        scanner: scans files before they become ready.
        clock: returns Unix seconds.

    Attributes:
        ready_after: time from the request for an upload to its `file.ready`.
    """

    def __init__(
        self, log: Log, store: ObjectStore, limits: UploadLimits, scanner: Scanner, clock: Callable[[], float]
    ) -> None:
        self._log = log
        self._records = UploadStore(log)
        self._listed = OpenUploads(log)
        self._store = store
        self._limits = limits
        self._scanner = scanner
        self._clock = clock
        self.ready_after = Histogram()

    async def requested(self, channel: Channel, event_id: str, at_ms: int) -> None:
        """Watches an upload requested at `at_ms`, so that it ends even if its node died right after the request."""
        await self._records.watch(channel, event_id, at_ms + self._limits.life_s * 1000)

    async def completed(
        self, channel: Channel, upload_id: str, cause: str, sha256: str | None, parts: Mapping[int, str]
    ) -> None:
        """Verifies and scans an upload whose `file.upload.complete` was stored, and appends the outcome. May be repeated.

        The digests are the sender's claims. An upload that cannot be verified for a quarter of an hour fails
        as expired.

        Raises:
            StoreUnavailable: nothing was decided; call again later.
            LogUnavailable: nothing was decided; call again later.
        """
        upload = await self._records.read(channel, upload_id)
        if upload is None or upload.state in FINAL:
            return
        if upload.state is UploadState.FAILING:
            await self._finish_failing(upload)
        elif upload.state in {UploadState.VERIFYING, UploadState.SCANNING}:
            await self._records.watch(channel, upload.event_id, self._now_ms() + VERIFY_LIFE_MS, is_moved=True)
            await self._listed.change(upload, upload.size, UploadState.VERIFYING)
            await self._judge(replace(upload, cause=cause), UploadClaim(sha256, parts))

    async def cancelled(self, channel: Channel, upload_id: str) -> None:
        """Ends an upload whose `file.upload.cancel` was stored: removes the bytes, then appends the failure."""
        upload = await self._records.read(channel, upload_id)
        if upload is not None and upload.state is UploadState.FAILING:
            await self._finish_failing(upload)

    async def reap(self) -> int:
        """Ends uploads whose deadline has passed; returns the number examined. Every worker calls it every few seconds."""
        due = await self._records.due(self._now_ms(), REAPED_AT_ONCE)
        for channel, event_id in due:
            await self._reap_one(channel, event_id)
        return len(due)

    def _now_ms(self) -> int:
        return int(self._clock() * 1000)

    async def _judge(self, upload: UploadRecord, claim: UploadClaim) -> None:
        try:
            verified = await verify(self._store, upload, claim)
            if await self._records.move(upload, UploadState.SCANNING) is not None:
                return  # another worker has ended it meanwhile
            scan = await self._scan(upload)
        except Rejected as rejected:
            await self._fail(upload, rejected.reason, str(rejected))
        else:
            await self._make_ready(upload, verified, scan)

    async def _scan(self, upload: UploadRecord) -> ScanResult:
        scan = await self._scanner.scan(upload, self._store.read(upload.key))
        if scan.verdict is ScanVerdict.INFECTED:
            raise Rejected(FailReason.INFECTED, f"{scan.engine} rejected the file: {scan.detail}"[:500])
        return scan

    async def _make_ready(self, upload: UploadRecord, verified: Verified, scan: ScanResult) -> None:
        payload = {
            "file_id": upload.id,
            "filename": upload.filename,
            "size": upload.size,
            "mime": upload.mime,
            "detected_mime": verified.detected,
            "checksum": {
                "algorithm": "sha256",
                "type": "composite" if verified.is_composite else "full",
                "value": verified.checksum,
            },
            "scan": {"engine": scan.engine, "verdict": scan.verdict.value},
        }
        ending = _ending(upload, UploadState.READY, detected=verified.detected, cause=upload.cause)
        if await self._append(upload, "file.ready", payload, ending):
            self.ready_after.observe((self._now_ms() - ms_of_id(upload.event_id)) / 1000)
            await self._records.release(upload, is_kept=True)
            await self._records.unwatch(upload.channel, upload.event_id)

    async def _fail(self, upload: UploadRecord, reason: FailReason, message: str) -> None:
        """Records the upload as failed, unless its success was recorded before, and completes the failure."""
        failing = self._records.move(
            upload, UploadState.FAILING, reason=reason.value, message=message, cause=upload.cause
        )
        if await failing is None:
            await self._finish_failing(replace(upload, reason=reason, message=message))

    async def _finish_failing(self, upload: UploadRecord) -> None:
        # If the store is unreachable for longer than the worker retries, the reaper tries again.
        retry_ms = self._now_ms() + VERIFY_LIFE_MS
        await self._records.watch(upload.channel, upload.event_id, retry_ms, is_moved=True)
        await self._remove(upload)
        reason = upload.reason or FailReason.STORAGE
        payload = {"upload_id": upload.id, "reason": reason.value, "message": upload.message or _MESSAGES[reason]}
        ending = _ending(upload, UploadState.FAILED, FAILED_LIFE_S)
        await self._append(upload, "file.upload.failed", payload, ending)
        await self._records.release(upload, is_kept=False)
        again_ms = self._now_ms() + self._limits.url_life_s * 1000 + SWEEP_AFTER_MS
        await self._records.watch(upload.channel, upload.event_id, again_ms, is_moved=True)

    async def _remove(self, upload: UploadRecord) -> None:
        """Removes everything: the object, the parts, and multipart uploads whose handle was never recorded."""
        for pending in await self._store.pending(upload.key):
            await self._store.abort(pending.key, pending.handle)
        await self._store.delete(upload.key)

    async def _append(self, upload: UploadRecord, type_: str, payload: Mapping[str, object], ending: Guard) -> bool:
        """Appends the event that ends the upload, if the record still allows it. Later states do not list it as open."""
        await self._listed.drop(upload)
        cause = upload.cause or upload.event_id
        draft = Draft(
            upload.channel,
            type_,
            appendable(upload.channel, type_, payload).data,
            SYSTEM,
            correlation=cause,
            causation=cause,
            guards=(ending,),
            traceparent=await self._log.traceparent_of(upload.channel, cause),
        )
        try:
            await self._log.append(draft)
        except GuardRefused:
            return False
        return True

    async def _reap_one(self, channel: Channel, event_id: str) -> None:
        upload = await self._records.read(channel, file_id_of(channel, event_id))
        if upload is None:
            upload = await self._lost(channel, event_id)
        if upload is None or upload.state is UploadState.READY:
            await self._records.unwatch(channel, event_id)
        elif upload.state is UploadState.FAILED:
            await self._remove(upload)
            await self._records.unwatch(channel, event_id)
        elif upload.state is UploadState.FAILING:
            await self._finish_failing(upload)
        else:
            is_claimed = upload.state in {UploadState.VERIFYING, UploadState.SCANNING}
            reason = FailReason.STORAGE if is_claimed else FailReason.EXPIRED
            await self._fail(upload, reason, _MESSAGES[reason])

    async def _lost(self, channel: Channel, event_id: str) -> UploadRecord | None:
        """Recreates the record of an upload whose node died between event and record; returns None without the event."""
        entry = await self._log.entry(channel, event_id)
        if entry is None or entry.type != b"file.upload.request":
            return None
        return await self._records.open(_bare(channel, event_id, entry.payload), None, 1)


def _ending(upload: UploadRecord, state: UploadState, life_s: int = 0, **fields: str) -> Guard:
    """Builds the guard that allows one event to end the upload: from a state that permits it, into its final state."""
    checks = (("state", "in", sources(state)),)
    return Guard(guard_name(upload.id), checks, (("state", state.value), *fields.items()), ttl_s=life_s)


def _bare(channel: Channel, event_id: str, payload: Mapping[str, object]) -> UploadRecord:
    """Builds a record from the event alone. The slot of the upload is unknown and expires by itself."""
    size = payload["size"]
    plan = make_plan("auto", size if isinstance(size, int) else 0, takes_binary=False)
    return UploadRecord(
        id=file_id_of(channel, event_id),
        channel=channel,
        user="",
        filename=str(payload["filename"]),
        mime=str(payload["mime"]),
        plan=plan,
        event_id=event_id,
        slot="",
        expires_ms=0,
    )


REAP_EVERY_S: Final = 10.0
"""Seconds between rounds of the reaper: an abandoned upload ends at most this late."""
_log = logging.getLogger(__name__)


@asynccontextmanager
async def open_finisher(settings: Settings, log: Log, scanner: Scanner | None = None) -> AsyncIterator[UploadFinisher]:
    """Opens a worker's finisher on its log, with its own store and the reaper running."""
    store = open_store(settings)
    finisher = UploadFinisher(log, store, limits_of(settings), scanner or NoScanner(), time.time)
    reaper = log.loops.every("upload_reaper", finisher.reap, REAP_EVERY_S, first_after_s=0, retry_max_s=REAP_EVERY_S)
    try:
        yield finisher
    finally:
        await log.loops.stop(reaper)
        await store.close()
