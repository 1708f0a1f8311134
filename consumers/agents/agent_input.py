"""What a run was asked: read from the event that began it, and for a regenerated answer from the one it answers."""

from __future__ import annotations

from consumers.agents.agent import AgentInput
from consumers.groups.delivery import event_at
from consumers.runs.flow import Flow
from consumers.runs.run_log import RunLog
from projections.json_value import Json, JsonObject, parse
from projections.recorded import Recorded, recorded
from streams.channel import Channel
from streams.errors import StreamsError
from streams.records.runs import event_of_run, run_of_message


class NoInput(StreamsError):
    """What the run was asked cannot be read any more."""


async def read_input(flow: Flow, writes: RunLog) -> AgentInput:
    """The input of a run.

    Raises:
        NoInput: the event that began it, or the message it regenerates, is gone.
    """
    run = writes.run
    cause = await flow.cause(writes.channel, run)
    if cause is None:
        raise NoInput("the event that began the run was trimmed away")
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
        str(asked.payload.get("text", "")), run.by, parts=_objects(asked.payload.get("parts")), settings=settings,
        metadata=_object(asked.payload.get("metadata")), parent=parent,
    )  # fmt: skip


async def _regenerated(flow: Flow, channel: Channel, message_id: str) -> tuple[Recorded, str]:
    """The event the old answer answered, and the message it hangs below."""
    run_id = run_of_message(message_id)
    old = await flow.services.store.run(channel, run_id)
    cause_id = old.cause if old else event_of_run(channel, run_id)
    entry = await event_at(flow.services.log, channel, cause_id) if cause_id else None
    if entry is None:
        raise NoInput("what the message answered was trimmed away")
    cause = recorded(entry)
    if cause.type == "chat.regenerate":
        return await _regenerated(flow, channel, str(cause.payload["message_id"]))
    parent = cause.id
    if cause.type == "chat.edit" and cause.payload.get("mode") == "replace":
        parent = str(cause.payload["message_id"])
    return cause, parent


def _invoked(cause: Recorded, by: str, settings: JsonObject) -> AgentInput:
    given = cause.payload.get("input")
    return AgentInput(
        given if isinstance(given, str) else "", by, None if isinstance(given, str) else given,
        _objects(cause.payload.get("parts")), _objects(cause.payload.get("context")),
        _objects(cause.payload.get("client_tools")), settings,
        _object(cause.payload.get("metadata")),
    )  # fmt: skip


def _object(value: Json) -> JsonObject:
    return value if isinstance(value, dict) else {}


def _objects(value: Json) -> tuple[JsonObject, ...]:
    return tuple(item for item in value if isinstance(item, dict)) if isinstance(value, list) else ()
