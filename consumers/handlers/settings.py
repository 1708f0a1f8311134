"""Reactions to changes of settings: append `conversation.updated` or `channel.updated` with changes, author and revision."""

from __future__ import annotations

from typing import Final

from consumers.groups.handler import DONE, Effects, Outcome, Retry, Source, StartFrom
from projections.recorded import object_field, text
from streams.errors import GuardRefused
from streams.json_bytes import JsonObject
from streams.records.settings import CHANGING, SettingsRecords, Told, telling
from streams.redis.log import Log


class SettingsReactions:
    """Appends an update event for each change of a channel's settings."""

    name: Final = "settings"
    types: Final = CHANGING
    start_from: Final = StartFrom.NOW

    def __init__(self, log: Log) -> None:
        self._log = log

    async def handle(self, source: Source, effects: Effects) -> Outcome:
        """Append the update event for one change, unless it was appended before."""
        told, newest = await SettingsRecords(self._log).told(source.channel)
        if told.covers(source.id):
            return DONE
        revision = newest if newest == told.revision + 1 else await self._revision(source, told)
        name = "channel.updated" if source.event.type == "channel.configure" else "conversation.updated"
        payload: JsonObject = {"revision": revision, "changes": changes_of(source), "by": source.actor}
        guard = telling(source.channel, told, Told(revision, source.id))
        try:
            await effects.append(source.channel, name, payload, guards=(guard,))
        except GuardRefused:
            return Retry("another worker appended a change meanwhile")
        return DONE

    async def _revision(self, source: Source, told: Told) -> int:
        """The revision after this change; earlier changes count too, even those that were parked and never announced."""
        count, before = 1, source.id
        while page := await self._log.replay.page_back(source.channel, before):
            before = page[-1].id.decode()
            for entry in page:
                if entry.id.decode() == told.event:
                    return told.revision + count
                count += entry.type.decode() in CHANGING
        return max(count, told.revision + 1)  # the announced change itself may have been trimmed


def changes_of(source: Source) -> JsonObject:
    """The `changes` of an update event; null where a setting was reset."""
    if source.event.type == "channel.configure":
        return {name: value for name, value in source.payload.items() if name != "if_revision"}
    if source.event.type == "chat.branch":
        return {"active_leaf": text(source.event, "leaf_id")}
    settings = dict(object_field(source.event, "settings"))
    changes: JsonObject = {"title": settings.pop("title")} if "title" in settings else {}
    return changes | {"settings": settings} if settings else changes
