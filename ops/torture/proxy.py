"""A TCP proxy between two processes that simulates network faults: resets, lost data, delays, resets within a chunk."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterable, Iterator
from typing import Final, Literal

Way = Literal["up", "down"]
"""The direction of data; up is towards the server."""
REPLICATION: Final = b"PSYNC"
"""The text by which a replica's connection to its master is known."""
_CHUNK_BYTES: Final = 65_536
_FIRST_BYTES: Final = 4_096
_LAST_BYTES_S: Final = 5.0
_BUFFER_BYTES: Final = 32_768
_SEGMENT_BYTES: Final = 1_460
"""Segment size of Ethernet. With the loopback's larger segments, kernel buffers would hold three megabytes before a sender
blocks, and no node would ever notice a socket that is not read.
"""


class Carried:
    """A connection through the proxy. `first` holds the first bytes from its client, by which connections are told apart."""

    def __init__(self, client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        self.first = b""
        self.is_torn = False
        self._writers = [client, server]

    def tear(self) -> None:
        """Pass on nothing more of this connection, which is being reset."""
        self.is_torn = True

    async def end(self, writer: asyncio.StreamWriter) -> None:
        """Close one end after all data has been delivered; an end that accepts no data is left to `cut`."""
        writer.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LAST_BYTES_S):
                await writer.wait_closed()
                self._writers.remove(writer)

    def cut(self) -> None:
        """Reset both ends."""
        for writer in self._writers:
            writer.transport.abort()

    def is_of(self, marks: Iterable[bytes]) -> bool:
        """True if its client began with one of these texts, such as the name of a user, or `REPLICATION`."""
        return any(mark in self.first for mark in marks)


class Proxy:
    """Listens on a port and forwards each connection to `target`, as set when the connection is made.

    Attributes:
        target: the destination port on `host`.
        swallowed: the directions in which data is silently dropped, as on a broken link.
        silenced: the texts in a connection's first bytes by which its traffic is dropped in both directions.
        is_held: deliver nothing to the server; its answers still arrive.
        delay_s: the delay of each chunk, in seconds.
        tear_bytes: reset every connection after this many more bytes from the server; None for never.
        is_refusing: reset new connections.
        hits: number of chunks dropped or delayed, and of connections reset or refused.
    """

    def __init__(self, name: str, target: int, host: str = "127.0.0.1") -> None:
        self.name = name
        self.target, self._host = target, host
        self.port = 0
        self.swallowed: frozenset[Way] = frozenset()
        self.silenced: frozenset[bytes] = frozenset()
        self.is_held = False
        self.delay_s = 0.0
        self.tear_bytes: int | None = None
        self.is_refusing = False
        self.hits = 0
        self._carried: set[Carried] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Start listening."""
        listening = _small(socket.socket())
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(("127.0.0.1", self.port))
            self._server = await asyncio.start_server(self._accept, sock=listening, limit=_BUFFER_BYTES)
        except BaseException:  # also on an interrupt, so that no socket is left behind
            listening.close()
            raise
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Reset all connections and stop listening."""
        if self._server is not None:
            self._server.close()
        self.cut()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def cut(self) -> None:
        """Reset every connection."""
        self.hits += len(self._carried)
        for carried in list(self._carried):
            carried.cut()

    def point_at(self, port: int) -> None:
        """Forward new connections to this port from now on; existing ones are reset."""
        self.target = port
        self.cut()

    @contextlib.contextmanager
    def swallowing(self, *ways: Way) -> Iterator[None]:
        """Drop all data in these directions. At the end the connections are reset, because data is missing from their streams."""
        self.swallowed = frozenset(ways)
        try:
            yield
        finally:
            self.swallowed = frozenset()
            self.cut()

    @contextlib.contextmanager
    def holding(self) -> Iterator[None]:
        """Deliver nothing to the server; its answers still arrive."""
        self.is_held = True
        try:
            yield
        finally:
            self.is_held = False
            self.cut()

    @contextlib.contextmanager
    def silencing(self, *marks: bytes) -> Iterator[None]:
        """Drop the traffic of the connections that began with one of these texts; at the end they are reset."""
        self.silenced = frozenset(marks)
        try:
            yield
        finally:
            self.silenced = frozenset()
            for carried in list(self._carried):
                if carried.is_of(marks):
                    carried.cut()

    @contextlib.contextmanager
    def slowed(self, delay_s: float) -> Iterator[None]:
        """Delay every chunk."""
        self.delay_s = delay_s
        try:
            yield
        finally:
            self.delay_s = 0.0

    @contextlib.contextmanager
    def tearing(self, after_bytes: int) -> Iterator[None]:
        """Reset every connection within the server's next chunk."""
        self.tear_bytes = after_bytes
        try:
            yield
        finally:
            self.tear_bytes = None

    @contextlib.contextmanager
    def refusing(self) -> Iterator[None]:
        """Reset existing and new connections."""
        self.is_refusing = True
        self.cut()
        try:
            yield
        finally:
            self.is_refusing = False

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.is_refusing:
            self.hits += 1
            writer.transport.abort()
            return
        try:
            from_server, to_server = await _connect(self._host, self.target)
        except OSError:
            writer.transport.abort()
            return
        carried = Carried(writer, to_server)
        self._carried.add(carried)
        ways: tuple[tuple[Way, asyncio.StreamReader, asyncio.StreamWriter], ...] = (
            ("up", reader, to_server),
            ("down", from_server, writer),
        )
        for way, source, sink in ways:
            task = asyncio.create_task(self._carry(carried, way, source, sink))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _carry(
        self, carried: Carried, way: Way, source: asyncio.StreamReader, sink: asyncio.StreamWriter
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(_CHUNK_BYTES):
                if way == "up" and len(carried.first) < _FIRST_BYTES:
                    carried.first += data
                if self.delay_s:
                    self.hits += 1
                    await asyncio.sleep(self.delay_s)
                if self._is_behind_a_break(carried, way) or (way == "up" and self.is_held):
                    self.hits += len(data)
                    continue
                if way == "down" and self.tear_bytes is not None and not carried.is_torn:
                    self._tear(carried, data, sink)
                    await asyncio.sleep(0)
                    break
                if sink.transport.is_closing():
                    break
                sink.write(data)
                await sink.drain()
            else:
                if not self._is_behind_a_break(carried, way):
                    await carried.end(sink)
        if self._is_behind_a_break(carried, way):
            return  # behind a broken link, one side does not learn that the other has closed
        carried.cut()
        self._carried.discard(carried)

    def _is_behind_a_break(self, carried: Carried, way: Way) -> bool:
        return way in self.swallowed or (bool(self.silenced) and carried.is_of(self.silenced))

    def _tear(self, carried: Carried, data: bytes, sink: asyncio.StreamWriter) -> None:
        """Forward the beginning of a chunk, then reset the connection."""
        carried.tear()
        self.hits += 1
        sink.write(data[: min(self.tear_bytes or 0, len(data) // 2)])


def _small(end: socket.socket) -> socket.socket:
    """Give a socket, and those it accepts, buffers of the size usual on a network."""
    end.setblocking(False)
    end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER_BYTES)
    end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER_BYTES)
    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, _SEGMENT_BYTES)
    return end


async def _connect(host: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    end = _small(socket.socket())
    try:
        await asyncio.get_running_loop().sock_connect(end, (host, port))
        return await asyncio.open_connection(sock=end, limit=_BUFFER_BYTES)
    except BaseException:
        end.close()
        raise
