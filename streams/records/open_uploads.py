"""The open uploads of a channel as its snapshot shows them (EVENTS 11, `uploads`), kept beside the channel with a TTL.

The events are the record; this is the last value of what they and the progress signals say, for who joins now.
"""

from __future__ import annotations

import json
from typing import Any, Final

from streams.channel import Channel
from streams.json_bytes import to_json
from streams.records.scripts import load
from streams.records.upload_record import Upload
from streams.records.upload_states import UploadState
from streams.redis.log import Log

LIFE_S: Final = 90_000
"""A day and an hour from the last change: the reaper ends an upload within a day."""
SHOWN_MAX: Final = 1_000
_LIST: Final = load("list")


class OpenUploads:
    """Reads and changes the list. Every method raises LogUnavailable while Redis is away."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._keys = log.keys

    async def put(self, upload: Upload) -> None:
        """List a new upload."""
        await self._change("put", upload, 0, upload.state)

    async def change(self, upload: Upload, sent: int, state: UploadState) -> None:
        """Say how far it is, if it is listed still. `sent` in bytes."""
        await self._change("change", upload, min(sent, upload.size), state)

    async def drop(self, upload: Upload) -> None:
        """It has ended."""
        await self._change("drop", upload, 0, upload.state)

    async def read(self, channel: Channel) -> list[dict[str, Any]]:
        """What the snapshot shows, by upload id."""
        rows = await self._log.calls_of(channel).call("HVALS", self._key(channel))
        shown: list[dict[str, Any]] = [json.loads(row) for row in rows[:SHOWN_MAX]]
        return sorted(shown, key=lambda upload: str(upload["upload_id"]))

    async def _change(self, how: str, upload: Upload, sent: int, state: UploadState) -> None:
        shown = {
            "upload_id": upload.id, "user": upload.user, "filename": upload.filename, "sent": sent, "total": upload.size,
            "state": state.shown,
        }  # fmt: skip
        keys = (self._key(upload.channel),)
        await self._log.calls_of(upload.channel).run(_LIST, keys, how, upload.id, to_json(shown), LIFE_S)

    def _key(self, channel: Channel) -> bytes:
        return self._keys.open_uploads(channel)
