"""The settings and the revision of a channel, as hub and consumers share them: one hash per channel.

`settings:<channel>` lies in the channel's partition and is changed only by the scripts that append. Its fields:

* `revision`: increased by one by every `chat.configure`, `chat.branch` and `channel.configure`; `expected_revision` is compared
  with it.
* `agent`: the agent that answers by default. `on_busy`: default handling of a message while an answer is in progress.
* `set:<name>`: a setting for the agent, as JSON, passed to its runs when they begin.
* `access:<action>`: the users who may perform the action in this channel, as a JSON list; in channels of every kind.
* `told`, `told_of`: the revision announced by the newest `conversation.updated`, and the event that caused it. A channel's
  commands are handled in order, so the next one announces `told` + 1.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from streams.channel import Channel
from streams.cursor import id_order
from streams.envelope import Guard
from streams.redis.log import Log
from streams.redis.sights import KeyRead

CHANGING = frozenset({"chat.configure", "chat.branch", "channel.configure"})
"""The commands that increase the revision."""
LISTED_ACTIONS = ("read", "write", "invoke", "upload")
"""The actions that an access list can restrict."""
_ACCESS_FIELDS = tuple(f"access:{action}" for action in LISTED_ACTIONS)
FOR_AGENTS = ("model", "temperature", "instructions", "tools", "approval", "language")
"""The settings that are passed to agents."""


def settings_guard_name(channel: Channel) -> str:
    """The name of the guard hash with the channel's revision and settings."""
    return f"settings:{channel.wire}"


def for_agents(changes: Mapping[str, object]) -> tuple[tuple[str, str], ...]:
    """The hash fields that a change of settings sets; the value None resets a setting."""
    return tuple(
        (f"set:{name}", "" if changes[name] is None else json.dumps(changes[name]))
        for name in FOR_AGENTS
        if name in changes
    )


def of_agents(values: Sequence[bytes | None]) -> str:
    """The settings as one JSON object, or "" if there are none; `values` are the hash's fields in the order of `FOR_AGENTS`."""
    held = [f'"{name}":{value.decode()}' for name, value in zip(FOR_AGENTS, values, strict=True) if value]
    return f"{{{','.join(held)}}}" if held else ""


def members_guard_name(channel: Channel) -> str:
    """The name of the guard hash with one field for each member of the channel."""
    return f"members:{channel.wire}"


def access_sets(lists: Mapping[str, Sequence[str] | None]) -> tuple[tuple[str, str], ...]:
    """The hash fields that a change of access lists sets; None removes a list."""
    return tuple((f"access:{action}", "" if names is None else json.dumps(names)) for action, names in lists.items())


def access_lists(held: Sequence[bytes | None]) -> dict[str, frozenset[str]]:
    """For each action with an access list, the users on it, read from the hash's fields."""
    if not any(held):  # most channels have none
        return {}
    listed = zip(LISTED_ACTIONS, held, strict=True)
    return {action: frozenset(json.loads(names)) for action, names in listed if names}


class Told(NamedTuple):
    """The newest `conversation.updated`: its revision, and the ID of the command that caused it (0 and "" if there is none)."""

    revision: int
    event: str

    def covers(self, event_id: str) -> bool:
        """True if this command, or a later one, has already been announced."""
        return self.event != "" and id_order(event_id) <= id_order(self.event)


def telling(channel: Channel, told: Told, following: Told) -> Guard:
    """The guard of the `conversation.updated` that announces the change following `told`; it refuses a writer that is too late."""
    expected = str(told.revision) if told.revision else ""
    sets = (("told", str(following.revision)), ("told_of", following.event))
    return Guard(settings_guard_name(channel), checks=(("told", "eq", expected),), sets=sets)


class SettingsRecords:
    """Reads the settings. Every method raises LogUnavailable while Redis is unreachable."""

    def __init__(self, log: Log) -> None:
        self._log = log

    async def agent(self, channel: Channel) -> str:
        """The agent that answers by default; "" if the settings name none."""
        (agent,) = await self._read(channel, "agent")
        return (agent or b"").decode()

    async def on_busy(self, channel: Channel) -> str:
        """The conversation's default for `on_busy`; "" if the settings name none."""
        (on_busy,) = await self._read(channel, "on_busy")
        return (on_busy or b"").decode()

    async def told(self, channel: Channel) -> tuple[Told, int]:
        """The newest revision that was announced, with the command that caused it; and the newest revision there is."""
        announced, event, newest = await self._read(channel, "told", "told_of", "revision")
        return Told(int(announced or 0), (event or b"").decode()), int(newest or 0)

    async def for_agents(self, channel: Channel) -> str:
        """The settings for agents, as one JSON object; "" if there are none."""
        return of_agents(await self._read(channel, *(f"set:{name}" for name in FOR_AGENTS)))

    def access_read(self, channel: Channel) -> KeyRead:
        """The command that reads the access lists, for `Replay.sight`; `access_lists` parses the reply."""
        return KeyRead(self._log.keys.guard(channel, settings_guard_name(channel)), "HMGET", _ACCESS_FIELDS)

    async def access(self, channel: Channel) -> dict[str, frozenset[str]]:
        """For each action with an access list, the users on it."""
        return access_lists(await self._read(channel, *_ACCESS_FIELDS))

    def members_read(self, channel: Channel) -> KeyRead:
        """The command that reads the channel's members, for `Replay.sight`."""
        return KeyRead(self._log.keys.guard(channel, members_guard_name(channel)), "HKEYS")

    async def members(self, channel: Channel) -> list[str]:
        """The channel's members, sorted by name."""
        key = self._log.keys.guard(channel, members_guard_name(channel))
        return sorted(name.decode() for name in await self._log.calls_of(channel).call("HKEYS", key))

    async def _read(self, channel: Channel, *fields: str) -> list[bytes | None]:
        key = self._log.keys.guard(channel, settings_guard_name(channel))
        values: list[bytes | None] = await self._log.calls_of(channel).call("HMGET", key, *fields)
        return values
