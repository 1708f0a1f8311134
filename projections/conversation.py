"""The conversation: messages with branches, edits and reactions, settings with their revision, answers. Pure.

Chat commands are folded as they were stored; there is no second "done" event to wait for. An event about a message that
is not held changes nothing: the hub refused it, or the message is forgotten (ops/decisions/0005-what-state-forgets.md).

An answer is placed below the message it answers. If people kept writing before its turn came, and for the second and
later messages of a run, it is placed at the end of that branch instead, so that no branch hides what was written
meanwhile. Only an answer that was requested *again* becomes a sibling, of the answers it is an alternative to.

The text of an answer in progress is not here: it is live, kept beside the channel, and shown as `open_messages` until
`assistant.message.end` brings the whole text.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from projections.message import ASSISTANT, USER, Message, ShownMessage
from projections.message_tree import MessageTree, load_tree
from projections.projection import Dumped, Home, Item, Lists, Projection, kind_of
from projections.recorded import Recorded, actor_name, broken, number, object_field, optional_list, optional_text, text
from streams.channel import Kind
from streams.events.declaration import Payload
from streams.events.values import Count, Maybe
from streams.json_bytes import Json, JsonObject

_TEXT_FILE: Final[dict[str, Json]] = {"mime": "text/plain; charset=utf-8", "name": "answer.txt"}
"""A text too long for its event is shown so: `Message` has no `text_ref`, but it has parts that are files."""


class ConversationFields(Payload):
    """The fields of `ChannelState` for a conversation; an agent's channel has `messages` alone."""

    title: str | None = None
    settings: Maybe[dict[str, object]] = None
    revision: Maybe[Count] = None
    active_leaf: str | None = None
    messages: Maybe[list[ShownMessage]] = None


@dataclass(slots=True)
class Configuration:
    """A conversation's title and settings, with the revision that `expected_revision` is compared to.

    Attributes:
        title: None until one is set, and after it was reset.
        values: the other settings that are set.
        revision: raised by one with each `chat.configure` and each `chat.branch`, as the append script counts.
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
        """Apply the content of a `conversation.updated`; false when it brings nothing new.

        Its command was folded before, so only a revision newer than ours changes anything.
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
        """Set the given fields, reset those that are null, leave the rest."""
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
    """Messages and settings of one channel. Agent channels have no branches: they show messages in the order they came."""

    has_branches: bool = True
    tree: MessageTree = field(default_factory=MessageTree)
    settings: Configuration = field(default_factory=Configuration)

    def message(self, message_id: str) -> Message | None:
        """The message of this ID, None when it is not held."""
        return self.tree.messages.get(message_id)


def _message(state: Conversation, event: Recorded) -> None:
    parts, given = optional_list(event, "parts"), optional_text(event, "parent_id")
    tree = state.tree
    tree.add(Message(event.id, USER, event.actor, text(event, "text"), parts, tree.parent_for(given), text_at=event.id))


def _edit(state: Conversation, event: Recorded) -> None:
    """Replace in place, or add the new text as a sibling and continue there. Omitted parts are the old ones."""
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
    """A new answer under its parent; the start of one already held, by a later attempt, changes nothing."""
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
    """The command that asked for this answer again: named by the event's meta, or found by its parent."""
    if not tree.reruns:
        return None
    for command in (event.meta.get("correlation"), event.meta.get("causation"), given):
        if isinstance(command, str) and command in tree.reruns:
            return command
    return next((command for command, parent_id in tree.reruns.items() if parent_id == given is not None), None)


def _regenerate(state: Conversation, event: Recorded) -> None:
    """A person wants another answer beside this one. Until it begins, nothing changes."""
    message = state.message(text(event, "message_id"))
    if message is not None:
        state.tree.ask_again(event.id, message.parent_id)


def _end(state: Conversation, event: Recorded) -> None:
    """The complete, authoritative text. An end whose start was trimmed away still shows its message."""
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
)
"""Messages and settings of conversation channels; messages alone of agent channels."""
