"""A minimal Redis client, independent of the hub's code, for injecting faults and reading the log at the end."""

from __future__ import annotations

import asyncio
from typing import Any, Final
from urllib.parse import unquote, urlsplit

TIMEOUT_S: Final = 10.0


class RedisRefused(Exception):
    """Redis answered with an error."""


class Resp:
    """A connection to a Redis server."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def connect(cls, port: int, host: str = "127.0.0.1") -> Resp:
        """Connect to a port.

        Raises:
            OSError: no server is listening.
        """
        async with asyncio.timeout(TIMEOUT_S):
            return cls(*await asyncio.open_connection(host, port, limit=2**26))

    @classmethod
    async def at(cls, url: str) -> Resp:
        """Connect to `redis[s]://[user:password@]host[:port][/database]`.

        Raises:
            OSError, TimeoutError: the server does not answer.
            RedisRefused: the password or the database was refused.
        """
        parts = urlsplit(url)
        async with asyncio.timeout(TIMEOUT_S):
            made = cls(
                *await asyncio.open_connection(
                    parts.hostname, parts.port or 6379, limit=2**26, ssl=True if parts.scheme == "rediss" else None
                )
            )
        try:
            if parts.password:
                await made.call("AUTH", *filter(None, (unquote(parts.username or ""), unquote(parts.password))))
            if parts.path.strip("/") not in {"", "0"}:
                await made.call("SELECT", parts.path.strip("/"))
        except BaseException:
            made.close()
            raise
        return made

    async def call(self, *words: str | bytes | int, timeout_s: float = TIMEOUT_S) -> Any:
        """Send a command and return its reply.

        Raises:
            RedisRefused: the reply is an error.
            OSError, TimeoutError: the connection was lost, or the server does not answer.
        """
        parts = [word if isinstance(word, bytes) else str(word).encode() for word in words]
        frame = b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in parts)
        self._writer.write(frame)
        async with asyncio.timeout(timeout_s):
            await self._writer.drain()
            return await self._reply()

    async def _reply(self) -> Any:
        try:
            line = await self._reader.readuntil(b"\r\n")
            head, rest = line[:1], line[1:-2]
            if head == b"-":
                raise RedisRefused(rest.decode())
            if head == b"$":
                return None if rest == b"-1" else (await self._reader.readexactly(int(rest) + 2))[:-2]
        except asyncio.IncompleteReadError as error:
            raise ConnectionResetError("Redis closed the connection") from error
        if head == b"*":
            return None if rest == b"-1" else [await self._reply() for _ in range(int(rest))]
        return int(rest) if head == b":" else rest

    def close(self) -> None:
        """Close the connection."""
        self._writer.transport.abort()


async def ask(port: int, *words: str | bytes | int, timeout_s: float = TIMEOUT_S) -> Any:
    """Run one command on a new connection; see `Resp.call`."""
    connection = await Resp.connect(port)
    try:
        return await connection.call(*words, timeout_s=timeout_s)
    finally:
        connection.close()
