"""Reactions to chat.message, team.activity and team.notification: notify mentioned people, teams and their members."""

from __future__ import annotations

from consumers.groups.handler import DONE, Effects, Outcome, Source, StartFrom
from streams.channel import Channel, Kind, parse_channel
from streams.errors import MalformedChannel
from streams.json_bytes import Json, JsonObject
from streams.records.settings import SettingsRecords
from streams.redis.log import Log

EXCERPT_CHARACTERS = 140
"""Maximum length of a notification's title."""


class TeamReactions:
    """Notifies mentioned people, a team about its important activities, and the team's members about its notifications."""

    name = "teams"
    types = frozenset({"chat.message", "team.activity", "team.notification"})
    start_from = StartFrom.NOW

    def __init__(self, log: Log) -> None:
        self._log = log

    async def handle(self, source: Source, effects: Effects) -> Outcome:
        """Reacts to one event."""
        if source.event.is_erased:
            return DONE
        if source.event.type == "team.activity":
            await self._activity(source, effects)
        elif source.event.type == "team.notification":
            await self._members(source, effects)
        else:
            await self._mentions(source, effects)
        return DONE

    async def _activity(self, source: Source, effects: Effects) -> None:
        """Append a notification to the team for an important activity; every member's client shows it."""
        if source.payload.get("importance") != "high":
            return
        title = f"{source.actor} {source.payload.get('verb', '')}"
        payload: JsonObject = {
            "kind": "team.activity",
            "title": title[:EXCERPT_CHARACTERS],
            "body": str(source.payload.get("summary", ""))[:1000],
            "priority": "high",
        }
        await effects.append(source.channel, "team.notification", payload)

    async def _members(self, source: Source, effects: Effects) -> None:
        """Append a team's notification to each member's inbox: once per member, even if members join meanwhile."""
        if source.channel.kind is not Kind.TEAM:
            return
        for user in await SettingsRecords(self._log).members(source.channel):
            inbox = _inbox(source.channel.tenant, user)
            if inbox is not None:
                await effects.append(inbox, "team.notification", source.payload, key=user)

    async def _mentions(self, source: Source, effects: Effects) -> None:
        for user in mentioned(source.payload.get("parts")):
            inbox = _inbox(source.channel.tenant, user)
            if inbox is None or source.is_by(user):
                continue
            payload: JsonObject = {
                "kind": "mention",
                "title": f"{source.actor} mentioned you in {source.channel.wire}"[:EXCERPT_CHARACTERS],
                "body": str(source.payload.get("text", ""))[:1000],
                "priority": "normal",
            }
            await effects.append(inbox, "team.notification", payload)


def mentioned(parts: Json) -> list[str]:
    """The users mentioned in a message's parts, each once, in order of first mention."""
    found = [
        str(part["id"])
        for part in (parts if isinstance(parts, list) else [])
        if isinstance(part, dict) and part.get("type") == "mention" and part.get("kind") == "user" and "id" in part
    ]
    return list(dict.fromkeys(found))


def _inbox(tenant: str, user: str) -> Channel | None:
    try:
        return parse_channel(tenant, f"{Kind.USER.value}:{user}")
    except MalformedChannel:
        return None
