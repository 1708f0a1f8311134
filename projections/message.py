"""One message of a conversation, in memory and as shown in the state. Pure.

It is kept small: reasoning, usage, errors and metadata stay in the log and are read from there when needed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal

from pydantic import ConfigDict, Field

from streams.events.declaration import Payload
from streams.events.values import Count, Maybe, MessageId, RunId
from streams.json_bytes import Json, JsonObject, weigh

USER: Final = "user"
ASSISTANT: Final = "assistant"
REACTIONS_MAX: Final = 64
"""Maximum number of different reactions to a message; more are not shown. They are sent with every state that contains the message.
"""
REACTING_USERS_MAX: Final = 500
"""Maximum number of people listed for one reaction; more are not shown."""
_WEIGHT_LIMIT: Final = 64 * 1024 * 1024
"""Far above any payload, so that a message is always weighed completely."""


class ShownMessage(Payload):
    """A message of the active branch with its current content."""

    model_config = ConfigDict(title="Message")

    message_id: MessageId = Field(description="ID of the message.")
    role: Literal["user", "assistant"] = Field(
        description="The kind of author: a person (`user`) or an agent (`assistant`)."
    )
    actor: dict[str, str] = Field(description="The author: `kind` and `id`, and `client` if the device gave its name.")
    text: str = Field(description="The text after the last edit; empty if the message was deleted.")
    parts: Maybe[list[dict[str, object]]] = Field(
        None, description="The parts that belong to the text; absent if there are none."
    )
    parent_id: str | None = Field(
        None,
        description="ID of the message that it answers or follows; absent at the beginning of a branch, or if that "
        "message is no longer kept.",
    )
    run_id: Maybe[RunId] = Field(
        None, description="ID of the run that wrote it or answers it; absent if there is none."
    )
    revision: Count = Field(
        description="Number of times its text was replaced, to which `expected_revision` is compared."
    )
    deleted: bool = Field(description="True if it was deleted.")
    erased: Maybe[Literal[True]] = Field(
        None, description="True if its author was erased, and its text with them; absent otherwise."
    )
    reactions: Maybe[dict[str, object]] = Field(
        None, description="For each reaction, the users who gave it; absent if there are none."
    )
    finish_reason: Maybe[str] = Field(
        None,
        description="The cause of the end of an answer, as in `assistant.message.end`; absent for a person's message and "
        "while the answer is written.",
    )


@dataclass(slots=True)
class Message:
    """A message with its edits and reactions. The fold that owns it changes it in place.

    Attributes:
        parent_id: the message that it answers or follows; None at the beginning of a branch, or if that message is no longer
            kept.
        revision: number of times its text was replaced.
        finish_reason: None for an answer in progress, and for people's messages.
        reactions: reaction → the people who gave it (`recorded.actor_name`), in that order.
        text_at: the ID of the event with its current text.
        is_erased: true if the author was erased, and the text with them.
    """

    message_id: str
    role: str
    actor: JsonObject
    text: str
    parts: list[Json] | None = None
    parent_id: str | None = None
    run_id: str | None = None
    revision: int = 0
    is_deleted: bool = False
    finish_reason: str | None = None
    reactions: dict[str, list[str]] | None = None
    text_at: str = ""
    is_erased: bool = False

    @property
    def is_open(self) -> bool:
        """True for an answer in progress, whose end has not arrived yet."""
        return self.role == ASSISTANT and self.finish_reason is None

    @property
    def weight(self) -> int:
        """The weight of its text and parts, in characters (`json_bytes.weigh`)."""
        return len(self.text) + (weigh(list(self.parts), _WEIGHT_LIMIT)[0] if self.parts else 0)

    def erase(self) -> None:
        """Turn the message into a tombstone: it keeps its place in the tree and loses its content. The log keeps both."""
        self.is_deleted = True
        self.text, self.parts, self.reactions = "", None, None

    def react(self, user: str, reaction: str, *, is_added: bool) -> None:
        """Add or remove one user's reaction; repeating it changes nothing."""
        reactions = self.reactions or {}
        users = reactions.get(reaction, [])
        if is_added and user not in users and len(users) < REACTING_USERS_MAX:
            if users or len(reactions) < REACTIONS_MAX:
                reactions[reaction] = [*users, user]
        elif not is_added and user in users:
            reactions[reaction] = [other for other in users if other != user]
            if not reactions[reaction]:
                del reactions[reaction]
        self.reactions = reactions or None

    def render(self) -> JsonObject:
        """The message as shown in the state, without empty fields."""
        shown: JsonObject = {"message_id": self.message_id, "role": self.role, "actor": self.actor, "text": self.text}
        for name in ("parts", "parent_id", "run_id"):
            if (value := getattr(self, name)) is not None:
                shown[name] = value
        shown["revision"] = self.revision
        shown["deleted"] = self.is_deleted
        if self.is_erased:
            shown["erased"] = True
        for name in ("reactions", "finish_reason"):
            if (value := getattr(self, name)) is not None:
                shown[name] = value
        return shown

    def dump(self) -> JsonObject:
        """The message as JSON for `load_message`; values that are usual for its role are omitted."""
        kept = self.render()
        if not self.revision:
            del kept["revision"]
        if not self.is_deleted:
            del kept["deleted"]
        if self.text_at != self.message_id:
            kept["text_at"] = self.text_at
        return kept


def load_message(value: dict[str, Any]) -> Message:
    """Restore a message from its dump."""
    fields = dict(value)
    is_deleted = fields.pop("deleted", False)
    is_erased = fields.pop("erased", False)
    text_at = fields.pop("text_at", fields["message_id"])
    return Message(is_deleted=is_deleted, is_erased=is_erased, text_at=text_at, **fields)
