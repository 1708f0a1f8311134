"""The payloads of chat.*, message.* and conversation.* (docs/events.md#chat): messages and settings of a conversation. Pure."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Literal

from pydantic import Field, model_validator

from streams.channel import Kind
from streams.envelope import Lane
from streams.events.connection import Stored
from streams.events.declaration import Action, Direction, EventType, Payload, broken
from streams.events.values import (
    Count,
    InParts,
    Maybe,
    MessageId,
    Meta,
    ModelSettings,
    Name,
    OnBusy,
    RunId,
    Temperature,
    Text32,
    Text35,
    Text128,
    Text200,
    Text2000,
    Text16000,
    Text32768,
)


class Writing(Payload):
    """A text with optional parts; at least one of the two is not empty."""

    text: Text32768
    parts: Maybe[InParts] = None

    @model_validator(mode="after")
    def _says_something(self) -> Writing:
        if not self.text and not self.parts:
            raise broken("must have a text unless it has parts")
        return self


class ChatMessage(Writing):
    """A person's message. Its parent is `parent_id` (default: the active leaf); `agent` selects the agent that answers."""

    parent_id: Maybe[MessageId] = None
    agent: Maybe[Name] = None
    on_busy: Maybe[OnBusy] = None
    metadata: Maybe[Meta] = None


class MessageReceived(Stored):
    """The message is in the stream; `run_id` names the run that will answer it."""

    disposition: Literal["stored", "queued", "steering"]
    run_id: Maybe[RunId] = None


class MessageStatus(Payload):
    """The outcome for a message that was queued behind a run or was to steer one."""

    message_id: MessageId
    status: Literal["applied", "deferred", "rejected"]
    run_id: RunId
    reason: Maybe[Text200] = None


class ChatTyping(Payload):
    """The sender is typing, or has stopped; the indication ends after `ttl_ms` unless it is repeated."""

    state: Literal["start", "stop"]
    ttl_ms: Annotated[int, Field(ge=1000, le=15_000)] = 6000


class ChatTypingDelivered(ChatTyping):
    """A typing indication as delivered: it includes the user who types."""

    user: str


class ConversationSettings(Payload):
    """The settings to change. An omitted setting keeps its value; null resets it to its default."""

    title: Text200 | None = None
    agent: Name | None = None
    model: Text128 | None = None
    temperature: Temperature | None = None
    instructions: Text16000 | None = None
    tools: Annotated[list[Text128], Field(max_length=64)] | None = None
    on_busy: OnBusy | None = None
    approval: Literal["always", "sensitive", "never"] | None = None
    language: Text35 | None = None


class ChatConfigure(Payload):
    """Changes the conversation's settings, if they are still at `expected_revision`."""

    settings: ConversationSettings
    expected_revision: Maybe[Count] = None


class ChatRegenerate(Payload):
    """Asks for another answer beside this assistant message. Nothing is deleted."""

    message_id: MessageId
    settings: Maybe[ModelSettings] = None


class ChatCancel(Payload):
    """Stops a run, by default the active one."""

    run_id: Maybe[RunId] = None
    reason: Maybe[Text200] = None


class ChatEdit(Writing):
    """Replaces a message, or adds an edited version as a branch; `rerun` asks the agent again."""

    message_id: MessageId
    mode: Literal["replace", "branch"] = "branch"
    rerun: bool = True
    expected_revision: Maybe[Count] = None


class ChatDelete(Payload):
    """Turns a message into a tombstone, with `subtree` also everything below it; the log keeps it."""

    message_id: MessageId
    scope: Literal["self", "subtree"] = "self"


class ChatReact(Payload):
    """Adds or takes back a reaction."""

    message_id: MessageId
    reaction: Text32
    op: Literal["add", "remove"]


class ChatFeedback(Payload):
    """A person's rating of an answer."""

    message_id: MessageId
    rating: Literal["up", "down", "none"]
    tags: Maybe[Annotated[list[Text32], Field(max_length=8)]] = None
    comment: Maybe[Text2000] = None


class ChatBranch(Payload):
    """Makes the branch that ends in this message the active one."""

    leaf_id: MessageId


class ConversationChanges(Payload):
    """The changed fields; null where a field was reset."""

    title: Text200 | None = None
    settings: Maybe[ConversationSettings] = None
    active_leaf: MessageId | None = None
    archived: Maybe[bool] = None


class ConversationUpdated(Payload):
    """The conversation after a change: its new revision and the changed fields."""

    revision: Count
    changes: ConversationChanges
    by: Name


_row = partial(EventType, lane=Lane.EVENTS, kinds=frozenset({Kind.CONVERSATION}))
_command = partial(_row, direction=Direction.BOTH, reply="ack", rate="command", action=Action.WRITE)

EVENTS: tuple[EventType, ...] = (
    _command(
        name="chat.message",
        model=ChatMessage,
        reply="message.received",
        results=("disposition", "run_id"),
        rate="chat",
        errors=(4007, 4018, 4021, 4024),
        is_wanted=True,
        ag_ui="RunAgentInput.messages",
        summary="A person's message.",
    ),
    _row(
        name="message.received",
        model=MessageReceived,
        direction=Direction.OUT,
        lane=Lane.CONNECTION,
        summary="The message is in the stream.",
    ),
    _row(
        name="message.status",
        model=MessageStatus,
        direction=Direction.OUT,
        ag_ui="CUSTOM",
        summary="The fate of a waiting or steering message.",
    ),
    _command(
        name="chat.typing",
        model=ChatTyping,
        delivered=ChatTypingDelivered,
        lane=Lane.LIVE,
        rate="live",
        is_id_required=False,
        limit_bytes=16_384,
        ag_ui="CUSTOM",
        summary="Somebody types.",
    ),
    _command(
        name="chat.configure",
        model=ChatConfigure,
        results=("revision",),
        action=Action.MANAGE,
        errors=(4007, 4021, 4024),
        is_wanted=True,
        ag_ui="STATE_DELTA",
        summary="Changes the conversation's settings.",
    ),
    _command(
        name="chat.regenerate",
        model=ChatRegenerate,
        results=("run_id",),
        action=Action.INVOKE,
        rate="agent",
        errors=(4007, 4018, 4021),
        is_wanted=True,
        ag_ui="new run",
        summary="Asks for another answer to a message.",
    ),
    _command(
        name="chat.cancel",
        model=ChatCancel,
        results=("run_id", "state"),
        errors=(4018, 4021),
        is_wanted=True,
        ag_ui="abort",
        summary="Stops the answer in progress.",
    ),
    _command(
        name="chat.edit",
        model=ChatEdit,
        results=("run_id",),
        errors=(4018, 4021),
        is_wanted=True,
        summary="Edits a message, in place or as a branch.",
    ),
    _command(name="chat.delete", model=ChatDelete, errors=(4018,), summary="Makes a message a tombstone."),
    _command(
        name="chat.react",
        model=ChatReact,
        errors=(4018,),
        ag_ui="draft meta event",
        summary="Adds or takes back a reaction.",
    ),
    _command(
        name="chat.feedback", model=ChatFeedback, errors=(4018,), ag_ui="draft meta event", summary="Rates an answer."
    ),
    _command(
        name="chat.branch",
        model=ChatBranch,
        errors=(4018,),
        is_wanted=True,
        ag_ui="draft meta event",
        summary="Chooses the active branch.",
    ),
    _row(
        name="conversation.updated",
        model=ConversationUpdated,
        direction=Direction.OUT,
        ag_ui="STATE_DELTA",
        summary="The conversation's settings or branch changed.",
    ),
)
