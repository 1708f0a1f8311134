"""A conversation's settings and revision, as shared by hub and consumers: one hash per conversation.

`settings:<channel>` lives in the channel's partition and is changed only by the scripts that append:

* `revision`: raised by one with every stored `chat.configure` and `chat.branch`; `expected_revision` is compared with it.
* `agent`: answers by default. `on_busy`: default handling of a message while an answer is in progress.
* `set:<name>`: a setting for the agent, as JSON, passed to its runs when they begin.
* `access:<action>`: users who may do it in this channel, a JSON list. Every kind of channel has a revision and these.
* `told`, `told_of`: the revision announced by the newest `conversation.updated`, and the event behind it. A channel's
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
from streams.redis.looks import KeyRead

CHANGING = frozenset({"chat.configure", "chat.branch", "channel.configure"})
"""The commands that raise the revision."""
LISTED_ACTIONS = ("read", "write", "invoke", "upload")
"""The actions that an access list may narrow."""
_ACCESS_FIELDS = tuple(f"access:{action}" for action in LISTED_ACTIONS)
FOR_AGENTS = ("model", "temperature", "instructions", "tools", "approval", "language")
"""The settings an agent is told."""


def settings_guard_name(channel: Channel) -> str:
    """The hash with the conversation's revision and its agent."""
    return f"settings:{channel.wire}"


def for_agents(changes: Mapping[str, object]) -> tuple[tuple[str, str], ...]:
    """The fields that a change of settings sets in the hash; None resets one."""
    return tuple(
        (f"set:{name}", "" if changes[name] is None else json.dumps(changes[name]))
        for name in FOR_AGENTS
        if name in changes
    )


def of_agents(values: Sequence[bytes | None]) -> str:
    """The settings as one JSON object, "" when there are none; `values` are the hash's, in the order of `FOR_AGENTS`."""
    held = [f'"{name}":{value.decode()}' for name, value in zip(FOR_AGENTS, values, strict=True) if value]
    return f"{{{','.join(held)}}}" if held else ""


def members_guard_name(channel: Channel) -> str:
    """The hash with a field for each of the channel's members."""
    return f"members:{channel.wire}"


def access_sets(lists: Mapping[str, Sequence[str] | None]) -> tuple[tuple[str, str], ...]:
    """The fields that a change of access lists sets in the hash; None ends a list."""
    return tuple((f"access:{action}", "" if names is None else json.dumps(names)) for action, names in lists.items())


def access_lists(held: Sequence[bytes | None]) -> dict[str, frozenset[str]]:
    """By action, the people who may do it, from the hash's fields; an action without a list is absent."""
    listed = zip(LISTED_ACTIONS, held, strict=True)
    return {action: frozenset(json.loads(names)) for action, names in listed if names}


class Told(NamedTuple):
    """The newest `conversation.updated`: its revision, and the id of the command behind it (0 and "" if there was none)."""

    revision: int
    event: str

    def covers(self, event_id: str) -> bool:
        """True when this command, or a later one, was announced already."""
        return self.event != "" and id_order(event_id) <= id_order(self.event)


def telling(channel: Channel, told: Told, following: Told) -> Guard:
    """The guard of the `conversation.updated` that announces the change after `told`: a late writer is refused."""
    expected = str(told.revision) if told.revision else ""
    sets = (("told", str(following.revision)), ("told_of", following.event))
    return Guard(settings_guard_name(channel), checks=(("told", "eq", expected),), sets=sets)


class SettingsRecords:
    """Reads the hashes. Every method raises LogUnavailable while Redis is unreachable."""

    def __init__(self, log: Log) -> None:
        self._log = log

    async def agent(self, channel: Channel) -> str:
        """The agent that answers by default; "" when the settings name none."""
        (agent,) = await self._read(channel, "agent")
        return (agent or b"").decode()

    async def on_busy(self, channel: Channel) -> str:
        """The default of `on_busy` in this conversation; "" when the settings name none."""
        (on_busy,) = await self._read(channel, "on_busy")
        return (on_busy or b"").decode()

    async def told(self, channel: Channel) -> Told:
        """The revision that was announced last."""
        revision, event = await self._read(channel, "told", "told_of")
        return Told(int(revision or 0), (event or b"").decode())

    async def for_agents(self, channel: Channel) -> str:
        """The settings for agents, as one JSON object; "" when there are none."""
        return of_agents(await self._read(channel, *(f"set:{name}" for name in FOR_AGENTS)))

    def access_read(self, channel: Channel) -> KeyRead:
        """A read of the access lists, sent with a look; `access_lists` reads the answer."""
        return KeyRead(self._log.keys.guard(channel, settings_guard_name(channel)), "HMGET", _ACCESS_FIELDS)

    async def access(self, channel: Channel) -> dict[str, frozenset[str]]:
        """By action, the people who may do it; an action without a list is absent."""
        return access_lists(await self._read(channel, *_ACCESS_FIELDS))

    def members_read(self, channel: Channel) -> KeyRead:
        """A read of the channel's members, sent with a look."""
        return KeyRead(self._log.keys.guard(channel, members_guard_name(channel)), "HKEYS")

    async def members(self, channel: Channel) -> list[str]:
        """The channel's members by name."""
        key = self._log.keys.guard(channel, members_guard_name(channel))
        return sorted(name.decode() for name in await self._log.calls_of(channel).call("HKEYS", key))

    async def _read(self, channel: Channel, *fields: str) -> list[bytes | None]:
        key = self._log.keys.guard(channel, settings_guard_name(channel))
        values: list[bytes | None] = await self._log.calls_of(channel).call("HMGET", key, *fields)
        return values
