"""What the edge and the consumers must agree on about a conversation's revision: one hash a conversation. Pure.

`settings:<channel>` lives in the channel's partition and is changed only by the scripts that append:

* `revision`: raised by one with every stored `chat.configure` and `chat.branch`; `expected_revision` is compared with it.
* `agent`: who answers by default. `on_busy`: what a message does by default while an answer is under way.
* `set:<name>`: a setting that is the agent's business, as JSON: what its runs are given when they begin.
* `told`, `told_of`: the revision that the newest `conversation.updated` told, and the event it was told of. A channel's
  commands are handled in their order, so the next one brings `told` + 1.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from streams.channel import Channel
from streams.envelope import Guard
from streams.ids import id_order

CHANGING = frozenset({"chat.configure", "chat.branch"})
"""The commands that raise the revision."""
FOR_AGENTS = ("model", "temperature", "instructions", "tools", "approval", "language")
"""The settings an agent is told."""


def settings_guard_name(channel: Channel) -> str:
    """The hash with the conversation's revision and its agent."""
    return f"settings:{channel.wire}"


def for_agents(changes: Mapping[str, object]) -> tuple[tuple[str, str], ...]:
    """What a change of settings sets in the hash; None resets one."""
    return tuple(
        (f"set:{name}", "" if changes[name] is None else json.dumps(changes[name]))
        for name in FOR_AGENTS
        if name in changes
    )


def of_agents(values: Sequence[bytes | None]) -> str:
    """The settings as one JSON object, "" when there are none. `values` are the hash's, in the order of `FOR_AGENTS`."""
    held = [f'"{name}":{value.decode()}' for name, value in zip(FOR_AGENTS, values, strict=True) if value]
    return f"{{{','.join(held)}}}" if held else ""


class Told(NamedTuple):
    """What was told last: the revision, and the id of the command that brought it (0 and "" if nothing was)."""

    revision: int
    event: str

    def covers(self, event_id: str) -> bool:
        """Whether this command, or a later one, was told already."""
        return self.event != "" and id_order(event_id) <= id_order(self.event)


def read_told(revision: bytes | None, event: bytes | None) -> Told:
    """The fields `told` and `told_of` as the hash holds them."""
    return Told(int(revision or 0), (event or b"").decode())


def telling(channel: Channel, told: Told, following: Told) -> Guard:
    """The guard of the `conversation.updated` that tells the change after `told`: whoever is late is refused."""
    expected = str(told.revision) if told.revision else ""
    sets = (("told", str(following.revision)), ("told_of", following.event))
    return Guard(settings_guard_name(channel), checks=(("told", "eq", expected),), sets=sets)
