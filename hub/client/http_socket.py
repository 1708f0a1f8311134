"""Replaces the socket by HTTP requests, for networks that refuse WebSocket.

The messages that the core sends become requests, and the answers reach the core as messages. Each channel is read by a
`ChannelReader`. Commands are POSTs, one at a time in each channel so that their order is kept. Over HTTP there are no heartbeats,
no presence of others, and none of the commands that only a socket takes.
"""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
from base64 import urlsafe_b64decode
from collections import deque
from collections.abc import Coroutine, Mapping
from typing import Any, Final
from urllib.parse import quote, urlencode

from websockets.exceptions import ConnectionClosedError
from websockets.frames import Close

from hub.client.channel_reader import ChannelReader
from hub.client.http_requests import HttpRefusal, NoAnswer, request
from hub.client.items import Payload

_log: Final = logging.getLogger("hub.client")
_REQUEST_S: Final = 20.0
"""Seconds to wait for an answer, except that of a long poll."""
_WAITING_MAX: Final = 1_000
"""Maximum messages that wait for the driver; with more, streams are not read."""
_LIMIT_BYTES: Final = 1_048_576
"""The hub's default maximum size of a message; over HTTP it does not announce its own."""
_OF_THE_TOKEN: Final = (4001, 4002, 4019)
_LASTING: Final = frozenset(range(400, 500)) - {408, 425, 429}
"""HTTP statuses that another attempt does not change."""
_LOST: Final = 1006
_RESTART: Final = 1012
_DENIED: Final = 4003
_REPLY_TYPES: Final = {"chat.message": "message.received", "file.upload.request": "file.upload.authorized"}
"""Replies that are not `ack`."""


class HttpSocket:
    """Has the methods of a `ClientConnection` that the driver uses.

    Attributes:
        close_code: the code it ended with; None while it is open.
        is_polling: True if the network lets no stream through.
        is_foreign: True if something other than a hub answers at this address, and will go on doing so.
    """

    def __init__(self, base: str) -> None:
        self.close_code: int | None = None
        self.is_polling = False
        self.is_foreign = False
        self._base = base
        self._token = ""
        self._inbox: deque[str] = deque()
        self._news, self._room = asyncio.Event(), asyncio.Event()
        self._readers: dict[str, asyncio.Task[None]] = {}
        self._turns: dict[str, asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    # --- as a socket ---

    async def recv(self) -> str:
        """Take the next message.

        Raises:
            ConnectionClosedError: it has ended.
        """
        while not self._inbox:
            if self.close_code is not None:
                raise ConnectionClosedError(Close(self.close_code, ""), None)
            self._news.clear()
            await self._news.wait()
        self._room.set()
        return self._inbox.popleft()

    async def send(self, message: bytes) -> None:
        """Carry out the commands of a message."""
        found = json.loads(message)
        for frame in found if isinstance(found, list) else [found]:
            self._take(frame)

    def end(self, code: int = _LOST) -> None:
        """End the connection; messages received before can still be read."""
        if self.close_code is None:
            self.close_code = code
            self._news.set()
            self._room.set()
            for task in self._tasks:
                task.cancel()

    async def close(self) -> None:
        """End the connection."""
        self.end(1000)

    def abort(self) -> None:
        """End the connection."""
        self.end()

    def cut(self) -> None:
        """End the connection as if it were lost."""
        self.end()

    async def wait_closed(self) -> None:
        """Wait until no request is in progress."""
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # --- for the readers ---

    async def tell(self, text: str) -> None:
        """Queue a message for the driver, then wait until the queue has room."""
        self._inbox.append(text)
        self._news.set()
        while len(self._inbox) >= _WAITING_MAX and self.close_code is None:
            self._room.clear()
            await self._room.wait()

    async def refuse(self, payload: Payload) -> None:
        """End the connection with the hub's error."""
        await self.tell(json.dumps({"type": "connection.error", "payload": payload}))
        self.end(payload["code"])

    async def drained(self, text: str) -> None:
        """End the connection because the node is about to stop."""
        await self.tell(text)
        self.end(_RESTART)

    async def get(self, path: str, query: Mapping[str, object], timeout_s: float = _REQUEST_S) -> str:
        """Request a document.

        Raises:
            HttpRefusal: the hub refused.
            OSError, EOFError: there was no answer.
        """
        async with asyncio.timeout(timeout_s), request("GET", self.url(path, query), self.headers()) as answer:
            return await answer.text()

    def url(self, path: str, query: Mapping[str, object]) -> str:
        """The address of a route."""
        asked = {name: value for name, value in query.items() if value is not None}
        return f"{self._base}{path}" + (f"?{urlencode(asked)}" if asked else "")

    def headers(self) -> dict[str, str]:
        """The headers of every request."""
        return {"Authorization": f"Bearer {self._token}"} if self._token else {}

    # --- messages ---

    def _take(self, frame: dict[str, Any]) -> None:
        kind, payload = frame["type"], frame.get("payload", {})
        match kind:
            case "connection.init" | "connection.reconnect":
                self._spawn(self._greet(frame["id"], payload))
            case "connection.heartbeat":
                self._spawn(self.tell('{"type":"connection.heartbeat","payload":{}}'))
            case "connection.refresh":
                self._token = payload["token"]  # running streams end with the old one, and are opened again with this
                self._spawn(self.tell(json.dumps({"type": "connection.refreshed", "re": frame["id"], "payload": {}})))
            case "channel.subscribe":
                for wanted in payload["channels"]:
                    self._follow(wanted, frame["id"])
            case "channel.unsubscribe":
                for channel in payload["channels"]:
                    self._leave(channel)
            case _:
                channel = frame.get("channel", "")
                before = self._turns.get(channel)
                self._turns[channel] = self._spawn(self._command(before, frame, channel, payload))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (problem := task.exception()) is not None:  # a proxy may answer anything
            _log.warning("the connection over HTTP ended because of an unreadable answer: %r", problem)
            self.end()

    async def _greet(self, command_id: str, wanted: dict[str, Any]) -> None:
        """Check the token and the hub by requesting the presence in the user's own inbox, which the user may always read."""
        self._token = wanted.get("token", "")
        claims = _claims_of(self._token)
        user = claims.get("sub")
        try:
            await self.get(f"/v1/channels/user:{quote(str(user or '-'))}/presence", {})
        except HttpRefusal as refusal:
            if refusal.payload["code"] != _DENIED or user is not None:
                return await self.refuse(refusal.payload)
        except (OSError, EOFError, TimeoutError) as problem:
            self.is_foreign = isinstance(problem, NoAnswer) and problem.status in _LASTING
            return self.end()
        ack: dict[str, Any] = {
            "session_id": wanted.get("session_id"), "client_id": wanted.get("client_id") or secrets.token_hex(8), "user": user,
            "tenant": claims.get("tenant"), "version": 1, "capabilities": [], "heartbeat_interval_ms": 30_000,
            "message_size_limit_bytes": _LIMIT_BYTES, "node": None, "server_time": None,
        }  # fmt: skip # a table
        await self.tell(json.dumps({"type": "connection.ack", "re": command_id, "payload": ack}))
        for channel, cursor in wanted.get("cursors", {}).items():
            self._follow({"channel": channel, **cursor}, None)
        for one in wanted.get("channels", ()):
            self._follow(one, None)
        return None

    def _follow(self, wanted: dict[str, Any], re: str | None) -> None:
        self._leave(wanted["channel"])
        self._readers[wanted["channel"]] = self._spawn(ChannelReader(self, wanted, re).run())

    def _leave(self, channel: str) -> None:
        if (reader := self._readers.pop(channel, None)) is not None:
            reader.cancel()

    async def _command(
        self, before: asyncio.Task[None] | None, frame: dict[str, Any], channel: str, payload: Payload
    ) -> None:
        if before is not None:
            await asyncio.wait([before])
        command_id = frame.get("id")
        reply: dict[str, Any] = {"re": command_id, "channel": channel}
        try:
            answer, text = await self._carry_out(frame, channel, payload)
            if command_id is not None:  # the payload goes over as it came: the bytes of events are the hub's
                head = json.dumps({"type": answer} | reply)
                await self.tell(f'{head[:-1]},"payload":{text}}}')
        except HttpRefusal as refusal:
            if refusal.payload["code"] in _OF_THE_TOKEN:
                await self.refuse(refusal.payload)
            elif command_id is not None:
                await self.tell(json.dumps({"type": "connection.error", **reply, "payload": refusal.payload}))
        except (OSError, EOFError, TimeoutError):
            self.end()

    async def _carry_out(self, frame: dict[str, Any], channel: str, payload: Payload) -> tuple[str, str]:
        kind: str = frame["type"]
        path = f"/v1/channels/{quote(channel)}"
        if kind == "channel.state":
            return kind, await self.get(f"{path}/state", {})
        if kind == "channel.history":
            types = payload.get("types")
            return kind, await self.get(f"{path}/events", {**payload, "types": ",".join(types) if types else None})
        if not channel:
            message = f"{kind} can be sent over a WebSocket only, and none gets through here"
            raise HttpRefusal({"code": 4024, "name": "feature_disabled", "message": message, "retry": "no"})
        body = json.dumps({"type": kind, "payload": payload}).encode()
        headers = self.headers() | {"Content-Type": "application/json", **frame.get("meta", {})}
        if (command_id := frame.get("id")) is not None:
            headers["Idempotency-Key"] = command_id
        async with (
            asyncio.timeout(_REQUEST_S),
            request("POST", self.url(f"{path}/events", {}), headers, body) as answer,
        ):
            text = await answer.text()
        return _REPLY_TYPES.get(kind, "ack"), text


def _claims_of(token: str) -> dict[str, Any]:
    """A token's claims, unverified; empty if it is no JWT."""
    try:
        part = token.split(".")[1]
        found = json.loads(urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except (IndexError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
