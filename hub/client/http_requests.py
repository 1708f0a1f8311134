"""HTTP/1.1 as far as the client needs it: each connection carries one request, and the body is passed on as it arrives."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

from hub.client.items import Payload

_OPEN_S: Final = 10.0
_OK: Final = range(200, 300)
_LINE_BYTES_MAX: Final = 16_777_216
"""Maximum length of a line; each event of a stream is one line."""


class HttpRefusal(Exception):
    """The hub refused a request; `payload` has the fields of a `connection.error`."""

    def __init__(self, payload: Payload) -> None:
        super().__init__(f"{payload['code']} {payload.get('name')}")
        self.payload = payload


class NoAnswer(OSError):
    """The answer did not come from a hub.

    Attributes:
        status: its HTTP status; None if it is not HTTP.
    """

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """The head of an answer, and the reader of its body."""

    status: int
    headers: Mapping[str, str]
    _reader: asyncio.StreamReader = field(repr=False)

    async def pieces(self) -> AsyncIterator[bytes]:
        """Yields the body as it arrives.

        Raises:
            EOFError: it ended early.
        """
        if self.headers.get("transfer-encoding", "").lower() == "chunked":
            while size := int((await self._reader.readuntil(b"\r\n")).partition(b";")[0], 16):
                yield await self._reader.readexactly(size)
                await self._reader.readexactly(2)
        elif "content-length" in self.headers:
            yield await self._reader.readexactly(int(self.headers["content-length"]))
        else:
            while piece := await self._reader.read(65_536):
                yield piece

    async def text(self) -> str:
        """The whole body.

        Raises:
            HttpRefusal: the hub refused the request.
            NoAnswer: the refusal did not come from a hub.
        """
        text = b"".join([piece async for piece in self.pieces()]).decode()
        if self.status in _OK:
            return text
        with contextlib.suppress(ValueError, TypeError, KeyError):
            problem = json.loads(text)
            payload = {
                name: problem[name]
                for name in ("code", "name", "retry", "retry_after_ms", "details")
                if name in problem
            }
            if isinstance(payload["code"], int):
                raise HttpRefusal({**payload, "message": problem.get("detail", "the hub gave no reason")})
        raise NoAnswer(f"HTTP {self.status}", self.status)


@contextlib.asynccontextmanager
async def request(
    method: str, url: str, headers: Mapping[str, str], body: bytes | None = None
) -> AsyncIterator[HttpAnswer]:
    """Send one request; the connection lasts as long as the context.

    Raises:
        OSError, EOFError: no connection, or no answer.
    """
    parts = urlsplit(url)
    is_secure = parts.scheme == "https"
    port = parts.port or (443 if is_secure else 80)
    context = ssl.create_default_context() if is_secure else None
    async with asyncio.timeout(_OPEN_S):
        reader, writer = await asyncio.open_connection(parts.hostname, port, ssl=context, limit=_LINE_BYTES_MAX)
    try:
        target = f"{parts.path}?{parts.query}" if parts.query else parts.path
        length = {} if body is None else {"Content-Length": str(len(body))}
        fields = {"Host": parts.netloc, "Connection": "close", **headers, **length}
        head = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
        writer.write(("\r\n".join(head) + "\r\n\r\n").encode("latin-1") + (body or b""))
        await writer.drain()
        yield await _read_head(reader)
    finally:
        writer.transport.abort()


async def _read_head(reader: asyncio.StreamReader) -> HttpAnswer:
    lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    try:
        status = int(lines[0].split(" ", 2)[1])
    except (IndexError, ValueError):
        raise NoAnswer("the answer is not HTTP") from None
    found = (line.partition(":") for line in lines[1:] if line)
    return HttpAnswer(status, {name.strip().lower(): value.strip() for name, _, value in found}, reader)
