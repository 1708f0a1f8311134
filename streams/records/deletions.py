"""Deletes channels from Redis: the end of a channel's life in one step, the keys beside its log, and the record of it.

The events of a deleted channel wait under other keys (`DeletedKeys`) until they are archived and the deletion is on record in
`system:deletions` of the tenant. So a deletion that was cut off anywhere is found and completed by the next one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final, Protocol

from streams.channel import Channel, Kind, channel_from_path
from streams.cursor import ms_of_id
from streams.envelope import Actor, Draft, Entry
from streams.events.validation import appendable
from streams.records.runs import home_guard_name
from streams.records.scripts import load
from streams.records.upload_store import LIST_LIFE_S, UploadStore, guard_name
from streams.records.uploads import UploadRecord, UploadState
from streams.redis.calls import Calls
from streams.redis.deleted import DeletedKeys, Deletion
from streams.redis.groups import list_parked
from streams.redis.keys import DEFAULT_LIMITS
from streams.redis.log import Log
from streams.redis.server import new_epoch
from streams.times import rfc3339

DELETIONS: Final = "deletions"
"""The name of the channel, of the kind `system`."""
EVENT: Final = "operator.delete"
_DELETE: Final = load("channel_delete")
_SCAN_COUNT: Final = 1_000
_KEYS_MAX: Final = 1_000
"""Maximum number of keys that go with one script call."""
_OF_CHANNEL: Final = frozenset(
    {"run", "request", "meant", "upload-key", "home", "settings", "members", "document", "marks"}
)
"""The guards whose name goes on with the channel."""
_SEPARATORS: Final = 2
"""Colons in a channel's path."""
_OF_LOG: Final = frozenset({"", "meta", "deleted"})


def deletions_of(tenant: str) -> Channel:
    """The channel with the tenant's deletions."""
    return Channel(tenant, Kind.SYSTEM, DELETIONS)


class PagedLog(Protocol):
    """A log that is read page by page."""

    async def page(self, channel: Channel, after: str = "0") -> list[Entry]:
        """See `Log.page`."""
        ...


async def recorded_deletion(log: PagedLog, channel: Channel, deletion: Deletion) -> Entry | None:
    """The event in `system:deletions` that records this deletion; None if there is none."""
    place, after = deletions_of(channel.tenant), f"{max(0, deletion.at_ms - 1)}-0"
    while page := await log.page(place, after):
        for entry in page:
            if entry.is_damaged or entry.type != EVENT.encode():
                continue
            payload = entry.payload
            if (payload["channel"], payload["epoch"]) == (channel.wire, deletion.epoch):
                return entry
        after = page[-1].id.decode()
    return None


async def unfinished_deletions(calls: Calls) -> list[Channel]:
    """The channels on one server whose deletion is under way or was cut off. It looks at every key: 0.3 s for a million."""
    found, cursor = set[Channel](), b"0"
    while True:
        cursor, keys = await calls.call("SCAN", cursor, "MATCH", "hub:{p*}:*:deleted:meta", "COUNT", _SCAN_COUNT)
        for key in keys:
            path = key.decode().partition("}:")[2].removesuffix(":deleted:meta")
            if path.count(":") == _SEPARATORS:  # a channel may be named `deleted`
                found.add(channel_from_path(path))
        if cursor == b"0":
            return sorted(found)


class SideKeys:
    """The keys beside the logs of a tenant's channels, found by one scan.

    Attributes:
        files: the keys of the records of uploads; they do not name their channel.
        unfinished: the channels whose deletion was cut off.
    """

    def __init__(self) -> None:
        self._of: dict[str, list[bytes]] = {}
        self.files: list[bytes] = []
        self.unfinished: list[str] = []

    def take(self, key: bytes, rest: str) -> None:
        """Add a key; `rest` follows the tenant in it."""
        match rest.split(":"):
            case ["guard", "upload", _]:
                self.files.append(key)
            case ["guard", name, kind, channel, *_] if name in _OF_CHANNEL:
                self._add(kind, channel, key)
            case ["lease", kind, channel, _]:
                self._add(kind, channel, key)
            case [kind, channel, "deleted", "meta"]:
                self.unfinished.append(f"{kind}:{channel}")
            case [kind, channel, *suffix] if kind in Kind._value2member_map_ and ":".join(suffix) not in _OF_LOG:
                self._add(kind, channel, key)

    def _add(self, kind: str, name: str, key: bytes) -> None:
        self._of.setdefault(f"{kind}:{name}", []).append(key)

    def of(self, channel: Channel) -> list[bytes]:
        """The keys of one channel."""
        return self._of.get(channel.wire, [])


class Deletions:
    """Deletes channels. All methods raise LogUnavailable while Redis is unreachable, and may be repeated.

    Args:
        log: the log.
        by: who deletes.
    """

    def __init__(self, log: Log, by: str) -> None:
        self._log, self._by = log, by
        self._uploads = UploadStore(log)
        self._waiting = DeletedKeys(log.keys.partitions, log.keys.tags)

    async def side_keys(self, tenant: str) -> SideKeys:
        """The keys beside the logs of a tenant's channels. It looks at every key of Redis once: 0.3 s for a million."""
        found, seen = SideKeys(), set[bytes]()
        for _, calls in self._log.by_server():
            cursor = b"0"
            while True:
                cursor, keys = await calls.call("SCAN", cursor, "MATCH", f"hub:{{p*}}:{tenant}:*", "COUNT", _SCAN_COUNT)
                for key in keys:
                    if key not in seen:
                        seen.add(key)
                        found.take(key, key.decode().partition(f"}}:{tenant}:")[2])
                if cursor == b"0":
                    break
        return found

    async def files(self, channel: Channel, side: SideKeys) -> list[UploadRecord]:
        """The uploads and files of a channel."""
        prefix = self._log.keys.guard(channel, "upload:")
        ids = [key.removeprefix(prefix).decode() for key in side.files if key.startswith(prefix)]
        found = [await self._uploads.read(channel, one) for one in ids]
        return [upload for upload in found if upload is not None]

    async def unfinished(self, channel: Channel) -> Deletion | None:
        """The deletion of this channel that was not completed; None if there is none."""
        raw = await self._log.calls_of(channel).call("HGET", self._waiting.of(channel).meta, "deleted")
        return Deletion.parse(raw.decode()) if raw else None

    async def end_life(
        self, channel: Channel, side: Iterable[bytes], uploads: Sequence[UploadRecord]
    ) -> Deletion | None:
        """End the channel's life in one step; returns the deletion to be completed, None if nothing was written there.

        Everybody who follows it is told by their node. `uploads` that are not ready have failed from then on: no worker ends one
        by an event, which would begin the next life.
        """
        keys, calls = self._log.keys, self._log.calls_of(channel)
        names, waiting = keys.of(channel), self._waiting.of(channel)
        directory = keys.directory(names.partition, channel.tenant, channel.kind)
        of_channel = (keys.people, keys.devices, keys.statuses, keys.open_uploads, keys.snapshot)
        guards = (
            home_guard_name(channel),
            *(f"{one}:{channel.wire}" for one in ("settings", "members", "document", "marks")),
        )
        beside = [
            names.live,
            names.open,
            *(one(channel) for one in of_channel),
            *(keys.guard(channel, one) for one in guards),
        ]
        beside += [key for key in side if key not in beside]
        await self._log.look(channel)  # a stream without its meta hash gets one, so that it can be deleted
        fixed = (keys.bell(names.partition), names.stream, names.meta, waiting.stream, waiting.meta, directory)
        records = [keys.guard(channel, guard_name(one.id)) for one in uploads if one.state is not UploadState.READY]
        records = records[:_KEYS_MAX]  # the others fail once they are found again
        args = (
            new_epoch(),
            DEFAULT_LIMITS.bell_entries,
            channel.path,
            channel.name,
            self._by,
            len(records),
            LIST_LIFE_S,
        )
        await calls.run(_DELETE, (*fixed, *beside[:_KEYS_MAX], *records), *args)
        for at in range(_KEYS_MAX, len(beside), _KEYS_MAX):
            await calls.call("DEL", *beside[at : at + _KEYS_MAX])
        runs = keys.guard(channel, f"run:{channel.wire}:")
        gone = [f"{channel.path} {key.removeprefix(runs).decode()}" for key in beside if key.startswith(runs)]
        if gone:
            await calls.call("ZREM", keys.runs(names.partition), *gone)
        return await self.unfinished(channel)

    async def drop_parked(self, channel: Channel) -> None:
        """Remove the parked work of a channel."""
        keys = self._log.keys
        for row in await list_parked(keys, self._log.calls_in):
            if row.path == channel.path:
                number, _, event_id = row.id.partition(":")
                await self._log.calls_of(channel).call("XDEL", keys.parked(int(number)), event_id)

    async def drop_file(self, upload: UploadRecord, sweep_after_ms: int) -> None:
        """Remove the record of a file whose bytes are gone, and what it counts in the tenant's quota.

        The record of an upload that was not ready stays for a day, as failed: whoever has a signed URL may still send bytes, and
        the reaper looks for them after this time.
        """
        await self._uploads.release(upload, is_kept=False)
        if upload.state is UploadState.READY:
            await self._uploads.unwatch(upload.channel, upload.event_id)
            await self._uploads.drop(upload)
            return
        await self._uploads.watch(upload.channel, upload.event_id, self._log.now_ms() + sweep_after_ms, is_moved=True)

    async def give_back(self, tenant: str) -> None:
        """Give a tenant without channels back what its events counted in the quota."""
        await self._uploads.count_files_alone(tenant)

    async def fail(self, upload: UploadRecord) -> bool:
        """Let an upload fail without an event, unless it is ready. False if it became ready meanwhile, or is gone."""
        if upload.state is UploadState.READY:
            return True
        found = await self._uploads.move_to_failed(upload, LIST_LIFE_S)
        return found in {None, UploadState.FAILED.value}

    async def record(self, channel: Channel, deletion: Deletion, facts: dict[str, Any]) -> None:
        """Append the event that records the deletion, unless it was recorded before."""
        if await recorded_deletion(self._log, channel, deletion) is not None:
            return
        payload = {
            "channel": channel.wire,
            "epoch": deletion.epoch,
            "seq": deletion.seq,
            "deleted_at": rfc3339(deletion.at_ms),
            **facts,
        }
        place = deletions_of(channel.tenant)
        data = appendable(place, EVENT, payload).data
        await self._log.append(Draft(place, EVENT, data, Actor("user", deletion.by)))

    async def forget(self, channel: Channel) -> None:
        """Remove the last keys of a deletion, its events among them."""
        waiting = self._waiting.of(channel)
        await self._log.calls_of(channel).call("DEL", waiting.stream, waiting.meta)


def is_of_deleted(upload: UploadRecord, deletion: Deletion) -> bool:
    """True if the upload was begun before the deletion: one of the channel's next life stays."""
    return ms_of_id(upload.event_id) <= deletion.at_ms
