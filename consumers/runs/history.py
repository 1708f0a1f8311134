"""The channel's history before a run, for its agent: the input that began the run, and the earlier messages."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final, Literal

from consumers.agents.agent import AgentInput, PastMessage
from consumers.runs.flow import Flow
from consumers.runs.run_log import RunLog
from projections.conversation import CONVERSATION
from projections.errors import BrokenEvent
from projections.message import Message
from projections.recorded import Recorded, recorded
from streams.channel import Channel
from streams.cursor import id_order, ms_of_id
from streams.envelope import Entry
from streams.errors import StreamsError
from streams.json_bytes import Json, JsonObject, parse
from streams.records.runs import event_of_run, run_of_message
from streams.redis.log import Log

BRANCH_EVENTS_MAX: Final = 5_000
"""Maximum number of events folded to find a branch: half a second at most. Conversations with agents are normally shorter."""
_MESSAGES: Final = frozenset({b"chat.message", b"assistant.message.end"})


class PastMessages:
    """The channel's messages up to the event that began the run.

    Args:
        log: the log.
        channel: the run's channel.
        upto: the ID of the event that began the run.
        parent: the ID of the message that the answer replies to, which is the end of its branch.
    """

    def __init__(self, log: Log, channel: Channel, upto: str, parent: str) -> None:
        self._log, self._channel, self._upto, self._parent = log, channel, upto, parent

    async def all_messages(self) -> AsyncIterator[PastMessage]:
        """Every message, oldest first, as originally sent: edits and deletions are not applied, erased ones are left out."""
        after = "0"
        while entries := await self._log.page(self._channel, after, upto=self._upto):
            after = entries[-1].id.decode()
            for entry in entries:
                if entry.type in _MESSAGES and not entry.is_erased:
                    yield _as_sent(recorded(entry))

    async def branch(self, limit: int) -> list[PastMessage]:
        """The last messages up to `parent`, oldest first, with edits applied and deleted messages omitted."""
        state = CONVERSATION.initial(self._channel)
        for entry in await self._recent():
            try:
                event = recorded(entry)
                CONVERSATION.apply(state, event)
            except BrokenEvent:
                continue
        found: list[Message] = []
        message = state.tree.messages.get(self._parent)
        if message is None:
            found = state.tree.branch(limit)
        while message is not None and len(found) < limit:
            found.insert(0, message)
            message = state.tree.messages.get(message.parent_id or "")
        return [_as_edited(message) for message in found if message.text and not message.is_deleted]

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


def _as_sent(event: Recorded) -> PastMessage:
    role: Literal["user", "assistant"] = "user" if event.type == "chat.message" else "assistant"
    message_id = event.id if role == "user" else str(event.payload.get("message_id"))
    return PastMessage(
        message_id, role, str(event.actor.get("id", "")), str(event.payload.get("text", "")), event.at_ms
    )


def _as_edited(message: Message) -> PastMessage:
    role: Literal["user", "assistant"] = "user" if message.role == "user" else "assistant"
    at_ms = ms_of_id(message.message_id) if role == "user" else 0
    return PastMessage(message.message_id, role, str(message.actor.get("id", "")), message.text, at_ms)


class NoInput(StreamsError):
    """The input of the run is no longer in the log."""


async def read_input(flow: Flow, writes: RunLog) -> AgentInput:
    """Read the input of a run from the log.

    Raises:
        NoInput: the event that began it, or the message that it regenerates, was trimmed.
    """
    run = writes.run
    cause = await flow.cause(writes.channel, run)
    if cause is None:
        raise NoInput("the event that began the run was trimmed away")
    if cause.is_erased:
        raise NoInput("the event that began the run was erased")
    settings = _object(parse(run.settings.encode())) if run.settings else {}
    settings |= _object(cause.payload.get("settings"))
    if cause.type == "agent.invoke":
        return _invoked(cause, run.by, settings)
    asked, parent = cause, cause.id
    if cause.type == "chat.regenerate":
        asked, parent = await _regenerated(flow, writes.channel, str(cause.payload["message_id"]))
    elif cause.type == "chat.edit" and cause.payload.get("mode") == "replace":
        parent = str(cause.payload["message_id"])
    return AgentInput(
        str(asked.payload.get("text", "")),
        run.by,
        parts=_objects(asked.payload.get("parts")),
        settings=settings,
        metadata=_object(asked.payload.get("metadata")),
        parent=parent,
    )


async def _regenerated(flow: Flow, channel: Channel, message_id: str) -> tuple[Recorded, str]:
    """The event that the old answer replied to, and the parent of that answer."""
    run_id = run_of_message(message_id)
    old = await flow.parts.store.run(channel, run_id)
    cause_id = old.cause if old else event_of_run(channel, run_id)
    entry = await flow.parts.log.entry(channel, cause_id) if cause_id else None
    if entry is None:
        raise NoInput("the event that the answer replied to was trimmed away")
    cause = recorded(entry)
    if cause.is_erased:
        raise NoInput("the event that the answer replied to was erased")
    if cause.type == "chat.regenerate":
        return await _regenerated(flow, channel, str(cause.payload["message_id"]))
    parent = cause.id
    if cause.type == "chat.edit" and cause.payload.get("mode") == "replace":
        parent = str(cause.payload["message_id"])
    return cause, parent


def _invoked(cause: Recorded, by: str, settings: JsonObject) -> AgentInput:
    given = cause.payload.get("input")
    return AgentInput(
        given if isinstance(given, str) else "",
        by,
        None if isinstance(given, str) else given,
        _objects(cause.payload.get("parts")),
        _objects(cause.payload.get("context")),
        _objects(cause.payload.get("client_tools")),
        settings,
        _object(cause.payload.get("metadata")),
    )


def _object(value: Json) -> JsonObject:
    return value if isinstance(value, dict) else {}


def _objects(value: Json) -> tuple[JsonObject, ...]:
    return tuple(item for item in value if isinstance(item, dict)) if isinstance(value, list) else ()
