"""Reads and changes the records of uploads: a hash each, the list of due inspections, reservations, and open uploads.

Changes are compare-and-sets, so several nodes and workers may act on the same upload.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from streams.channel import Channel, channel_from_path
from streams.json_bytes import to_json
from streams.records.scripts import load
from streams.records.uploads import FINAL, UploadRecord, UploadState, from_fields, sources
from streams.redis.calls import text_pairs
from streams.redis.keys import UPLOADS_DUE, edge_keys, upload_home, upload_ledger
from streams.redis.log import Log
from streams.redis.sights import KeyRead

FAILED_LIFE_S: Final = 86_400
"""Lifetime of a failed upload's record. The record of a successful upload is kept as long as the file."""
LIST_LIFE_S: Final = 90_000
"""Lifetime of the list of open uploads after its last change: a day and an hour, because the reaper ends an upload within a day."""
SHOWN_MAX: Final = 1_000
"""Maximum number of open uploads in a channel's state."""
SLOT_GRACE_MS: Final = 3_600_000
"""Time after an upload's deadline at which its slot expires by itself; normally the reaper frees it before that."""
_OPEN, _CHANGE, _RESERVE, _RELEASE, _LIST = (
    load(f"upload_{name}") for name in ("open", "change", "reserve", "release", "list")
)


class Due(NamedTuple):
    """An upload that is due for inspection: its channel, and the event of its request."""

    channel: Channel
    event_id: str


class Reserved(NamedTuple):
    """The outcome of a reservation.

    Attributes:
        answer: "new"; "held" if it was already reserved; "open" if the user has too many open uploads, "bytes" if the tenant
            has no room.
        stored_bytes: the total stored by the tenant, including this upload if it is new.
    """

    answer: str
    stored_bytes: int


def guard_name(upload_id: str) -> str:
    """The name of an upload's record in a guard."""
    return f"upload:{upload_id}"


class UploadStore:
    """Reads and changes the records. Every method raises LogUnavailable while Redis is unreachable."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._keys = log.keys

    def _record_key(self, channel: Channel, upload_id: str) -> bytes:
        return self._keys.guard(channel, guard_name(upload_id))

    def _resume_key(self, channel: Channel, user: str, resume_key: str) -> bytes:
        return self._keys.guard(channel, f"upload-key:{channel.wire}:{user}:{resume_key}")

    async def open(self, upload: UploadRecord, resume_key: str | None, life_s: int) -> UploadRecord:
        """Write the record unless one exists; returns the stored one."""
        keys = (
            self._record_key(upload.channel, upload.id),
            self._resume_key(upload.channel, upload.user, resume_key or ""),
        )
        flat = [item for pair in upload.to_fields().items() for item in pair]
        home = upload_home(upload.channel.tenant, upload.id)
        await self._log.calls_at(home).call("SET", home, upload.channel.path, "EX", life_s)
        calls = self._log.calls_of(upload.channel)
        is_new = await calls.run(_OPEN, keys, upload.id, life_s if resume_key else 0, *flat)
        return upload if is_new else (await self.read(upload.channel, upload.id)) or upload

    async def read(self, channel: Channel, upload_id: str) -> UploadRecord | None:
        """The upload with this id in this channel, or None."""
        raw = await self._log.calls_of(channel).call("HGETALL", self._record_key(channel, upload_id))
        if not raw:
            return None
        upload = from_fields(upload_id, text_pairs(raw))
        return upload if upload.channel == channel else None

    async def find(self, channel: Channel, user: str, resume_key: str) -> UploadRecord | None:
        """Find the user's upload in this channel that was requested with this `resume_key`; None if there is none."""
        upload_id = await self._log.calls_of(channel).call("GET", self._resume_key(channel, user, resume_key))
        return await self.read(channel, upload_id.decode()) if upload_id else None

    async def home(self, tenant: str, upload_id: str) -> Channel | None:
        """The channel of the open upload with this ID; None if there is none."""
        key = upload_home(tenant, upload_id)
        path = await self._log.calls_at(key).call("GET", key)
        return channel_from_path(path.decode()) if path else None

    async def move(self, upload: UploadRecord, state: UploadState, life_s: int = 0, **fields: str) -> str | None:
        """Change the state if the current one allows it. Returns None on success, otherwise the current state."""
        fields["state"] = state.value
        return await self._change(upload, "state", sources(state), life_s, fields)

    async def move_to_failed(self, upload: UploadRecord, life_s: int) -> str | None:
        """Let an upload of a deleted channel fail, from whatever state but ready; returns as `move` does."""
        allowed = ",".join(one for one in UploadState if one not in FINAL)
        return await self._change(upload, "state", allowed, life_s, {"state": UploadState.FAILED.value})

    async def set_handle(self, upload: UploadRecord, handle: str, *, is_checked: bool) -> str | None:
        """Store the handle of the multipart upload unless another one was stored first.

        Returns None on success, otherwise the stored handle.
        """
        fields = {"handle": handle, "is_checked": str(int(is_checked))}
        return await self._change(upload, "handle", upload.handle, 0, fields)

    async def _change(
        self, upload: UploadRecord, field: str, allowed: str, life_s: int, fields: dict[str, str]
    ) -> str | None:
        key = self._record_key(upload.channel, upload.id)
        flat = [item for pair in fields.items() for item in pair]
        present = await self._log.calls_of(upload.channel).run(_CHANGE, (key,), field, allowed, life_s, *flat)
        return None if present is None else present.decode()

    async def reserve(self, upload: UploadRecord, now_ms: int, open_max: int, tenant_max_bytes: int) -> Reserved:
        """Reserve a slot of the user and bytes of the tenant for this upload."""
        lapses_ms = upload.expires_ms + SLOT_GRACE_MS
        args: list[str | int] = [upload.user, upload.slot, now_ms, lapses_ms, open_max, upload.size, tenant_max_bytes]
        keys = upload_ledger(upload.channel.tenant, upload.user)
        answer, change = await self._log.calls_at(keys[0]).run(_RESERVE, keys, *args)
        return Reserved(answer.decode(), await self._weigh(upload, change))

    async def release(self, upload: UploadRecord, *, is_kept: bool) -> int:
        """Free the slot, and the bytes unless the file is kept. Returns the tenant's stored bytes. Repeating it has no effect."""
        keys = upload_ledger(upload.channel.tenant, upload.user)
        freed = await self._log.calls_at(keys[0]).run(_RELEASE, keys, upload.user, upload.slot, int(is_kept))
        return await self._weigh(upload, -freed)

    async def drop(self, upload: UploadRecord) -> None:
        """Remove the record of an upload."""
        home = upload_home(upload.channel.tenant, upload.id)
        await self._log.calls_at(home).call("DEL", home)
        await self._log.calls_of(upload.channel).call("DEL", self._record_key(upload.channel, upload.id))

    async def _weigh(self, upload: UploadRecord, change_bytes: int) -> int:
        """Add to the total of all bytes that the tenant has stored, events included, which HUB_QUOTA_BYTES bounds.

        This cannot share a script with the reservation, because the two lie in different slots: a process that dies between the
        two leaves the total off by one file.
        """
        tenant = upload.channel.tenant
        key = edge_keys().bytes_stored
        total = await self._log.calls_at(key).call("HINCRBY", key, tenant, change_bytes)
        return int(total)

    async def count_files_alone(self, tenant: str) -> None:
        """Let the total of the tenant's bytes be those of its uploads and files: its channels, which it counted, were deleted."""
        ledger, key = upload_ledger(tenant, ""), edge_keys().bytes_stored
        total = await self._log.calls_at(ledger.total).call("GET", ledger.total)
        if await self._log.calls_at(key).call("HEXISTS", key, tenant):
            await self._log.calls_at(key).call("HSET", key, tenant, int(total or 0))

    async def watch(self, channel: Channel, event_id: str, at_ms: int, *, is_moved: bool = False) -> None:
        """Schedule an inspection of an upload. An existing schedule is kept unless `is_moved`."""
        member = f"{channel.path} {event_id}"
        await self._log.calls_at(UPLOADS_DUE).call("ZADD", UPLOADS_DUE, *(() if is_moved else ("NX",)), at_ms, member)

    async def unwatch(self, channel: Channel, event_id: str) -> None:
        """Cancel the scheduled inspection."""
        await self._log.calls_at(UPLOADS_DUE).call("ZREM", UPLOADS_DUE, f"{channel.path} {event_id}")

    async def due(self, now_ms: int, limit: int) -> list[Due]:
        """The uploads due for inspection, longest due first. They stay on the list until `unwatch`."""
        rows = await self._log.calls_at(UPLOADS_DUE).call("ZRANGEBYSCORE", UPLOADS_DUE, 0, now_ms, "LIMIT", 0, limit)
        found = (row.decode().rpartition(" ") for row in rows)
        return [Due(channel_from_path(path), event_id) for path, _, event_id in found]


def shown_uploads(rows: Sequence[bytes]) -> list[dict[str, Any]]:
    """Parse a channel's open uploads, sorted by upload ID."""
    shown: list[dict[str, Any]] = [json.loads(row) for row in rows[:SHOWN_MAX]]
    return sorted(shown, key=lambda upload: str(upload["upload_id"]))


class OpenUploads:
    """A channel's open uploads as its state shows them; both events and progress messages change them.

    Every method raises LogUnavailable while Redis is unreachable.
    """

    def __init__(self, log: Log) -> None:
        self._log = log
        self._keys = log.keys

    async def put(self, upload: UploadRecord) -> None:
        """Add a new upload to the list."""
        await self._change("put", upload, 0, upload.state)

    async def change(self, upload: UploadRecord, sent: int, state: UploadState) -> None:
        """Update the upload's progress if it is still listed. `sent` is in bytes."""
        await self._change("change", upload, min(sent, upload.size), state)

    async def drop(self, upload: UploadRecord) -> None:
        """Remove an upload from the list, because it has ended."""
        await self._change("drop", upload, 0, upload.state)

    def key_read(self, channel: Channel) -> KeyRead:
        """The command that reads the channel's open uploads, for `Replay.sight`; `shown_uploads` parses the reply."""
        return KeyRead(self._key(channel), "HVALS")

    async def _change(self, how: str, upload: UploadRecord, sent: int, state: UploadState) -> None:
        shown = {
            "upload_id": upload.id,
            "user": upload.user,
            "filename": upload.filename,
            "sent": sent,
            "total": upload.size,
            "state": state.shown,
        }
        keys = (self._key(upload.channel),)
        await self._log.calls_of(upload.channel).run(_LIST, keys, how, upload.id, to_json(shown), LIST_LIFE_S)

    def _key(self, channel: Channel) -> bytes:
        return self._keys.open_uploads(channel)
