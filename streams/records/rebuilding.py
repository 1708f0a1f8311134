"""Rebuilds the records beside a channel's log from its events, and writes them for a channel that is restored from the archive.

Settings, access lists, members, documents and files are what the append script would have stored with each event. Runs, read
marks and command ids are not rebuilt.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from streams.archive.manifest import Manifest
from streams.channel import Channel
from streams.envelope import Entry
from streams.records.settings import CHANGING, access_sets, for_agents, members_guard_name, settings_guard_name
from streams.records.upload_store import guard_name
from streams.records.uploads import UploadRecord, UploadState, file_id_of, make_plan
from streams.redis.log import Log
from streams.redis.wire import Argument

_CHUNK: Final = 500
"""Number of fields and values in one command."""


class RebuiltRecords:
    """The records of one channel, as its events go by in order.

    Attributes:
        hashes: for each guard's name, its fields.
    """

    def __init__(self, channel: Channel) -> None:
        self.hashes: dict[str, dict[str, str]] = {}
        self._channel = channel
        self._requested: dict[str, tuple[str, str, dict[str, Any]]] = {}

    def take(self, entry: Entry) -> None:
        """Take the next event."""
        type_ = entry.type.decode()
        if type_ in CHANGING:
            self._configure(type_, entry.payload)
        elif type_ in {"conversation.updated", "channel.updated"}:
            cause = json.loads(entry.meta).get("causation", "")
            self._of(settings_guard_name(self._channel)).update(told=str(entry.payload["revision"]), told_of=cause)
        elif type_ == "document.update":
            held = self._of(f"document:{self._channel.wire}")
            held["mode"] = "opaque" if entry.payload.get("patch") is None else "json"
            held["version"] = str(int(held.get("version", "0")) + 1)
        elif type_ == "file.upload.request":
            event_id, who = entry.id.decode(), json.loads(entry.actor)["id"]
            self._requested[file_id_of(self._channel, event_id)] = (event_id, who, entry.payload)
        elif type_ == "file.upload.failed":
            self._requested.pop(str(entry.payload["upload_id"]), None)
        elif type_ == "file.ready":
            self._file(entry.payload)

    def _of(self, name: str) -> dict[str, str]:
        return self.hashes.setdefault(name, {})

    def _configure(self, type_: str, payload: dict[str, Any]) -> None:
        held = self._of(settings_guard_name(self._channel))
        held["revision"] = str(int(held.get("revision", "0")) + 1)
        if type_ == "channel.configure":
            held.update(access_sets(payload.get("access") or {}))
            members, change = self._of(members_guard_name(self._channel)), payload.get("members") or {}
            members.update(dict.fromkeys(change.get("add", ()), "1"))
            for name in change.get("remove", ()):
                members.pop(name, None)
        elif type_ == "chat.configure":
            settings = payload.get("settings", {})
            if "agent" in settings:
                held["agent"] = "" if settings["agent"] in {None, "none"} else str(settings["agent"])
            if "on_busy" in settings:
                held["on_busy"] = settings["on_busy"] or ""
            held.update(for_agents(settings))

    def _file(self, payload: dict[str, Any]) -> None:
        asked = self._requested.pop(str(payload["file_id"]), None)
        if asked is None:
            return
        event_id, who, request = asked
        size = int(payload["size"])
        upload = UploadRecord(
            id=str(payload["file_id"]), channel=self._channel, user=who, filename=str(payload["filename"]),
            mime=str(payload["mime"]), plan=make_plan("auto", size, takes_binary=False), event_id=event_id, slot="",
            expires_ms=0, sha256=request.get("sha256"), state=UploadState.READY, detected=str(payload["detected_mime"]),
        )  # fmt: skip # in the order of the fields
        self.hashes[guard_name(upload.id)] = {name: str(value) for name, value in upload.to_fields().items()}


class RestoredChannels:
    """Writes these records. All methods raise LogUnavailable while Redis is unreachable, and may be repeated."""

    def __init__(self, log: Log) -> None:
        self._log = log

    async def put_record(self, channel: Channel, name: str, fields: Mapping[str, str]) -> None:
        """Write a hash beside the log, named as its guard is."""
        key, calls = self._log.keys.guard(channel, name), self._log.calls_of(channel)
        flat = [item for pair in fields.items() for item in pair]
        commands: list[tuple[Argument, ...]] = [("DEL", key)]
        commands += [("HSET", key, *flat[at : at + _CHUNK]) for at in range(0, len(flat), _CHUNK)]
        await calls.pipeline(commands)

    async def begin(self, channel: Channel, epoch: str, manifest: Manifest, *, is_covered: bool) -> None:
        """Write the channel's meta hash, and its stream, which is empty and goes on after the newest archived event.

        `is_covered` is true if a checkpoint covers the archived events in this epoch.
        """
        names, upto = self._log.keys.of(channel), manifest.upto
        directory = self._log.keys.directory(names.partition, channel.tenant, channel.kind)
        floor = ("floor_id", upto.id, "floor_seq", upto.seq)
        fields = ("epoch", epoch, "seq", upto.seq, *floor, "archive", str(manifest.mark), "listed", self._log.now_ms())
        covered = ("covered", f"{upto.id} {upto.seq}") if is_covered else ()
        erased = ("erased", manifest.removed.seq) if manifest.removed.seq else ()
        await self._log.calls_of(channel).transaction(
            (
                ("DEL", names.stream),
                ("XADD", names.stream, upto.id, "seq", upto.seq),
                ("XTRIM", names.stream, "MAXLEN", 0),
                ("HSET", names.meta, *fields, *covered, *erased),
                ("ZADD", directory, 0, channel.name),
            )
        )
