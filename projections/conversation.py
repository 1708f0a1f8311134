"""The conversation: messages with branches, edits and reactions, settings with their revision, and answers. Pure.

Chat commands are folded as they were stored; no second event confirms them. An event about an unknown message changes nothing:
either the hub refused the message, or the state no longer keeps it (ops/decisions/0005-what-state-forgets.md).

An answer is placed below the message that it answers. If more messages were written before the run began, and for the second
and later messages of a run, it is placed at the end of that branch instead, so that no branch hides messages written in the
meantime. Only an answer that was requested again (`chat.regenerate`) becomes a sibling of the existing answers.

The text of an answer in progress is not part of this fold. It is stored beside the channel and shown as `open_messages` until
`assistant.message.end` brings the complete text.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from pydantic import Field

from projections.message import ASSISTANT, USER, Message, ShownMessage
from projections.message_tree import MessageTree, load_tree
from projections.projection import Dumped, Home, Item, Lists, Projection, kind_of
from projections.recorded import Recorded, actor_name, broken, number, object_field, optional_list, optional_text, text
from streams.channel import Kind
from streams.events.declaration import Payload
from streams.events.values import Count, Maybe
from streams.json_bytes import Json, JsonObject

_TEXT_FILE: Final[dict[str, Json]] = {"mime": "text/plain; charset=utf-8", "name": "answer.txt"}
"""The file part that represents a text too long for its event: `Message` has no `text_ref`, but may have parts that are files."""


class ConversationFields(Payload):
    """The fields of `ChannelState` for a conversation; an agent's channel has only `messages`."""

    title: str | None = Field(None, description="The title; null if it was never set. Only in a conversation.")
    settings: Maybe[dict[str, object]] = Field(
        None, description="The other settings that have a value; only in a conversation."
    )
    revision: Maybe[Count] = Field(
        None,
        description="Number of changes of the settings and of the active branch, to which `expected_revision` is "
        "compared; only in a conversation.",
    )
    active_leaf: str | None = Field(
        None,
        description="ID of the last message of the active branch; null if there is no message. Only in a conversation.",
    )
    messages: Maybe[list[ShownMessage]] = Field(
        None,
        description="The newest messages of the active branch, at most 50, oldest first; only in a conversation or an "
        "agent's channel.",
    )


@dataclass(slots=True)
class Configuration:
    """A conversation's title and settings, with the revision to which `expected_revision` is compared.

    Attributes:
        title: None if it was never set or has been reset.
        values: the other settings that have a value.
        revision: raised by one by each `chat.configure` and each `chat.branch`, exactly as the append script counts it.
    """

    title: str | None = None
    values: JsonObject = field(default_factory=dict)
    revision: int = 0

    def configure(self, event: Recorded) -> None:
        """Apply a `chat.configure`."""
        given = object_field(event, "settings")
        _check_title(event, given)
        self._merge(given)
        self.revision += 1

    def update(self, event: Recorded) -> bool:
        """Apply the content of a `conversation.updated`; false if it changes nothing.

        The command that caused it was folded before, so it changes something only if its revision is higher than the state's.
        """
        revision, changes = number(event, "revision"), object_field(event, "changes")
        given = changes.get("settings") or {}
        if not isinstance(given, dict):
            raise broken(event, "changes.settings must be an object")
        _check_title(event, changes)
        if revision <= self.revision:
            return False
        self._merge(given)
        if "title" in changes:
            self._merge({"title": changes["title"]})
        self.revision = revision
        return True

    def _merge(self, given: JsonObject) -> None:
        """Set the given fields, reset those that are null, and leave the others unchanged."""
        for name, value in given.items():
            if name == "title":
                self.title = value if isinstance(value, str) else None
            elif value is None:
                self.values.pop(name, None)
            else:
                self.values[name] = value


def _check_title(event: Recorded, holder: JsonObject) -> None:
    title = holder.get("title")
    if not (title is None or isinstance(title, str)):
        raise broken(event, "title must be a string")


@dataclass(slots=True)
class Conversation:
    """Messages and settings of one channel. Agent channels have no branches: their messages are shown in order of arrival."""

    has_branches: bool = True
    tree: MessageTree = field(default_factory=MessageTree)
    settings: Configuration = field(default_factory=Configuration)

    def message(self, message_id: str) -> Message | None:
        """The message with this ID; None if the state does not have it."""
        return self.tree.messages.get(message_id)


def _message(state: Conversation, event: Recorded) -> None:
    parts, given = optional_list(event, "parts"), optional_text(event, "parent_id")
    tree = state.tree
    tree.add(Message(event.id, USER, event.actor, text(event, "text"), parts, tree.parent_for(given), text_at=event.id))


def _erased_message(state: Conversation, event: Recorded) -> None:
    """Keep the place of a message whose text is gone. Its parent is not known any more: it follows the active leaf."""
    parent_id = state.tree.active_leaf
    state.tree.add(Message(event.id, USER, event.actor, "", None, parent_id, text_at=event.id, is_erased=True))


def _edit(state: Conversation, event: Recorded) -> None:
    """Replace the message in place, or add the new text as a sibling and make that branch active. Omitted parts stay the same."""
    message, new_text = state.message(text(event, "message_id")), text(event, "text")
    parts, mode = optional_list(event, "parts"), optional_text(event, "mode") or "branch"
    if message is None or message.is_deleted:
        return
    parts = message.parts if parts is None else parts
    if mode == "replace":
        message.revision += 1
        state.tree.rewrite(message, new_text, parts, event.id)
        if message.role == USER and event.payload.get("rerun") is not False:
            state.tree.ask_again(event.id, message.message_id)
        return
    finish = (message.finish_reason or "stop") if message.role == ASSISTANT else None
    sibling = Message(
        event.id, message.role, event.actor, new_text, parts, message.parent_id, finish_reason=finish, text_at=event.id
    )
    state.tree.add(sibling)


def _delete(state: Conversation, event: Recorded) -> None:
    message, scope = state.message(text(event, "message_id")), optional_text(event, "scope") or "self"
    if message is None:
        return
    for erased in list(state.tree.subtree(message)) if scope == "subtree" else [message]:
        state.tree.erase(erased)


def _react(state: Conversation, event: Recorded) -> None:
    message, who = state.message(text(event, "message_id")), actor_name(event)
    reaction, op = text(event, "reaction"), text(event, "op")
    if message is not None and not message.is_deleted:
        message.react(who, reaction, is_added=op == "add")


def _branch(state: Conversation, event: Recorded) -> None:
    state.tree.activate(text(event, "leaf_id"))
    state.settings.revision += 1


def _updated(state: Conversation, event: Recorded) -> None:
    leaf = object_field(event, "changes").get("active_leaf")
    if not (leaf is None or isinstance(leaf, str)):
        raise broken(event, "changes.active_leaf must be a string")
    if state.settings.update(event) and leaf is not None:
        state.tree.activate(leaf)


def _start(state: Conversation, event: Recorded) -> None:
    """Add a new answer below its parent. If the answer already exists, from an earlier attempt, nothing changes."""
    tree, message_id, run_id = state.tree, text(event, "message_id"), text(event, "run_id")
    given = optional_text(event, "parent_id")
    if message_id in tree.messages:
        return
    command = _rerun_of(tree, event, given)
    if command is not None:
        parent_id, is_active = tree.reruns.pop(command), True
    elif given is not None and given in tree.messages:
        parent_id = tree.leaf_below(tree.messages[given])
        is_active = parent_id == tree.active_leaf
    else:
        parent_id, is_active = tree.active_leaf, True
    answer = Message(message_id, ASSISTANT, event.actor, "", None, parent_id, run_id, text_at=event.id)
    tree.add(answer, is_active=is_active)


def _rerun_of(tree: MessageTree, event: Recorded, given: str | None) -> str | None:
    """The command that requested this answer again: named by the event's meta, or found by the answer's parent."""
    if not tree.reruns:
        return None
    for command in (event.meta.get("correlation"), event.meta.get("causation"), given):
        if isinstance(command, str) and command in tree.reruns:
            return command
    return next((command for command, parent_id in tree.reruns.items() if parent_id == given is not None), None)


def _regenerate(state: Conversation, event: Recorded) -> None:
    """Record that a person requested another answer beside this one. The messages change once it begins."""
    message = state.message(text(event, "message_id"))
    if message is not None:
        state.tree.ask_again(event.id, message.parent_id)


def _end(state: Conversation, event: Recorded) -> None:
    """Set the complete, authoritative text. If the start was trimmed from the log, the message is added."""
    tree, message_id, run_id = state.tree, text(event, "message_id"), text(event, "run_id")
    finish_reason, parts = text(event, "finish_reason"), optional_list(event, "parts")
    file_id = optional_text(event, "text_ref")
    whole = text(event, "text") if file_id is None else ""
    if file_id is not None:
        parts = [*(parts or []), {"type": "file", "file_id": file_id, **_TEXT_FILE}]
    message = tree.messages.get(message_id)
    if message is None:
        message = Message(message_id, ASSISTANT, event.actor, "", None, tree.active_leaf, run_id, text_at=event.id)
        tree.add(message)
    message.finish_reason = finish_reason
    if not message.is_deleted:
        tree.rewrite(message, whole, parts, event.id)


def _configure(state: Conversation, event: Recorded) -> None:
    state.settings.configure(event)


def _configure_channel(state: Conversation, _event: Recorded) -> None:
    state.settings.revision += 1


def _render(state: Conversation) -> JsonObject:
    if not state.has_branches:
        return {}
    settings = state.settings
    return {
        "title": settings.title,
        "settings": settings.values,
        "revision": settings.revision,
        "active_leaf": state.tree.active_leaf,
    }


def _lists(state: Conversation) -> Lists:
    messages = state.tree.branch() if state.has_branches else state.tree.newest()
    return {"messages": [Item(message.text_at, message.render()) for message in messages]}


def _initial(home: Home) -> Conversation:
    return Conversation(kind_of(home) is not Kind.AGENT)


def _dump(state: Conversation) -> Json:
    settings = state.settings
    kept = {"title": settings.title, "settings": settings.values, "revision": settings.revision}
    return {**kept, "tree": state.tree.dump()}


def _load(home: Home, value: Dumped) -> Conversation:
    settings = Configuration(value["title"], value["settings"], value["revision"])
    return Conversation(kind_of(home) is not Kind.AGENT, load_tree(value["tree"]), settings)


CONVERSATION: Final = Projection(
    name="conversation",
    version=3,
    model=ConversationFields,
    initial=_initial,
    handlers={
        "chat.message": _message,
        "chat.edit": _edit,
        "chat.delete": _delete,
        "chat.react": _react,
        "chat.branch": _branch,
        "chat.configure": _configure,
        "channel.configure": _configure_channel,
        "chat.regenerate": _regenerate,
        "conversation.updated": _updated,
        "assistant.message.start": _start,
        "assistant.message.end": _end,
    },
    render=_render,
    dump=_dump,
    load=_load,
    lists=_lists,
    erased={"chat.message": _erased_message},
)
"""The fold that provides messages and settings of conversations, and only messages of agent channels."""
