"""The live fields of a channel's state, true now and never replayed (docs/protocol.md#state)."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Iterable
from typing import Any, Final

from projections.live import LIVE_TYPES, Live
from projections.recorded import recorded
from streams.channel import Channel, Kind
from streams.cursor import id_order
from streams.json_bytes import to_json
from streams.records.presence import PresenceStore, ReadMarks
from streams.records.upload_store import OpenUploads
from streams.redis.log import Log

FOLDS_MAX: Final = 1_000
"""Channels whose live lane is kept folded; each holds as much as `projections.live` lets it."""
MARKS_MAX: Final = 200
"""Read marks shown: those of the people who read furthest."""


class LiveFields:
    """Reads presence, open uploads, answers and read marks from beside the log, and the rest out of the live lane."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._presence = PresenceStore(log)
        self._marks = ReadMarks(log)
        self._uploads = OpenUploads(log)
        self._folds: OrderedDict[Channel, tuple[Live, str]] = OrderedDict()

    async def read(self, channel: Channel, now_ms: int, members: Iterable[str] = ()) -> bytes:
        """The live fields as one JSON object; `members` are those that the channel names."""
        if channel.kind is Kind.USER:
            return b"{}"
        shown: dict[str, Any] = {"uploads": await self._uploads.read(channel)}
        if channel.kind in {Kind.CONVERSATION, Kind.AGENT}:
            shown["open_messages"] = open_messages(await self._log.replay.open_texts(channel))
        shown |= (await self._fold(channel)).render(now_ms)
        if channel.kind is Kind.CONVERSATION:
            shown["read_markers"] = await self._read_markers(channel)
        if channel.kind is Kind.TEAM:
            shown["members"] = await self._presence.members(channel, now_ms, members)
        people = await self._presence.people(channel, now_ms)
        if isinstance(people, int):
            shown["presence_count"] = people
        else:
            shown["presence"] = [person._asdict() for person in people]
        return to_json(shown)

    async def _fold(self, channel: Channel) -> Live:
        """The live lane's passing types, folded on from this node's last place."""
        live, last = self._folds.pop(channel, (Live(channel.kind), ""))
        page = await self._log.replay.live_page(channel, last or "-")
        if last and page and page[0].id.decode() == last:
            page = page[1:] or await self._log.replay.live_page(channel, f"({last}")
        elif last:  # the lane was trimmed past it, or is another one: as a node that has folded nothing yet
            live, last = Live(channel.kind), ""
            page = await self._log.replay.live_page(channel)
        while page:
            for entry in page:
                if entry.type in LIVE_TYPES:
                    live.apply(recorded(entry))
            last = page[-1].id.decode()
            page = await self._log.replay.live_page(channel, f"({last}")
        self._folds[channel] = (live, last)
        if len(self._folds) > FOLDS_MAX:
            self._folds.popitem(last=False)
        return live

    async def _read_markers(self, channel: Channel) -> dict[str, str]:
        marks = await self._marks.of(channel)
        newest = sorted(marks, key=lambda user: id_order(marks[user]), reverse=True)[:MARKS_MAX]
        return {user: marks[user] for user in newest}


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
