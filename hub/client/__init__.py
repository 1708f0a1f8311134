"""The Python client of the hub. It depends only on `websockets` and imports nothing of the server.

    async with HubClient("http://127.0.0.1:8000", token) as hub:
        async for event in hub.subscribe("conversation:42", after="0"):
            print(event.seq, event.payload)

Events of a channel arrive in `seq` order, each once and none missing, however often the connection is lost. Where
that is impossible, a gap is raised or reported, never hidden.
"""

from hub.client.answers import Answer, answers, follow
from hub.client.client import VERSION, HubClient
from hub.client.cursors import CursorStore, FileCursors, MemoryCursors
from hub.client.driver import Token
from hub.client.errors import (
    AnswerFailed,
    ChannelClosed,
    ClientError,
    ConnectionRefused,
    GapError,
    HubClosed,
    HubError,
    HubUnreachable,
    OutboxFull,
    Retry,
    StreamBroken,
    UploadFailed,
    Wait,
)
from hub.client.items import ChannelState, Cursor, Event, Gap, History, Item, Receipt, Reply, Signal, Stored, Subscribed
from hub.client.subscription import Subscription
from hub.client.sync import SyncHub
from hub.client.uploads import UploadedFile

__all__ = [
    "VERSION",
    "Answer",
    "AnswerFailed",
    "ChannelClosed",
    "ChannelState",
    "ClientError",
    "ConnectionRefused",
    "Cursor",
    "CursorStore",
    "Event",
    "FileCursors",
    "Gap",
    "GapError",
    "History",
    "HubClient",
    "HubClosed",
    "HubError",
    "HubUnreachable",
    "Item",
    "MemoryCursors",
    "OutboxFull",
    "Receipt",
    "Reply",
    "Retry",
    "Signal",
    "Stored",
    "StreamBroken",
    "Subscribed",
    "Subscription",
    "SyncHub",
    "Token",
    "UploadFailed",
    "UploadedFile",
    "Wait",
    "answers",
    "follow",
]
