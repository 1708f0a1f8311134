"""The live part of a channel's state: what is true now and is never replayed (EVENTS 11)."""

from __future__ import annotations

import json
from typing import Any

from hub.frames import to_json
from hub.uploads.open_list import OpenUploads
from streams.channel import Channel, Kind
from streams.redis.log import Log
from streams.redis.presence import PresenceStore


class LiveStateReader:
    """Reads presence, open uploads and open answers from beside the log."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._presence = PresenceStore(log.keys, log.replay)
        self._uploads = OpenUploads(log)

    async def read(self, channel: Channel) -> bytes:
        """The live fields as one JSON object."""
        if channel.kind is Kind.USER:
            return b"{}"
        people = await self._presence.people(channel)
        live: dict[str, Any] = {"presence_count": people} if isinstance(people, int) else {
            "presence": [person._asdict() for person in people]
        }  # fmt: skip
        live["uploads"] = await self._uploads.read(channel)
        if channel.kind in {Kind.CONVERSATION, Kind.AGENT}:
            live["open_messages"] = open_messages(await self._log.replay.open_texts(channel))
        return to_json(live)


def open_messages(fields: dict[str, str]) -> list[dict[str, Any]]:
    """The answers in progress out of the fields scripts/append.lua keeps."""
    found = []
    for message_id, head in fields.items():
        if ":" in message_id:
            continue
        message = {"message_id": message_id, **json.loads(head)}
        message["text"] = fields.get(f"{message_id}:text", "")
        message["offset"] = int(fields.get(f"{message_id}:text:n", 0))
        if f"{message_id}:reasoning" in fields:
            message["reasoning"] = fields[f"{message_id}:reasoning"]
            message["reasoning_offset"] = int(fields[f"{message_id}:reasoning:n"])
        found.append(message)
    return found
