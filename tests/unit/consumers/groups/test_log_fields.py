"""The fields of a worker's log lines: the event that it handles, and the chain that led to it."""

from __future__ import annotations

from consumers.groups.handler import Source
from projections.recorded import Recorded
from streams.channel import Channel, Kind
from streams.log_context import CURRENT, current_fields
from streams.redis.groups import Work

ROOM = Channel("acme", Kind.CONVERSATION, "1")


def test_a_line_names_the_event_and_its_chain() -> None:
    """An event that was caused names its cause and the first of the chain; a first one is the first of its own."""
    work = Work(partition=3, id="7-0", path=ROOM.path, event="9-0", type="chat.message", only="")
    caused = {"causation": "8-0", "correlation": "5-0"}
    found = []
    for meta in ({}, caused):
        source = Source(ROOM, Recorded("9-0", 1, "chat.message", 1, {}, meta, {}))
        token = CURRENT.set((work, source))
        found.append(current_fields())
        CURRENT.reset(token)

    about = {"tenant": "acme", "channel": "conversation:1", "event_id": "9-0", "type": "chat.message"}
    assert about.items() <= found[0].items()
    assert (found[0]["correlation"], "causation" in found[0]) == ("9-0", False)
    assert (found[1]["correlation"], found[1]["causation"]) == ("5-0", "8-0")
