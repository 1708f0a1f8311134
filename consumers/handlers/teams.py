"""What follows for people's inboxes: mentions in messages, and what a team marks as important."""

from __future__ import annotations

from consumers.groups.handler import DONE, Effects, Outcome, Source, StartFrom
from streams.channel import Channel, Kind, parse_channel
from streams.errors import MalformedChannel
from streams.json_bytes import Json, JsonObject

EXCERPT_CHARACTERS = 140
"""What an inbox shows of a message: the limit of a notification's title."""


class TeamReactions:
    """Notifies those who are meant: mentioned people, and the members a team's metadata names for important activity."""

    name = "teams"
    types = frozenset({"chat.message", "team.activity"})
    start_from = StartFrom.NOW

    async def handle(self, source: Source, effects: Effects) -> Outcome:
        """React to one event."""
        if source.event.type == "team.activity":
            await self._activity(source, effects)
        else:
            await self._mentions(source, effects)
        return DONE

    async def _activity(self, source: Source, effects: Effects) -> None:
        """Important activity is a notification of the team, which every member's client shows."""
        if source.payload.get("importance") != "high":
            return
        title = f"{source.actor} {source.payload.get('verb', '')}"
        payload: JsonObject = {
            "kind": "team.activity", "title": title[:EXCERPT_CHARACTERS],
            "body": str(source.payload.get("summary", ""))[:1000], "priority": "high",
        }  # fmt: skip
        await effects.append(source.channel, "team.notification", payload)

    async def _mentions(self, source: Source, effects: Effects) -> None:
        for user in mentioned(source.payload.get("parts")):
            inbox = _inbox(source.channel.tenant, user)
            if inbox is None or user == source.actor:
                continue
            payload: JsonObject = {
                "kind": "mention", "title": f"{source.actor} mentioned you in {source.channel.wire}"[:EXCERPT_CHARACTERS],
                "body": str(source.payload.get("text", ""))[:1000], "priority": "normal",
            }  # fmt: skip
            await effects.append(inbox, "team.notification", payload)


def mentioned(parts: Json) -> list[str]:
    """The people a message's parts mention, each once, in their order."""
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
