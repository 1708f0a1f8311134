"""chat.*: what a client may write into a conversation."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from hub.command import Append, Command, Outcome
from hub.frames import to_json
from streams.events.chat import ChatTyping

if TYPE_CHECKING:
    from hub.connection import Connection
    from hub.hub import Hub

_STORED = b'"disposition":"stored"'


class ChatHandler:
    """Messages and typing."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    def message(self, command: Command, connection: Connection | None) -> Outcome:  # noqa: ARG002
        """A person's message is stored as it was sent."""
        return Append(command.draft(), _STORED)

    def typing(self, command: Command, connection: Connection | None) -> Outcome:  # noqa: ARG002
        """Told to whoever follows the conversation now; `user` is added."""
        payload = cast("ChatTyping", command.payload)
        data = {"state": payload.state, "ttl_ms": payload.ttl_ms, "user": command.caller.principal.user}
        return Append(command.draft(data=to_json(data)))
