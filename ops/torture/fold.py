"""A second, independent implementation of the folds of conversations, inboxes and presence, to compare with the projections.

It covers what the torture run does, as simply as possible: events are kept, and the state is computed anew each time. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

Json = dict[str, Any]


SHOWN = 50
"""Number of messages in a conversation's state."""


class _Talk:
    """A conversation after some events, with one method for each event type that changes it."""

    def __init__(self) -> None:
        self.messages: dict[str, Json] = {}
        self.parents: dict[str, str | None] = {}
        self.reruns: dict[str, str | None] = {}
        self.leaf: str | None = None
        self.title: str | None = None
        self.revision = 0

    def hang(self, message_id: str, parent: str | None, **shown: Any) -> None:
        """Add a new message below its parent."""
        self.parents[message_id] = parent
        below = {"parent_id": parent} if parent else {}
        self.messages[message_id] = {"message_id": message_id, **shown, **below, "revision": 0, "deleted": False}

    def message(self, event: Json) -> None:
        given = event["payload"].get("parent_id")
        parent = self.leaf if given is None else (given if given in self.messages else None)
        self.hang(event["id"], parent, role="user", actor=event["actor"], text=event["payload"]["text"])
        self.leaf = event["id"]

    def edit(self, event: Json) -> None:
        payload, old = event["payload"], self.messages.get(event["payload"]["message_id"])
        if old is None or old["deleted"]:
            return
        if payload.get("mode", "branch") == "branch":
            parent = self.parents[old["message_id"]]
            self.hang(event["id"], parent, role=old["role"], actor=event["actor"], text=payload["text"])
            self.leaf = event["id"]
            return
        old["text"], old["revision"] = payload["text"], old["revision"] + 1
        if payload.get("rerun") is not False and old["role"] == "user":
            self.reruns[event["id"]] = old["message_id"]

    def delete(self, event: Json) -> None:
        gone = self.messages.get(event["payload"]["message_id"])
        if gone is not None:
            gone["text"], gone["deleted"] = "", True
            gone.pop("reactions", None)

    def react(self, event: Json) -> None:
        payload, user = event["payload"], event["actor"]["id"]
        message = self.messages.get(payload["message_id"])
        if message is None or message["deleted"]:
            return
        reactions = message.get("reactions", {})
        users = [other for other in reactions.get(payload["reaction"], []) if other != user or payload["op"] == "add"]
        if payload["op"] == "add" and user not in users:
            users.append(user)
        reactions[payload["reaction"]] = users
        message["reactions"] = {name: held for name, held in reactions.items() if held}
        if not message["reactions"]:
            del message["reactions"]

    def configure(self, event: Json) -> None:
        self.title = event["payload"]["settings"].get("title", self.title)
        self.revision += 1

    def updated(self, event: Json) -> None:
        """Apply the announcement of a change; it has an effect only if the change itself is not among the events."""
        if event["payload"]["revision"] > self.revision:
            self.title = event["payload"]["changes"].get("title", self.title)
            self.revision = event["payload"]["revision"]

    def begin(self, event: Json) -> None:
        payload = event["payload"]
        if payload["message_id"] in self.messages:
            return
        parent, is_active = self._place(event)
        self.hang(
            payload["message_id"], parent, role="assistant", actor=event["actor"], text="", run_id=payload["run_id"]
        )
        self.leaf = payload["message_id"] if is_active else self.leaf

    def end(self, event: Json) -> None:
        answer = self.messages.get(event["payload"]["message_id"])
        if answer is not None:
            answer["finish_reason"] = event["payload"]["finish_reason"]
            answer["text"] = "" if answer["deleted"] else event["payload"]["text"]

    def _place(self, event: Json) -> tuple[str | None, bool]:
        """The place of an answer: beside the answer that it is an alternative to, otherwise at the end of its question's branch."""
        given, meta = event["payload"].get("parent_id"), event.get("meta", {})
        for command in (meta.get("correlation"), meta.get("causation"), given):
            if command in self.reruns:
                return self.reruns.pop(command), True
        for command, parent in list(self.reruns.items()):
            if parent is not None and parent == given:
                return self.reruns.pop(command), True
        if given is None or given not in self.messages:
            return self.leaf, True
        at = self.leaf
        while at is not None and at != given:
            at = self.parents.get(at)
        if at == given:
            return self.leaf, True
        below, last = {given}, given
        for name, parent in self.parents.items():
            if parent in below:
                below.add(name)
                last = name
        return last, last == self.leaf

    def branch(self) -> list[Json]:
        """The last messages of the active branch, oldest first."""
        found: list[Json] = []
        at = self.leaf
        while at is not None and at in self.messages and len(found) < SHOWN:
            found.append(self.messages[at])
            at = self.parents[at]
        return found[::-1]


_CHANGES = {
    "chat.message": _Talk.message,
    "chat.edit": _Talk.edit,
    "chat.delete": _Talk.delete,
    "chat.react": _Talk.react,
    "chat.configure": _Talk.configure,
    "conversation.updated": _Talk.updated,
    "assistant.message.start": _Talk.begin,
    "assistant.message.end": _Talk.end,
}


def conversation(events: Sequence[Json]) -> Json:
    """Title, revision, active leaf and the last 50 messages of the active branch after these events."""
    talk = _Talk()
    for event in events:
        change = _CHANGES.get(event["type"])
        if change is not None:
            change(talk, event)
    return {
        "title": talk.title,
        "revision": talk.revision,
        "active_leaf": talk.leaf,
        "messages": talk.branch(),
        "count": len(events),
    }


def inbox(events: Sequence[Json]) -> Json:
    """The number of unread notifications and their IDs. Expiry is not implemented, since the run does not use it."""
    unread: list[str] = []
    for event in events:
        payload = event["payload"]
        if event["type"] == "team.notification":
            unread.append(event["id"])
        elif event["type"] == "team.notification.read":
            limit = _order(payload["up_to"]) if "up_to" in payload else (0, 0)
            unread = [name for name in unread if name not in payload.get("ids", ()) and _order(name) > limit]
    return {"unread": len(unread), "notifications": unread[-100:]}


def _order(event_id: str) -> tuple[int, int]:
    ms, _, number = event_id.partition("-")
    return int(ms), int(number or 0)


def presence(signals: Iterable[Json], people: Iterable[Json] = ()) -> dict[str, int]:
    """The number of devices of each user, from a list of people and the presence events after it."""
    held = {person["user"]: int(person["devices"]) for person in people}
    for payload in signals:
        held[payload["user"]] = int(payload["devices"])
    return {user: devices for user, devices in held.items() if devices > 0}
