"""Takes apart the messages that a hub sends and checks them against the catalogue. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any

from projections.channel_state import CHANNEL_STATE
from streams.envelope import Lane
from streams.events import CATALOGUE, EventType, Payload
from streams.events.validation import InvalidPayload, validate
from streams.events.values import EventId

Json = dict[str, Any]
EVENT_FIELDS = ("id", "seq", "channel", "type", "v", "actor", "meta", "payload")
STORED_FIELDS = frozenset({"id", "seq", "duplicate", "durability"})
UNASKED = frozenset({
    "connection.error", "connection.expiring", "connection.drain", "channel.subscribed", "channel.resumed",
    "channel.unsubscribed", "file.upload.progress",
})  # fmt: skip # a table
"""Replies that may come without `re`: unsolicited ones, and those to binary chunks, which have no ID."""

_WITH_STATE = frozenset({"channel.subscribed", "channel.state"})
"""Replies with a `state`, whose fields the projections declare and not the catalogue."""


class _Event(Payload):
    """An event or signal as specified in docs/protocol.md#messages, apart from its payload."""

    id: EventId | None = None
    seq: int | None = None
    channel: str
    type: str
    v: int
    actor: dict[str, str]
    meta: dict[str, str] | None = None
    payload: dict[str, object]


def frames_of(text: str) -> Iterator[str]:
    """The messages in one text frame, each in its original form; an array is split without re-encoding."""
    if not text.startswith("["):
        yield text
        return
    decoder, at = json.JSONDecoder(), 1
    while at < len(text):
        _, end = decoder.raw_decode(text, at)
        yield text[at:end]
        at = end + 1  # skip the comma, or the bracket at the end


def problems_of(frame: Json, commands: Mapping[str, str]) -> list[str]:
    """The problems of a message from the hub.

    Args:
        frame: the parsed message.
        commands: the type of each command sent on this socket, by ID.
    """
    row = CATALOGUE.get(frame.get("type", ""))
    if row is None:
        return [f"{frame.get('type')} is in no catalogue"]
    if "re" in frame:
        return _reply_problems(frame, row, commands)
    if "actor" in frame:
        return _event_problems(frame, row)
    problems = [] if row.name in UNASKED else [f"{row.name} without re, id and actor"]
    model = CATALOGUE["file.chunk"].reply_model if row.name == "file.upload.progress" else row.model
    return problems + _payload_problems(row, model or row.model, frame["payload"])


def _reply_problems(frame: Json, row: EventType, commands: Mapping[str, str]) -> list[str]:
    problems = [f"{row.name} has {name}" for name in sorted(frame.keys() - {"type", "re", "channel", "payload"})]
    if row.name == "connection.error":
        return problems + _payload_problems(row, row.model, frame["payload"])
    asked = CATALOGUE.get(commands.get(frame["re"], ""))
    if asked is None:
        return [*problems, f"{row.name} answers {frame['re']}, which nobody sent"]
    if row.name != asked.reply:
        problems.append(f"{asked.name} is answered by {row.name} instead of {asked.reply}")
    model = asked.reply_model or CATALOGUE[asked.reply or "ack"].model
    return problems + _payload_problems(row, model, frame["payload"]) + _result_problems(asked, frame["payload"])


def _result_problems(asked: EventType, payload: Json) -> list[str]:
    """The reply to a stored command contains its position; an ack contains the declared results and nothing else."""
    given = payload.keys()
    if asked.is_stored and not given >= STORED_FIELDS:
        return [f"the reply to {asked.name} does not say where it stands: {sorted(given)}"]
    if not asked.is_stored and asked.reply == "ack" and given & STORED_FIELDS:
        return [f"the reply to {asked.name}, which is not stored, says where it stands"]
    if asked.reply == "ack" and (more := given - STORED_FIELDS - set(asked.results) - {"dropped"}):
        return [f"the ack of {asked.name} has {sorted(more)}"]
    return []


def _event_problems(frame: Json, row: EventType) -> list[str]:
    problems = _payload_problems(row, _Event, frame)
    if row.lane is Lane.CONNECTION:
        problems.append(f"{row.name} is of one connection and came as an event")
    if ("id" in frame) is not row.is_stored or ("seq" in frame) is not row.is_stored:
        problems.append(f"{row.name} of lane {row.lane} has {sorted(frame.keys() & {'id', 'seq'})}")
    if list(frame) != [name for name in EVENT_FIELDS if name in frame]:
        problems.append(f"{row.name} has its fields in another order: {list(frame)}")
    if not {"kind", "id"} <= frame["actor"].keys() <= {"kind", "id", "client"}:
        problems.append(f"{row.name} has the actor {frame['actor']}")
    if frame["channel"].partition(":")[0] not in {kind.value for kind in row.kinds}:
        problems.append(f"{row.name} in {frame['channel']}")
    return problems + _payload_problems(row, row.delivered or row.model, frame["payload"])


def _payload_problems(row: EventType, model: type[Payload], payload: Json) -> list[str]:
    try:
        validate(_with_model(row, model), payload)
        if isinstance(state := payload.get("state"), dict) and row.name in _WITH_STATE:
            validate(_with_model(row, CHANNEL_STATE), state)
    except InvalidPayload as error:
        return [f"{row.name}: {error}"]
    return []


@lru_cache(maxsize=256)
def _with_model(row: EventType, model: type[Payload]) -> EventType:
    return replace(row, model=model)
