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

    text: Text32768 = Field(description="The text; empty only if there are parts.")
    parts: Maybe[InParts] = Field(
        None, description="Files, mentions and data that belong to the text; absent if there are none."
    )

    @model_validator(mode="after")
    def _says_something(self) -> Writing:
        if not self.text and not self.parts:
            raise broken("must have a text unless it has parts")
        return self


class ChatMessage(Writing):
    """A person's message. Its parent is `parent_id` (default: the active leaf); `agent` selects the agent that answers."""

    parent_id: Maybe[MessageId] = Field(
        None,
        description="The message that this one follows; any other than the newest begins a branch. Absent: "
        "the last message of the active branch.",
    )
    agent: Maybe[Name] = Field(
        None, description="The agent that answers; `none` for no answer. Absent: the conversation's setting."
    )
    on_busy: Maybe[OnBusy] = Field(
        None,
        description="The action if a run is in progress: wait for its end (`enqueue`) or be refused with "
        "4021 (`reject`); the other two are refused with 4024. Absent: the conversation's "
        "setting.",
    )
    metadata: Maybe[Meta] = Field(
        None, description="Texts of the application by name, stored with the message and not interpreted."
    )


class MessageReceived(Stored):
    """The message is in the stream; `run_id` names the run that will answer it."""

    disposition: Literal["stored", "queued", "steering"] = Field(
        description="The handling of the message: no agent answers it (`stored`), a run will (`queued`), or "
        "it was passed to a run in progress (`steering`)."
    )
    run_id: Maybe[RunId] = Field(None, description="ID of the run that will answer; absent if no agent answers.")


class MessageStatus(Payload):
    """The outcome for a message that was queued behind a run or was to steer one."""

    message_id: MessageId = Field(description="ID of the message or steering text: the ID of its event.")
    status: Literal["applied", "deferred", "rejected"] = Field(
        description="The outcome: the run has read it (`applied`), will read it later (`deferred`), or will not "
        "(`rejected`)."
    )
    run_id: RunId = Field(description="ID of the run that it was meant for.")
    reason: Maybe[Text200] = Field(None, description="The cause of a rejection, for people; absent otherwise.")


class ChatTyping(Payload):
    """The sender is typing, or has stopped; the indication ends after `ttl_ms` unless it is repeated."""

    state: Literal["start", "stop"] = Field(description="The start or the end of the typing.")
    ttl_ms: Annotated[int, Field(ge=1000, le=15_000)] = Field(
        6000,
        description="Milliseconds after which the indication ends by itself; send it again before then if "
        "typing continues.",
    )


class ChatTypingDelivered(ChatTyping):
    """A typing indication as delivered: it includes the user who types."""

    user: str = Field(description="The user who types.")


class ConversationSettings(Payload):
    """The settings to change. An omitted setting keeps its value; null resets it to its default."""

    title: Text200 | None = Field(None, description="Title of the conversation.")
    agent: Name | None = Field(None, description="The agent that answers messages that name none; `none` for no agent.")
    model: Text128 | None = Field(None, description="Name of the model that agents are asked to use.")
    temperature: Temperature | None = Field(None, description="Sampling temperature that agents are asked to use.")
    instructions: Text16000 | None = Field(None, description="Instructions for agents, in addition to their own.")
    tools: Annotated[list[Text128], Field(max_length=64)] | None = Field(
        None, description="Names of the tools that agents are asked to use; by default all of theirs."
    )
    on_busy: OnBusy | None = Field(
        None,
        description="The handling of a message while a run is in progress: it waits (`enqueue`, the default) "
        "or is refused (`reject`); the other two are refused with 4024.",
    )
    approval: Literal["always", "sensitive", "never"] | None = Field(
        None,
        description="The tool calls for which agents are asked to get approval: all, sensitive ones, or "
        "none. A call that its agent marks as sensitive always needs approval.",
    )
    language: Text35 | None = Field(
        None, description="Language that agents are asked to answer in, as a BCP 47 tag such as `de-CH`."
    )


class ChatConfigure(Payload):
    """Changes the conversation's settings, if they are still at `expected_revision`."""

    settings: ConversationSettings = Field(description="The settings to change.")
    expected_revision: Maybe[Count] = Field(
        None,
        description="Makes the change only if the settings are at this revision, else it is refused with "
        "4021. Absent: always.",
    )


class ChatRegenerate(Payload):
    """Asks for another answer beside this assistant message. Nothing is deleted."""

    message_id: MessageId = Field(description="ID of the assistant's message to answer anew.")
    settings: Maybe[ModelSettings] = Field(None, description="Settings for this run only; absent: the conversation's.")


class ChatCancel(Payload):
    """Stops a run, by default the active one."""

    run_id: Maybe[RunId] = Field(None, description="ID of the run to stop; absent: the active one.")
    reason: Maybe[Text200] = Field(
        None, description="The user's reason, stored with the command; absent if none was given."
    )


class ChatEdit(Writing):
    """Replaces a message, or adds an edited version as a branch; `rerun` asks the agent again."""

    message_id: MessageId = Field(
        description="ID of the message to edit: the sender's own, or any with the permission `manage`."
    )
    mode: Literal["replace", "branch"] = Field(
        "branch", description="Changes the message in place (`replace`) or adds the new version beside it (`branch`)."
    )
    rerun: bool = Field(True, description="Asks the agent to answer the new version.")
    expected_revision: Maybe[Count] = Field(
        None,
        description="Edits only if the message is at this revision, else it is refused with 4021. Absent: always.",
    )


class ChatDelete(Payload):
    """Turns a message into a tombstone, with `subtree` also everything below it; the log keeps it."""

    message_id: MessageId = Field(
        description="ID of the message to delete: the sender's own, or any with the permission `manage`."
    )
    scope: Literal["self", "subtree"] = Field(
        "self", description="Deletes the message alone (`self`) or with everything below it (`subtree`)."
    )


class ChatReact(Payload):
    """Adds or takes back a reaction."""

    message_id: MessageId = Field(description="ID of the message to react to.")
    reaction: Text32 = Field(description="The reaction, such as an emoji; clients choose which ones there are.")
    op: Literal["add", "remove"] = Field(description="Adds or removes the sender's reaction.")


class ChatFeedback(Payload):
    """A person's rating of an answer."""

    message_id: MessageId = Field(description="ID of the answer that is rated.")
    rating: Literal["up", "down", "none"] = Field(description="The rating; `none` removes it.")
    tags: Maybe[Annotated[list[Text32], Field(max_length=8)]] = Field(
        None, description="Reasons for the rating, from a list of the application's own; absent if none were chosen."
    )
    comment: Maybe[Text2000] = Field(None, description="The user's comment; absent if there is none.")


class ChatBranch(Payload):
    """Makes the branch that ends in this message the active one."""

    leaf_id: MessageId = Field(description="ID of the last message of the branch.")


class ConversationChanges(Payload):
    """The changed fields; null where a field was reset."""

    title: Text200 | None = Field(None, description="The new title; null if it was reset, absent if unchanged.")
    settings: Maybe[ConversationSettings] = Field(None, description="The settings that changed; absent if none did.")
    active_leaf: MessageId | None = Field(
        None, description="ID of the last message of the active branch; absent if unchanged."
    )
    archived: Maybe[bool] = Field(
        None, description="True if the conversation was archived, false if it was restored; absent if unchanged."
    )


class ConversationUpdated(Payload):
    """The conversation after a change: its new revision and the changed fields."""

    revision: Count = Field(description="Revision of the conversation after the change.")
    changes: ConversationChanges = Field(description="The fields that changed.")
    by: Name = Field(description="The user who made the change.")


_row = partial(EventType, lane=Lane.EVENTS, kinds=frozenset({Kind.CONVERSATION}))
_command = partial(_row, direction=Direction.BOTH, reply="ack", rate="command", action=Action.WRITE)

EVENTS: tuple[EventType, ...] = (
    _command(
        name="chat.message",
        model=ChatMessage,
        personal=(),
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
        personal=(),
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
        personal=(),
        results=("run_id", "state"),
        errors=(4018, 4021),
        is_wanted=True,
        ag_ui="abort",
        summary="Stops the answer in progress.",
    ),
    _command(
        name="chat.edit",
        model=ChatEdit,
        personal=(),
        results=("run_id",),
        errors=(4018, 4021),
        is_wanted=True,
        summary="Edits a message, in place or as a branch.",
    ),
    _command(name="chat.delete", model=ChatDelete, errors=(4018,), summary="Makes a message a tombstone."),
    _command(
        name="chat.react",
        model=ChatReact,
        personal=(),
        errors=(4018,),
        ag_ui="draft meta event",
        summary="Adds or takes back a reaction.",
    ),
    _command(
        name="chat.feedback",
        model=ChatFeedback,
        personal=(),
        errors=(4018,),
        ag_ui="draft meta event",
        summary="Rates an answer.",
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
