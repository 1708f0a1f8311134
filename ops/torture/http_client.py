"""A minimal HTTP/1.1 client for the simulated people, independent of the hub's code; one connection per request."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

_LINE_BYTES: Final = 2**24


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """A complete response."""

    status: int
    body: bytes

    def json(self) -> Any:
        """The body parsed as JSON; None if it is not JSON."""
        try:
            return json.loads(self.body)
        except ValueError:
            return None


async def request(
    method: str, url: str, headers: Mapping[str, str], body: bytes = b"", timeout_s: float = 10.0
) -> HttpAnswer:
    """Send one request and read the response.

    Raises:
        OSError, TimeoutError, EOFError, ValueError: no complete response arrived.
    """
    async with asyncio.timeout(timeout_s):
        reader, writer = await _send(method, url, {**headers, "Connection": "close"}, body)
        try:
            status, found = await _head(reader)
            return HttpAnswer(status, await _body(reader, found))
        finally:
            writer.transport.abort()


async def lines(url: str, headers: Mapping[str, str], timeout_s: float) -> AsyncIterator[bytes]:
    """The lines of an endless response; a status other than 200 raises PermissionError with the status.

    Raises:
        OSError, TimeoutError, EOFError, ValueError: the stream broke off, or was silent for longer than `timeout_s`.
    """
    async with asyncio.timeout(timeout_s):
        reader, writer = await _send("GET", url, headers, b"")
    try:
        async with asyncio.timeout(timeout_s):
            status, found = await _head(reader)
        if status != 200:  # noqa: PLR2004
            raise PermissionError(str(status))
        held = b""
        while True:
            async with asyncio.timeout(timeout_s):
                piece = (
                    await _chunk(reader)
                    if "chunked" in found.get("transfer-encoding", "")
                    else await reader.read(65_536)
                )
            if not piece:
                raise EOFError("the stream ended")
            *whole, held = (held + piece).split(b"\n")
            for line in whole:
                yield line
    finally:
        writer.transport.abort()


async def _send(
    method: str, url: str, headers: Mapping[str, str], body: bytes
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port, limit=_LINE_BYTES)
    target = parts.path + (f"?{parts.query}" if parts.query else "")
    fields = {"Host": parts.netloc, **headers}
    if (body or method != "GET") and "content-length" not in {name.lower() for name in fields}:
        fields["Content-Length"] = str(len(body))
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    writer.write(f"{method} {target} HTTP/1.1\r\n{head}\r\n".encode() + body)
    try:
        await writer.drain()
    except OSError:
        writer.transport.abort()
        raise
    return reader, writer


async def _head(reader: asyncio.StreamReader) -> tuple[int, dict[str, str]]:
    text = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *rest = text.split("\r\n")
    fields = dict(line.split(": ", 1) for line in rest if ": " in line)
    return int(first.split(" ", 2)[1]), {name.lower(): value for name, value in fields.items()}


async def _body(reader: asyncio.StreamReader, fields: Mapping[str, str]) -> bytes:
    if "content-length" in fields:
        return await reader.readexactly(int(fields["content-length"]))
    if "chunked" not in fields.get("transfer-encoding", ""):
        return await reader.read()
    pieces = []
    while piece := await _chunk(reader):
        pieces.append(piece)
    return b"".join(pieces)


async def _chunk(reader: asyncio.StreamReader) -> bytes:
    size = int((await reader.readuntil(b"\r\n")).split(b";")[0], 16)
    data = await reader.readexactly(size + 2)
    return data[:-2]
