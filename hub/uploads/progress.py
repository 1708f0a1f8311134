"""Tells followers of a channel how far a socket upload is: at most once a second each, in the live lane, and without waiting."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Final

from streams.channel import Channel
from streams.envelope import Actor, Draft, Lane
from streams.errors import LogUnavailable
from streams.json_bytes import to_json
from streams.records.open_uploads import OpenUploads
from streams.records.upload_record import Upload
from streams.records.upload_states import UploadState
from streams.redis.log import Log

EVERY_S: Final = 1.0
_TOLD_MAX: Final = 4_096
"""Uploads whose last time is remembered; beyond it the oldest is forgotten and may be told once too often."""


def progress_json(upload: Upload, sent: int, state: UploadState) -> bytes:
    """The payload as subscribers get it."""
    payload = {
        "upload_id": upload.id, "user": upload.user, "sent": min(sent, upload.size), "total": upload.size,
        "state": state.shown,
    }  # fmt: skip
    return to_json(payload)


class ProgressTeller:
    """Appends `file.upload.progress`. One that gets lost is healed by the next, or by the event that ends the upload.

    Args:
        monotonic: seconds.
    """

    def __init__(self, log: Log, listed: OpenUploads, monotonic: Callable[[], float]) -> None:
        self._log = log
        self._listed = listed
        self._monotonic = monotonic
        self._told_at: dict[tuple[Channel, str], float] = {}
        self._listing: set[asyncio.Task[None]] = set()

    def tell(self, upload: Upload, sent: int) -> None:
        """Tell, unless it was told within the last second. The last byte is always told."""
        now, key = self._monotonic(), (upload.channel, upload.id)
        if sent < upload.size and now - self._told_at.get(key, -EVERY_S) < EVERY_S:
            return
        self._told_at.pop(key, None)
        if len(self._told_at) >= _TOLD_MAX:
            del self._told_at[next(iter(self._told_at))]
        self._told_at[key] = now
        data = progress_json(upload, sent, UploadState.UPLOADING)
        draft = Draft(upload.channel, "file.upload.progress", data, Actor("user", upload.user), Lane.LIVE)
        self._log.submit(draft, lambda _: None)
        task = asyncio.create_task(self._list(upload, sent))
        self._listing.add(task)
        task.add_done_callback(self._listing.discard)

    async def close(self) -> None:
        """Wait for what is being written down."""
        await asyncio.gather(*self._listing)

    async def _list(self, upload: Upload, sent: int) -> None:
        with contextlib.suppress(LogUnavailable):  # the next progress brings it
            await self._listed.change(upload, sent, UploadState.UPLOADING)
