"""A small OpenAI-compatible server on 127.0.0.1, with real sockets, chunked event streams, and the failures of such servers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable
from typing import Any, Self

Script = Callable[[dict[str, Any]], Iterable[Any]]
"""Converts a request's body to what is sent: objects become chunks, strings raw lines; `STALL` and `BREAK` stall and break the
stream.
"""
STALL, BREAK = object(), object()


class Status(Exception):
    """Raised by a script to answer with this HTTP status."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


def text(piece: str) -> dict[str, Any]:
    """A chunk with a piece of text."""
    return {"choices": [{"delta": {"content": piece}}]}


def finish(reason: str = "stop") -> dict[str, Any]:
    """The chunk that ends a response."""
    return {"choices": [{"delta": {}, "finish_reason": reason}]}


def call(index: int, call_id: str | None, name: str | None, arguments: str) -> dict[str, Any]:
    """A chunk with a piece of a tool call."""
    function = {"arguments": arguments} | ({"name": name} if name else {})
    piece = {"index": index, "function": function} | ({"id": call_id} if call_id else {})
    return {"choices": [{"delta": {"tool_calls": [piece]}}]}


class ModelServer:
    """Answers each request as `script` says, and records the requests."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.requests: list[dict[str, Any]] = []
        self.authorizations: list[str] = []

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{port}/v1"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            fields = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if ": " in line)
            names = {name.lower(): value for name, value in fields.items()}
            body = json.loads(await reader.readexactly(int(names["content-length"])))
            self.requests.append(body)
            self.authorizations.append(names.get("authorization", ""))
            await self._answer(reader, writer, body)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, body: dict[str, Any]) -> None:
        try:
            items = list(self.script(body))
        except Status as status:
            writer.write(b"HTTP/1.1 %d X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n" % status.status)
            return
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        for item in items:
            if item is BREAK:
                writer.transport.abort()
                return
            if item is STALL:
                await reader.read()  # until the client disconnects
                return
            line = item if isinstance(item, str) else f"data: {json.dumps(item)}\n\n"
            writer.write(b"%x\r\n%b\r\n" % (len(line.encode()), line.encode()))
            await writer.drain()
        writer.write(b"0\r\n\r\n")
        await writer.drain()
