"""Which handler takes which event. One table; a test holds it against the catalogue."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from hub.handlers.agents import AgentHandler
from hub.handlers.channels import ChannelHandler
from hub.handlers.chat import ChatHandler
from hub.handlers.connection import ConnectionHandler
from hub.handlers.documents import DocumentHandler
from hub.handlers.files import FileHandler
from hub.handlers.teams import TeamHandler
from hub.handlers.tools import ToolHandler
from hub.protocol.commands import Command, Outcome

if TYPE_CHECKING:
    from hub.node.connection import Connection
    from hub.node.hub import Hub

Handler = Callable[[Command, "Connection | None"], Outcome | Coroutine[Any, Any, Outcome]]
"""Takes a command and the socket it came on (None: over HTTP); decides what is to be done."""

EVENT_HANDLERS: Final[Mapping[str, tuple[type, str]]] = MappingProxyType(
    {
        "connection.init": (ConnectionHandler, "init"),
        "connection.reconnect": (ConnectionHandler, "reconnect"),
        "connection.heartbeat": (ConnectionHandler, "heartbeat"),
        "connection.refresh": (ConnectionHandler, "refresh"),
        "channel.subscribe": (ChannelHandler, "subscribe"),
        "channel.unsubscribe": (ChannelHandler, "unsubscribe"),
        "channel.presence": (ChannelHandler, "presence"),
        "channel.history": (ChannelHandler, "history"),
        "channel.state": (ChannelHandler, "state"),
        "file.upload.request": (FileHandler, "request"),
        "file.upload.sign": (FileHandler, "sign"),
        "file.upload.status": (FileHandler, "status"),
        "file.upload.progress": (FileHandler, "progress"),
        "file.upload.complete": (FileHandler, "complete"),
        "file.upload.cancel": (FileHandler, "cancel"),
        "file.chunk": (FileHandler, "chunk"),
        "file.url": (FileHandler, "url"),
        "channel.read": (ChannelHandler, "read"),
        "chat.message": (ChatHandler, "message"),
        "chat.typing": (ChatHandler, "typing"),
        "chat.configure": (ChatHandler, "configure"),
        "chat.regenerate": (ChatHandler, "regenerate"),
        "chat.cancel": (ChatHandler, "cancel"),
        "chat.edit": (ChatHandler, "edit"),
        "chat.delete": (ChatHandler, "delete"),
        "chat.react": (ChatHandler, "about"),
        "chat.feedback": (ChatHandler, "about"),
        "chat.branch": (ChatHandler, "branch"),
        "agent.invoke": (AgentHandler, "invoke"),
        "agent.cancel": (AgentHandler, "cancel"),
        "agent.steer": (AgentHandler, "steer"),
        "agent.list": (AgentHandler, "list"),
        "tool.call.response": (ToolHandler, "response"),
        "team.activity": (TeamHandler, "store"),
        "team.presence.update": (TeamHandler, "presence"),
        "team.notification": (TeamHandler, "store"),
        "team.notification.read": (TeamHandler, "read"),
        "document.update": (DocumentHandler, "update"),
        "document.cursor": (DocumentHandler, "cursor"),
    }
)
"""Event type → the class and method that decide."""


def build_handlers(hub: Hub, table: Mapping[str, tuple[type, str]]) -> dict[str, Handler]:
    """One instance of each class, bound to the hub, and the method of each type."""
    instances = {family: family(hub) for family, _ in table.values()}
    return {name: getattr(instances[family], method) for name, (family, method) in table.items()}
