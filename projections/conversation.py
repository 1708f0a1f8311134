"""The conversation: messages with branches, edits and reactions, settings with their revision, answers. Pure.

Chat commands are folded as they were stored; there is no second "done" event to wait for. An event about a message that
is not held changes nothing: the hub refused it, or the message is forgotten (ops/decisions/0005-what-state-forgets.md).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from projections import answers
from projections.fields import actor_id, broken, object_field, optional_list, optional_text, text
from projections.message import ASSISTANT, USER, Message
from projections.message_tree import MessageTree, load_tree
from projections.projection import Dumped, DurableProjection, Home, kind_of
from projections.recorded import Recorded
from projections.settings import Settings
from streams.channel import Kind
from streams.json_bytes import Json, JsonObject


@dataclass(slots=True)
class Conversation:
    """Messages and settings of one channel. Agent channels have no branches: they show messages in the order they came."""

    has_branches: bool = True
    tree: MessageTree = field(default_factory=MessageTree)
    settings: Settings = field(default_factory=Settings)

    def message(self, message_id: str) -> Message | None:
        """The message of this ID, None when it is not held."""
        return self.tree.messages.get(message_id)


def _message(state: Conversation, event: Recorded) -> None:
    parts, given = optional_list(event, "parts"), optional_text(event, "parent_id")
    tree = state.tree
    tree.add(Message(event.id, USER, event.actor, text(event, "text"), parts, tree.parent_for(given)))


def _edit(state: Conversation, event: Recorded) -> None:
    """Replace in place, or write the new text as a sibling and go on there. Parts left out are the old ones."""
    message, new_text = state.message(text(event, "message_id")), text(event, "text")
    parts, mode = optional_list(event, "parts"), optional_text(event, "mode") or "branch"
    if message is None or message.is_deleted:
        return
    parts = message.parts if parts is None else parts
    if mode == "replace":
        message.revision += 1
        state.tree.rewrite(message, new_text, parts)
        if message.role == USER and event.payload.get("rerun") is not False:
            state.tree.ask_again(event.id, message.message_id)
        return
    finish = (message.finish_reason or "stop") if message.role == ASSISTANT else None
    sibling = Message(event.id, message.role, event.actor, new_text, parts, message.parent_id, finish_reason=finish)
    state.tree.add(sibling)


def _delete(state: Conversation, event: Recorded) -> None:
    message, scope = state.message(text(event, "message_id")), optional_text(event, "scope") or "self"
    if message is None:
        return
    for erased in list(state.tree.subtree(message)) if scope == "subtree" else [message]:
        state.tree.erase(erased)


def _react(state: Conversation, event: Recorded) -> None:
    message, user = state.message(text(event, "message_id")), actor_id(event)
    reaction, op = text(event, "reaction"), text(event, "op")
    if message is not None and not message.is_deleted:
        message.react(user, reaction, is_added=op == "add")


def _feedback(state: Conversation, event: Recorded) -> None:
    message, user, rating = state.message(text(event, "message_id")), actor_id(event), text(event, "rating")
    if message is not None and not message.is_deleted:
        message.rate(user, rating)


def _branch(state: Conversation, event: Recorded) -> None:
    state.tree.activate(text(event, "leaf_id"))
    state.settings.revision += 1


def _updated(state: Conversation, event: Recorded) -> None:
    leaf = object_field(event, "changes").get("active_leaf")
    if not (leaf is None or isinstance(leaf, str)):
        raise broken(event, "changes.active_leaf must be a string")
    if state.settings.update(event) and leaf is not None:
        state.tree.activate(leaf)


def _render(state: Conversation) -> JsonObject:
    if not state.has_branches:
        return {"messages": [message.render() for message in state.tree.newest()]}
    settings = state.settings
    return {
        "title": settings.title, "settings": settings.values, "revision": settings.revision,
        "active_leaf": state.tree.active_leaf, "messages": [message.render() for message in state.tree.branch()],
    }  # fmt: skip


def _initial(home: Home) -> Conversation:
    return Conversation(kind_of(home) is not Kind.AGENT)


def _dump(state: Conversation) -> Json:
    settings = state.settings
    kept = {"title": settings.title, "settings": settings.values, "revision": settings.revision}
    return {**kept, "tree": state.tree.dump()}


def _load(home: Home, value: Dumped) -> Conversation:
    settings = Settings(value["title"], value["settings"], value["revision"])
    return Conversation(kind_of(home) is not Kind.AGENT, load_tree(value["tree"]), settings)


CONVERSATION: Final = DurableProjection(
    name="conversation",
    version=1,
    initial=_initial,
    handlers={
        "chat.message": _message, "chat.edit": _edit, "chat.delete": _delete, "chat.react": _react,
        "chat.feedback": _feedback, "chat.branch": _branch, "conversation.updated": _updated,
        "chat.configure": lambda state, event: state.settings.configure(event),
        "chat.regenerate": lambda state, event: answers.regenerate(state.tree, event),
        "assistant.message.start": lambda state, event: answers.start(state.tree, event),
        "assistant.message.reset": lambda state, event: answers.reset(state.tree, event),
        "assistant.message.end": lambda state, event: answers.end(state.tree, event),
    },
    render=_render,
    dump=_dump,
    load=_load,
)  # fmt: skip
"""Messages and settings of conversation channels; messages alone of agent channels."""
