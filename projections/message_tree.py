"""Messages as a tree with one active leaf: regenerated answers and edits are siblings, nothing is taken out. Pure.

It holds the newest messages only (ops/decisions/0005-what-state-forgets.md): a channel of 100,000 messages must fit a
snapshot that is read on subscribe. The events alone decide what is forgotten, so every fold forgets the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from projections.message import Message, load_message
from streams.json_bytes import Json

SHOWN_MAX: Final = 50
"""Messages of the active branch that state shows (docs/protocol.md#state)."""
HELD_MAX: Final = 4_096
"""Messages held before the older half is forgotten. Half of it is how far back a branch can start; a snapshot of as many
lines of chat is under 1 MB and is read in about 10 ms."""
RERUNS_MAX: Final = 100
"""Commands that asked for another answer and have not got one; those of refused or failed runs never do."""
WEIGHT_MAX: Final = 4 * 1024 * 1024
"""Characters held before the older half is forgotten: eight answers of the largest size, or 2,000 of two pages."""


@dataclass(slots=True)
class MessageTree:
    """The messages held, oldest first: a parent always stands before its children.

    Attributes:
        active_leaf: the last message of the active branch; None in an empty tree.
        weight: of all messages held.
        reruns: command → the parent of the answer it asks for, which becomes a sibling of the answers there.
    """

    messages: dict[str, Message] = field(default_factory=dict)
    active_leaf: str | None = None
    weight: int = 0
    reruns: dict[str, str | None] = field(default_factory=dict)

    def parent_for(self, given: str | None) -> str | None:
        """The parent of a new message: the given one, by default the active leaf.

        One that is not held (forgotten, trimmed, never there) gives None: the branch begins with the new message. So no
        cycle can arise.
        """
        if given is None:
            return self.active_leaf
        return given if given in self.messages else None

    def add(self, message: Message, *, is_active: bool = True) -> None:
        """Put a new message under its `parent_id`; its branch becomes the active one, unless a person chose another."""
        self.messages[message.message_id] = message
        if is_active:
            self.active_leaf = message.message_id
        self.weight += message.weight
        if len(self.messages) > HELD_MAX or self.weight > WEIGHT_MAX:
            self._forget()

    def rewrite(self, message: Message, text: str, parts: list[Json] | None, event_id: str) -> None:
        """Replace a held message's text and parts because of this event."""
        self.weight -= message.weight
        message.text, message.parts, message.text_at = text, parts, event_id
        self.weight += message.weight
        if self.weight > WEIGHT_MAX:
            self._forget()

    def erase(self, message: Message) -> None:
        """Make a held message a tombstone."""
        self.weight -= message.weight
        message.erase()

    def activate(self, message_id: str) -> None:
        """Make the branch that ends in this message the active one; one that is not held changes nothing."""
        if message_id in self.messages:
            self.active_leaf = message_id

    def branch(self, count: int = SHOWN_MAX) -> list[Message]:
        """The last `count` messages of the active branch, oldest first."""
        path: list[Message] = []
        message = self.messages.get(self.active_leaf or "")
        while message is not None and len(path) < count:
            path.append(message)
            message = self.messages.get(message.parent_id or "")
        path.reverse()
        return path

    def is_on_active_branch(self, message_id: str) -> bool:
        """True when the message is on the active branch."""
        name = self.active_leaf
        for _ in range(len(self.messages)):
            message = self.messages.get(name or "")
            if message is None or name == message_id:
                break
            name = message.parent_id
        return name == message_id

    def leaf_below(self, root: Message) -> str:
        """The end of the branch this message is on: the active leaf, else the newest message below it."""
        if self.active_leaf is not None and self.is_on_active_branch(root.message_id):
            return self.active_leaf
        return [message.message_id for message in self.subtree(root)][-1]

    def ask_again(self, command: str, parent_id: str | None) -> None:
        """Remember that a command asked for another answer below this parent."""
        self.reruns[command] = parent_id
        if len(self.reruns) > RERUNS_MAX:
            del self.reruns[next(iter(self.reruns))]

    def newest(self, count: int = SHOWN_MAX) -> list[Message]:
        """The last `count` messages of all branches, oldest first."""
        messages = list(self.messages.values())
        return messages[-count:]

    def subtree(self, root: Message) -> Iterator[Message]:
        """The message and all below it, parents first."""
        inside = {root.message_id}
        yield root
        for message in self.messages.values():
            if message.parent_id in inside:
                inside.add(message.message_id)
                yield message

    def _forget(self) -> None:
        """Keep the newest half, the messages shown, and answers still being written."""
        kept = {message.message_id for message in self.branch()}
        kept.update(message.message_id for message in self.messages.values() if message.is_open)
        count, weight = 0, 0
        for message in reversed(self.messages.values()):
            count, weight = count + 1, weight + message.weight
            if count > HELD_MAX // 2 or weight > WEIGHT_MAX // 2:
                break
            kept.add(message.message_id)
        self.messages = {name: message for name, message in self.messages.items() if name in kept}
        self.weight = sum(message.weight for message in self.messages.values())

    def dump(self) -> dict[str, Json]:
        """Everything `load_tree` needs."""
        messages: list[Json] = [message.dump() for message in self.messages.values()]
        return {"active_leaf": self.active_leaf, "reruns": {**self.reruns}, "messages": messages}


def load_tree(value: dict[str, Any]) -> MessageTree:
    """The tree that a dump was made from."""
    messages = {message.message_id: message for message in map(load_message, value["messages"])}
    weight = sum(message.weight for message in messages.values())
    return MessageTree(messages, value["active_leaf"], weight, value["reruns"])
