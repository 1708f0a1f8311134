"""What was said in a channel before a run, for its agent to read."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final, Literal

from consumers.agents.said import Said
from projections.conversation import CONVERSATION
from projections.errors import BrokenEvent
from projections.message import Message
from projections.recorded import Recorded, recorded
from streams.channel import Channel
from streams.envelope import Entry
from streams.ids import id_order, ms_of_id
from streams.redis.log import Log

BRANCH_EVENTS_MAX: Final = 5_000
"""Events folded to find a branch: half a second at most. A conversation that an agent answers in is shorter."""
_SAID: Final = frozenset({b"chat.message", b"assistant.message.end"})


class Past:
    """The channel up to the event that began the run.

    Args:
        upto: that event's id.
        parent: the message the answer hangs below, and so the end of its branch.
    """

    def __init__(self, log: Log, channel: Channel, upto: str, parent: str) -> None:
        self._log, self._channel, self._upto, self._parent = log, channel, upto, parent

    async def everything(self) -> AsyncIterator[Said]:
        """Every message, oldest first; edits and deletions are not applied: it is what was said."""
        after = "0"
        while entries := await self._log.page(self._channel, after, upto=self._upto):
            after = entries[-1].id.decode()
            for entry in entries:
                if entry.type in _SAID:
                    yield _said(recorded(entry))

    async def branch(self, limit: int) -> list[Said]:
        """The last messages up to `parent`, oldest first, as they read now: edited, without deleted ones."""
        state = CONVERSATION.initial(self._channel)
        for entry in await self._recent():
            try:
                event = recorded(entry)
                state = CONVERSATION.apply(state, event)
            except BrokenEvent:
                continue
        found: list[Message] = []
        message = state.tree.messages.get(self._parent)
        if message is None:
            found = state.tree.branch(limit)
        while message is not None and len(found) < limit:
            found.insert(0, message)
            message = state.tree.messages.get(message.parent_id or "")
        return [_of_message(message) for message in found if message.text and not message.is_deleted]

    async def _recent(self) -> list[Entry]:
        entries: list[Entry] = []
        before = "+"
        while len(entries) < BRANCH_EVENTS_MAX:
            page = await self._log.replay.page_back(self._channel, before)
            if not page:
                break
            before = page[-1].id.decode()
            entries += [entry for entry in page if id_order(entry.id.decode()) <= id_order(self._upto)]
        entries.reverse()
        return entries


def _said(event: Recorded) -> Said:
    role: Literal["user", "assistant"] = "user" if event.type == "chat.message" else "assistant"
    message_id = event.id if role == "user" else str(event.payload.get("message_id"))
    return Said(message_id, role, str(event.actor.get("id", "")), str(event.payload.get("text", "")), event.at_ms)


def _of_message(message: Message) -> Said:
    role: Literal["user", "assistant"] = "user" if message.role == "user" else "assistant"
    at_ms = ms_of_id(message.message_id) if role == "user" else 0
    return Said(message.message_id, role, str(message.actor.get("id", "")), message.text, at_ms)
