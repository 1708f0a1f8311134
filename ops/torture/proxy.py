"""A TCP proxy between two processes, with the faults of a network: cut, swallowed, late, torn in the middle of a chunk."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from typing import Final, Literal

Way = Literal["up", "down"]
"""Up is towards the server."""
_CHUNK_BYTES: Final = 65_536
_FIRST_BYTES: Final = 4_096
_LAST_BYTES_S: Final = 5.0
_BUFFER_BYTES: Final = 32_768
_SEGMENT_BYTES: Final = 1_460
"""As on an Ethernet. With a loopback's, three megabytes vanish between two processes before either is held up, and no node ever
meets a socket that is not read."""


class Carried:
    """One connection through the proxy. `first` holds the first bytes its client sent, to tell connections apart."""

    def __init__(self, client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        self.first = b""
        self.is_torn = False
        self._writers = [client, server]

    def tear(self) -> None:
        """From now on it is torn: nothing more of it is let through."""
        self.is_torn = True

    async def end(self, writer: asyncio.StreamWriter) -> None:
        """Close one end once all that was said has arrived; one that takes nothing more is left to `cut`."""
        writer.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LAST_BYTES_S):
                await writer.wait_closed()
                self._writers.remove(writer)

    def cut(self) -> None:
        """Reset both ends."""
        for writer in self._writers:
            writer.transport.abort()

    @property
    def is_replication(self) -> bool:
        """A replica follows its master by it."""
        return b"PSYNC" in self.first


class Proxy:
    """Listens on a port of its own and carries each connection to `target`, as it is when the connection is made.

    Attributes:
        target: a port of `host`.
        swallowed: the ways on which bytes vanish; nobody is told, as on a link that is broken in the middle.
        is_replication_swallowed: what a replica and its master say to each other vanishes.
        is_held: nothing reaches the server any more, its answers still come.
        delay_s: how late each chunk arrives.
        tear_bytes: every connection is reset after so many further bytes from the server; None tears nothing.
        is_refusing: new connections are reset.
        hits: bytes swallowed, chunks delayed, connections cut, torn or refused: what the faults reached.
    """

    def __init__(self, name: str, target: int, host: str = "127.0.0.1") -> None:
        self.name = name
        self.target, self._host = target, host
        self.port = 0
        self.swallowed: frozenset[Way] = frozenset()
        self.is_replication_swallowed = False
        self.is_held = False
        self.delay_s = 0.0
        self.tear_bytes: int | None = None
        self.is_refusing = False
        self.hits = 0
        self._carried: set[Carried] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen."""
        listening = _small(socket.socket())
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(("127.0.0.1", self.port))
            self._server = await asyncio.start_server(self._accept, sock=listening, limit=_BUFFER_BYTES)
        except BaseException:  # an interrupt, too, leaves no socket behind
            listening.close()
            raise
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Cut everything and end."""
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
        """Carry connections there from now on; those that are there end."""
        self.target = port
        self.cut()

    @contextlib.contextmanager
    def swallowing(self, *ways: Way) -> Iterator[None]:
        """Lets all that is sent on these ways vanish. In the end the connections are reset: their streams have holes."""
        self.swallowed = frozenset(ways)
        try:
            yield
        finally:
            self.swallowed = frozenset()
            self.cut()

    @contextlib.contextmanager
    def holding(self) -> Iterator[None]:
        """Lets nothing reach the server; its answers still come."""
        self.is_held = True
        try:
            yield
        finally:
            self.is_held = False
            self.cut()

    @contextlib.contextmanager
    def silencing_replication(self) -> Iterator[None]:
        """Lets all vanish that a replica and its master say to each other."""
        self.is_replication_swallowed = True
        try:
            yield
        finally:
            self.is_replication_swallowed = False

    @contextlib.contextmanager
    def slowed(self, delay_s: float) -> Iterator[None]:
        """Delivers every chunk so much later."""
        self.delay_s = delay_s
        try:
            yield
        finally:
            self.delay_s = 0.0

    @contextlib.contextmanager
    def tearing(self, after_bytes: int) -> Iterator[None]:
        """Resets every connection in the middle of the server's next chunk."""
        self.tear_bytes = after_bytes
        try:
            yield
        finally:
            self.tear_bytes = None

    @contextlib.contextmanager
    def refusing(self) -> Iterator[None]:
        """Resets every connection, those that are there and those that come."""
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
                if (
                    way in self.swallowed
                    or (way == "up" and self.is_held)
                    or (self.is_replication_swallowed and carried.is_replication)
                ):
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
                if way not in self.swallowed:
                    await carried.end(sink)
        if way in self.swallowed:
            return  # whoever is behind a broken link is not told that the other side is gone
        carried.cut()
        self._carried.discard(carried)

    def _is_silenced(self, carried: Carried, way: Way) -> bool:
        """True for the part of the traffic that a fault silences."""
        return (way == "up" and self.is_held) or (self.is_replication_swallowed and carried.is_replication)

    def _tear(self, carried: Carried, data: bytes, sink: asyncio.StreamWriter) -> None:
        """Let the beginning of a chunk through and reset the connection."""
        carried.tear()
        self.hits += 1
        sink.write(data[: min(self.tear_bytes or 0, len(data) // 2)])


def _small(end: socket.socket) -> socket.socket:
    """A socket with the buffers of a real one; what it accepts has them, too."""
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
