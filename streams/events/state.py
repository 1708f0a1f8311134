"""ChannelState: what a joiner is given instead of history (EVENTS 11). Pure.

One model for all kinds of channel, with the fields of other kinds absent; how it comes to be is told in projections.
"""

from __future__ import annotations

from typing import Literal

from streams.events.declaration import Payload
from streams.events.types import Count, EventId, Int, Maybe, MessageId, Ordinal, RunId, Time
from streams.run_states import RunState


class Person(Payload):
    """Who is in a channel, and on how many devices."""

    user: str
    status: str
    devices: Count


class Member(Person):
    """A team's member, with the words beside the status."""

    message: Maybe[str] = None


class UploadProgress(Payload):
    """An upload under way, in bytes."""

    upload_id: str
    user: str
    filename: Maybe[str] = None
    sent: Count
    total: Count
    state: Literal["requested", "uploading", "verifying", "scanning", "ready", "failed"]


class Message(Payload):
    """A message of the active branch as it now is."""

    message_id: MessageId
    role: Literal["user", "assistant"]
    actor: dict[str, str]
    text: str
    parts: Maybe[list[dict[str, object]]] = None
    parent_id: str | None = None
    run_id: Maybe[RunId] = None
    revision: Count
    deleted: bool
    reactions: Maybe[dict[str, object]] = None
    finish_reason: Maybe[str] = None


class ActiveRun(Payload):
    """A run that is not final."""

    run_id: RunId
    agent: str
    state: RunState
    attempt: Count
    segment: Count
    message_id: Maybe[MessageId] = None
    started_at: Time


class OpenMessage(Payload):
    """An answer in progress. `offset` is the code points held, so the offset of the next delta to apply."""

    message_id: MessageId
    run_id: RunId
    attempt: Ordinal
    text: str
    offset: Count
    reasoning: Maybe[str] = None
    reasoning_offset: Maybe[Count] = None


class ChannelState(Payload):
    """The state of one channel: facts exact at `state_at`, the live part as of now."""

    metadata: dict[str, str]
    count: Count
    presence: Maybe[list[Person]] = None
    presence_count: Maybe[Count] = None
    uploads: Maybe[list[UploadProgress]] = None
    title: str | None = None
    settings: Maybe[dict[str, object]] = None
    revision: Maybe[Count] = None
    active_leaf: str | None = None
    messages: Maybe[list[Message]] = None
    active_runs: Maybe[list[ActiveRun]] = None
    pending_requests: Maybe[list[dict[str, object]]] = None
    open_messages: Maybe[list[OpenMessage]] = None
    typing: Maybe[list[str]] = None
    read_markers: Maybe[dict[str, EventId]] = None
    outputs: Maybe[list[dict[str, object]]] = None
    completed: Maybe[list[dict[str, object]]] = None
    activities: Maybe[list[dict[str, object]]] = None
    members: Maybe[list[Member]] = None
    mode: Literal["json", "opaque"] | None = None
    version: Maybe[Int] = None
    content: object = None
    updates_from: EventId | None = None
    cursors: Maybe[list[dict[str, object]]] = None
    notifications: Maybe[list[dict[str, object]]] = None
    unread: Maybe[Count] = None
