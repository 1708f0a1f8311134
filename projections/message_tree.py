"""The messages of a conversation as a tree with one active leaf: regenerated answers and edits are added as siblings. Pure.

Only the newest messages are kept (ops/decisions/0005-what-state-forgets.md), so that the snapshot of a channel of 100,000
messages, which is read on subscribe, stays small. The events alone determine which messages are dropped, so every fold drops
the same ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from projections.message import Message, load_message
from streams.json_bytes import Json

SHOWN_MAX: Final = 50
"""Number of messages of the active branch in the state (docs/protocol.md#state)."""
HELD_MAX: Final = 4_096
"""Number of messages kept before the older half is dropped. Half of it is how far back a new branch can start. A snapshot of
4,096 short chat messages is under 1 MB and is read in about 10 ms.
"""
RERUNS_MAX: Final = 100
"""Maximum number of regenerate commands remembered until their answer begins; those of refused or failed runs never get one."""
WEIGHT_MAX: Final = 4 * 1024 * 1024
"""Weight of all messages, in characters, above which the older half is dropped: eight answers of the largest size, or 2,000 of
two pages.
"""


@dataclass(slots=True)
class MessageTree:
    """The kept messages, oldest first: a parent always comes before its children.

    Attributes:
        active_leaf: the last message of the active branch; None in an empty tree.
        weight: the weight of all messages together.
        reruns: regenerate command → the parent of the requested answer, which becomes a sibling of the answers there.
    """

    messages: dict[str, Message] = field(default_factory=dict)
    active_leaf: str | None = None
    weight: int = 0
    reruns: dict[str, str | None] = field(default_factory=dict)

    def parent_for(self, given: str | None) -> str | None:
        """The parent of a new message: the given one, or by default the active leaf.

        Returns None if the given one is not in the tree; the new message then begins a branch. So no cycle can arise.
        """
        if given is None:
            return self.active_leaf
        return given if given in self.messages else None

    def add(self, message: Message, *, is_active: bool = True) -> None:
        """Add a message below its `parent_id`, and make its branch active if `is_active`."""
        self.messages[message.message_id] = message
        if is_active:
            self.active_leaf = message.message_id
        self.weight += message.weight
        if len(self.messages) > HELD_MAX or self.weight > WEIGHT_MAX:
            self._forget()

    def rewrite(self, message: Message, text: str, parts: list[Json] | None, event_id: str) -> None:
        """Replace a message's text and parts, as changed by the event with this ID."""
        self.weight -= message.weight
        message.text, message.parts, message.text_at = text, parts, event_id
        self.weight += message.weight
        if self.weight > WEIGHT_MAX:
            self._forget()

    def erase(self, message: Message) -> None:
        """Turn a message of the tree into a tombstone."""
        self.weight -= message.weight
        message.erase()

    def activate(self, message_id: str) -> None:
        """Make the branch that ends in this message active; an unknown message changes nothing."""
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
        """True if the message is on the active branch."""
        name = self.active_leaf
        for _ in range(len(self.messages)):
            message = self.messages.get(name or "")
            if message is None or name == message_id:
                break
            name = message.parent_id
        return name == message_id

    def leaf_below(self, root: Message) -> str:
        """The end of this message's branch: the active leaf if it is on that branch, otherwise the newest message below."""
        if self.active_leaf is not None and self.is_on_active_branch(root.message_id):
            return self.active_leaf
        return [message.message_id for message in self.subtree(root)][-1]

    def ask_again(self, command: str, parent_id: str | None) -> None:
        """Remember that a command requested another answer below this parent."""
        self.reruns[command] = parent_id
        if len(self.reruns) > RERUNS_MAX:
            del self.reruns[next(iter(self.reruns))]

    def newest(self, count: int = SHOWN_MAX) -> list[Message]:
        """The last `count` messages of all branches, oldest first."""
        messages = list(self.messages.values())
        return messages[-count:]

    def subtree(self, root: Message) -> Iterator[Message]:
        """The message and all messages below it, parents first."""
        inside = {root.message_id}
        yield root
        for message in self.messages.values():
            if message.parent_id in inside:
                inside.add(message.message_id)
                yield message

    def _forget(self) -> None:
        """Drop the older half, except messages that are shown and answers in progress."""
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
        """The tree as JSON for `load_tree`."""
        messages: list[Json] = [message.dump() for message in self.messages.values()]
        return {"active_leaf": self.active_leaf, "reruns": {**self.reruns}, "messages": messages}


def load_tree(value: dict[str, Any]) -> MessageTree:
    """Restore a tree from its dump."""
    messages = {message.message_id: message for message in map(load_message, value["messages"])}
    weight = sum(message.weight for message in messages.values())
    return MessageTree(messages, value["active_leaf"], weight, value["reruns"])
