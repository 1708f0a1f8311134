"""The table of handlers, one for each event type; a test compares it with the catalogue."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from hub.handlers.agents import AgentCommands
from hub.handlers.channels import ChannelCommands
from hub.handlers.chat import ChatCommands
from hub.handlers.connection import ConnectionCommands
from hub.handlers.documents import DocumentCommands
from hub.handlers.files import FileCommands
from hub.handlers.teams import TeamCommands
from hub.handlers.tools import ToolCommands
from hub.ports import BinaryTaker, Handler, NodePort
from streams.events.custom import ROW as CUSTOM_ROW

EVENT_HANDLERS: Final[Mapping[str, tuple[type, str]]] = MappingProxyType(
    {
        "connection.init": (ConnectionCommands, "init"),
        "connection.reconnect": (ConnectionCommands, "reconnect"),
        "connection.heartbeat": (ConnectionCommands, "heartbeat"),
        "connection.refresh": (ConnectionCommands, "refresh"),
        "channel.subscribe": (ChannelCommands, "subscribe"),
        "channel.unsubscribe": (ChannelCommands, "unsubscribe"),
        "channel.presence": (ChannelCommands, "presence"),
        "channel.history": (ChannelCommands, "history"),
        "channel.state": (ChannelCommands, "state"),
        "file.upload.request": (FileCommands, "request"),
        "file.upload.sign": (FileCommands, "sign"),
        "file.upload.status": (FileCommands, "status"),
        "file.upload.progress": (FileCommands, "progress"),
        "file.upload.complete": (FileCommands, "complete"),
        "file.upload.cancel": (FileCommands, "cancel"),
        "file.chunk": (FileCommands, "chunk"),
        "file.url": (FileCommands, "url"),
        "channel.configure": (ChannelCommands, "configure"),
        "channel.read": (ChannelCommands, "read"),
        "chat.message": (ChatCommands, "message"),
        "chat.typing": (ChatCommands, "typing"),
        "chat.configure": (ChatCommands, "configure"),
        "chat.regenerate": (ChatCommands, "regenerate"),
        "chat.cancel": (ChatCommands, "cancel"),
        "chat.edit": (ChatCommands, "edit"),
        "chat.delete": (ChatCommands, "delete"),
        "chat.react": (ChatCommands, "about"),
        "chat.feedback": (ChatCommands, "about"),
        "chat.branch": (ChatCommands, "branch"),
        "agent.invoke": (AgentCommands, "invoke"),
        "agent.cancel": (AgentCommands, "cancel"),
        "agent.steer": (AgentCommands, "steer"),
        "agent.list": (AgentCommands, "list"),
        "tool.call.response": (ToolCommands, "response"),
        "team.activity": (TeamCommands, "store"),
        "team.presence.update": (TeamCommands, "presence"),
        "team.notification": (TeamCommands, "store"),
        "team.notification.read": (TeamCommands, "read"),
        "document.update": (DocumentCommands, "update"),
        "document.cursor": (DocumentCommands, "cursor"),
        CUSTOM_ROW: (ChannelCommands, "store"),
    }
)
"""Event type → the class and method that handle it."""


def build_handlers(node: NodePort, table: Mapping[str, tuple[type, str]]) -> tuple[dict[str, Handler], BinaryTaker]:
    """Returns the handler of each event type, with one instance per class, and the handler of binary messages."""
    instances = {family: family(node) for family, _ in table.values()}
    handlers = {name: getattr(instances[family], method) for name, (family, method) in table.items()}
    return handlers, instances[FileCommands].binary
