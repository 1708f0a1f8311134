"""Answers of agents as messages: asked for again, begun, begun anew, ended. Pure.

An answer hangs below what it answers. Where people wrote on while it waited its turn, and for the second and later
messages of a run, it hangs below the end of that branch instead, so that no branch hides what was said meanwhile. Only
an answer that was asked for *again* becomes a sibling: of the ones it is an alternative to.

The text of an answer in progress is not here: it is live, kept beside the channel, and shown as `open_messages` until
`assistant.message.end` brings the whole.
"""

from __future__ import annotations

from typing import Final

from projections.fields import number, optional_list, optional_text, text
from projections.message import ASSISTANT, Message
from projections.message_tree import MessageTree
from projections.recorded import Recorded
from streams.json_bytes import Json

_TEXT_FILE: Final[dict[str, Json]] = {"mime": "text/plain; charset=utf-8", "name": "answer.txt"}
"""How a text too long for its event is shown: `Message` has no `text_ref`, but it has parts that are files."""


def start(tree: MessageTree, event: Recorded) -> None:
    """A new answer under its parent; the start of one already held, by a later attempt, only raises the attempt."""
    message_id, run_id, attempt = text(event, "message_id"), text(event, "run_id"), number(event, "attempt")
    given = optional_text(event, "parent_id")
    message = tree.messages.get(message_id)
    if message is not None:
        message.attempt = max(message.attempt, attempt)
        return
    command = _rerun_of(tree, event, given)
    if command is not None:
        parent_id, is_active = tree.reruns.pop(command), True
    elif given is not None and given in tree.messages:
        parent_id = tree.leaf_below(tree.messages[given])
        is_active = parent_id == tree.active_leaf
    else:
        parent_id, is_active = tree.active_leaf, True
    answer = Message(message_id, ASSISTANT, event.actor, "", None, parent_id, run_id, attempt)
    tree.add(answer, is_active=is_active)


def _rerun_of(tree: MessageTree, event: Recorded, given: str | None) -> str | None:
    """The command that asked for this answer again: named by the event's meta, or by the parent it is given."""
    if not tree.reruns:
        return None
    for command in (event.meta.get("correlation"), event.meta.get("causation"), given):
        if isinstance(command, str) and command in tree.reruns:
            return command
    return next((command for command, parent_id in tree.reruns.items() if parent_id == given is not None), None)


def regenerate(tree: MessageTree, event: Recorded) -> None:
    """A person wants another answer beside this one. Until it begins, nothing changes."""
    message = tree.messages.get(text(event, "message_id"))
    if message is not None:
        tree.ask_again(event.id, message.parent_id)


def reset(tree: MessageTree, event: Recorded) -> None:
    """A later attempt goes on with the answer; what was streamed so far is the live part's business."""
    message, attempt = tree.messages.get(text(event, "message_id")), number(event, "attempt")
    if message is not None:
        message.attempt = max(message.attempt, attempt)


def end(tree: MessageTree, event: Recorded) -> None:
    """The whole and authoritative text. An end whose start was trimmed away still shows its message."""
    message_id, run_id, attempt = text(event, "message_id"), text(event, "run_id"), number(event, "attempt")
    finish_reason, parts = text(event, "finish_reason"), optional_list(event, "parts")
    file_id = optional_text(event, "text_ref")
    whole = text(event, "text") if file_id is None else ""
    if file_id is not None:
        parts = [*(parts or []), {"type": "file", "file_id": file_id, **_TEXT_FILE}]
    message = tree.messages.get(message_id)
    if message is None:
        message = Message(message_id, ASSISTANT, event.actor, "", None, tree.active_leaf, run_id, attempt)
        tree.add(message)
    message.attempt, message.finish_reason = max(message.attempt, attempt), finish_reason
    if not message.is_deleted:
        tree.rewrite(message, whole, parts)
