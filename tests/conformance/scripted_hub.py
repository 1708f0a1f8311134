"""A hub that does as a case says, over WebSocket and over HTTP: the model hub behind sockets whose every byte is the case's."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from websockets.exceptions import ConnectionClosed
from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.server import ServerProtocol

from support.model_hub import ModelHub, ModelSession

STATUS = {4001: 401, 4002: 401, 4003: 403}


@dataclass
class Outlet:
    """A socket or a stream, and the session whose messages go out over it.

    Attributes:
        left: whole messages that may still go out; then half of one, and a reset. None: no end.
    """

    session: ModelSession
    writer: asyncio.StreamWriter
    is_stream: bool
    left: int | None = None
    protocol: ServerProtocol | None = None
    is_over: bool = False

    def push(self) -> None:
        """Sends what waits."""
        while self.session.out and not self.is_over and not self.writer.transport.is_closing():
            text = self.session.out.pop(0)
            for one in self._parts(text) if self.is_stream else [text]:
                self._send(one)
        if self.session.closed is not None and not self.is_over and not self.writer.transport.is_closing():
            self.is_over = True
            self.close(self.session.closed)

    def close(self, code: int) -> None:
        """Ends it: a socket with a close code, a stream without a word."""
        if self.protocol is not None:
            self.protocol.send_close(code)
            self.flush()
        else:
            self.writer.write(b"0\r\n\r\n")

    def cut(self) -> None:
        """Resets it."""
        self.session.out.clear()
        self.session.leave()
        self.writer.transport.abort()

    def flush(self) -> None:
        """Writes what the protocol wants to be written."""
        assert self.protocol is not None
        for data in self.protocol.data_to_send():
            if data:
                self.writer.write(data)

    def _parts(self, text: str) -> list[str]:
        found = json.loads(text)
        return [json.dumps(frame) for frame in (found if isinstance(found, list) else [found])]

    def _send(self, text: str) -> None:
        data = self._stream_line(text) if self.is_stream else Frame(Opcode.TEXT, text.encode()).serialize(mask=False)
        if self.left == 0:
            self.writer.write(data[: len(data) // 2])
            self.cut()
        elif not self.writer.transport.is_closing():
            self.left = None if self.left is None else self.left - 1
            self.writer.write(data)

    def _stream_line(self, text: str) -> bytes:
        frame = json.loads(text)
        if frame["type"] == "channel.subscribed" and frame["payload"]["gap"] is None:
            del frame["payload"]["state"], frame["payload"]["state_at"]  # as a stream of the hub: without state
        head = f"id: {frame['id']}\n" if "seq" in frame else f"event: {frame['type']}\n"
        block = f"{head}data: {json.dumps(frame)}\n\n".encode()
        return b"%x\r\n%b\r\n" % (len(block), block)


@dataclass
class ScriptedHub:
    """Serves the model hub on a port of its own.

    Attributes:
        cuts: for each socket or stream to come, in turn: whole messages until it is cut.
        has_websocket: false: upgrades are refused, as by a proxy.
        has_streams: false: streams are accepted and held back.
    """

    hub: ModelHub = field(default_factory=ModelHub)
    outlets: list[Outlet] = field(default_factory=list)
    cuts: list[int] = field(default_factory=list)
    has_websocket: bool = True
    has_streams: bool = True
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    url: str = ""
    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def push(self) -> None:
        """Sends what waits, everywhere, and wakes long polls."""
        for outlet in self.outlets:
            outlet.push()
        self.changed.set()
        self.changed.clear()

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serves one connection."""
        task = asyncio.current_task()
        assert task is not None
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        with contextlib.suppress(OSError, EOFError, ConnectionClosed, asyncio.CancelledError):
            head = await reader.readuntil(b"\r\n\r\n")
            if b"upgrade: websocket" in head.lower():
                await self._serve_socket(head, reader, writer)
            else:
                await self._serve_http(head, reader, writer)
        writer.close()

    # --- sockets ---

    async def _serve_socket(self, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self.has_websocket:
            writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            return
        protocol = ServerProtocol()
        protocol.receive_data(head)
        (request,) = protocol.events_received()
        assert isinstance(request, Request)
        protocol.send_response(protocol.accept(request))
        outlet = self._outlet(writer, protocol=protocol)
        outlet.flush()
        try:
            while data := await reader.read(65_536):
                protocol.receive_data(data)
                for frame in protocol.events_received():
                    if isinstance(frame, Frame) and frame.opcode is Opcode.TEXT:
                        outlet.session.receive(bytes(frame.data).decode())
                        self.push()
                outlet.flush()
                if protocol.close_expected():
                    return
        finally:
            self._gone(outlet)

    def _outlet(self, writer: asyncio.StreamWriter, *, protocol: ServerProtocol | None = None) -> Outlet:
        left = self.cuts.pop(0) if self.cuts else None
        outlet = Outlet(ModelSession(self.hub), writer, protocol is None, left, protocol)
        self.outlets.append(outlet)
        return outlet

    def _gone(self, outlet: Outlet) -> None:
        outlet.session.leave()
        if outlet in self.outlets:
            self.outlets.remove(outlet)

    # --- HTTP ---

    async def _serve_http(self, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        lines = head.decode().split("\r\n")
        method, target, _ = lines[0].split(" ")
        headers = {
            name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:] if line)
        }
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        url = urlsplit(target)
        _, _, _, channel, what = unquote(url.path).split("/")
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        refusal = self.hub.refusals.get(headers["authorization"].removeprefix("Bearer "))
        if refusal is not None:
            answer(writer, STATUS[refusal["code"]], {"name": "some_name", "detail": "some sentence", **refusal})
        elif what == "presence":
            answer(writer, 200, {"presence": []})
        elif what == "state":
            log = self.hub.log(channel)
            answer(writer, 200, {"epoch": log.epoch, "state_at": log.head[1], "state": {"count": log.head[1]}})
        elif what == "stream":
            await self._stream(channel, query["after"], reader, writer)
        elif method == "POST":
            self._post(channel, headers["idempotency-key"], json.loads(body), writer)
        else:
            await self._page(channel, query, writer)

    async def _stream(
        self, channel: str, after: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        if not self.has_streams:
            await reader.read()  # until the client gives up
            return
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n8\r\n: open\n\n\r\n"
        )
        outlet = self._outlet(writer)
        outlet.session.subscribe({"channel": channel, "after": after}, None)
        self.push()
        try:
            await reader.read()
        finally:
            self._gone(outlet)

    def _post(self, channel: str, key: str, body: dict[str, Any], writer: asyncio.StreamWriter) -> None:
        session = ModelSession(self.hub)
        session.receive(json.dumps({"id": key, "channel": channel, **body}))
        session.leave()
        (text,) = session.out
        reply = json.loads(text)["payload"]
        answer(writer, 200 if reply["duplicate"] else 201, reply)
        self.push()

    async def _page(self, channel: str, query: dict[str, str], writer: asyncio.StreamWriter) -> None:
        log, limit = self.hub.log(channel), int(query["limit"])
        if "before" in query:
            answer_page(writer, [text for _, _, text in log.events[-limit:]], None)
            return
        judge = ModelSession(self.hub)
        gap, seq = judge._worth(log, {"after": query["after"]})
        judge.leave()
        if int(query.get("wait_ms", "0")) and gap is None and log.head[1] == seq:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(int(query["wait_ms"]) / 1000):
                    await self.changed.wait()
        log = self.hub.log(channel)
        judge = ModelSession(self.hub)
        gap, seq = judge._worth(log, {"after": query["after"]})
        judge.leave()
        answer_page(writer, [] if gap else [text for _, _, text in log.after_seq(seq)[:limit]], gap)


def answer(writer: asyncio.StreamWriter, status: int, content: object) -> None:
    """Answers with a JSON document."""
    answer_text(writer, status, json.dumps(content))


def answer_page(writer: asyncio.StreamWriter, events: list[str], gap: object) -> None:
    """Answers with a page of history; the events are the stored bytes."""
    answer_text(writer, 200, f'{{"events":[{",".join(events)}],"next":null,"gap":{json.dumps(gap)}}}')


def answer_text(writer: asyncio.StreamWriter, status: int, text: str) -> None:
    """Answers, and ends the connection."""
    body = text.encode()
    head = f"HTTP/1.1 {status} Any\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    writer.write(head.encode() + body)


@contextlib.asynccontextmanager
async def scripted_hub() -> AsyncIterator[ScriptedHub]:
    """A scripted hub on a free port of 127.0.0.1."""
    hub = ScriptedHub()
    server = await asyncio.start_server(hub.handle, "127.0.0.1", 0)
    hub.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield hub
    finally:
        server.close()
        for outlet in list(hub.outlets):
            outlet.cut()
        for task in hub.tasks:
            task.cancel()
        await asyncio.gather(*hub.tasks, return_exceptions=True)
