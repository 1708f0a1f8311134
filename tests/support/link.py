"""A TCP link between a client and a server in the test's event loop, with simulated network faults such as delays and data loss."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator


class Wire:
    """A connection over the link. `said` holds the first bytes from its client, by which connections are told apart."""

    def __init__(self, number: int, client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        self.number = number
        self.said = b""
        self.is_swallowing = False
        self.writers = (client, server)

    def cut(self) -> None:
        """Reset both ends."""
        for writer in self.writers:
            writer.transport.abort()


class Held:
    """Data that a client sent and that is held until released, even if the client has disconnected since."""

    def __init__(self) -> None:
        self._may_pass = asyncio.Event()

    def let_through(self) -> None:
        """Deliver the data to the server."""
        self._may_pass.set()

    async def wait(self) -> None:
        """Wait until the data is released."""
        await self._may_pass.wait()


class Link:
    """Listens on a port; each connection is forwarded to `target`, as set when the connection is made.

    Attributes:
        target: host and port; changing it simulates a DNS failover.
        delay_s: the delay of all data, in seconds.
        holds: data from clients that contains this word is held; each piece is put into `held`.
    """

    def __init__(self, host: str, port: int) -> None:
        self.target = (host, port)
        self.delay_s = 0.0
        self.wires: list[Wire] = []
        self.is_refusing = False
        self.holds: bytes | None = None
        self.held: asyncio.Queue[Held] = asyncio.Queue()
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._count = 0

    @property
    def url(self) -> str:
        """The Redis URL of this end of the link."""
        assert self._server is not None
        return f"redis://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/0"

    @contextlib.contextmanager
    def dropped(self, which: Callable[[Wire], bool] = lambda _: True) -> Iterator[None]:
        """Silently drop the data of the present connections in both directions, as if half-open. New connections work."""
        chosen = [wire for wire in self.wires if which(wire)]
        for wire in chosen:
            wire.is_swallowing = True
        try:
            yield
        finally:
            for wire in chosen:
                wire.cut()

    @contextlib.contextmanager
    def delayed(self, delay_s: float) -> Iterator[None]:
        """Delay all data by this many seconds."""
        self.delay_s = delay_s
        try:
            yield
        finally:
            self.delay_s = 0.0

    def cut(self) -> None:
        """Reset every connection."""
        for wire in list(self.wires):
            wire.cut()

    async def start(self) -> None:
        """Listen on a free port of this machine."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)

    async def close(self) -> None:
        """Reset all connections and stop listening."""
        assert self._server is not None
        self._server.close()
        self.cut()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.is_refusing:
            writer.transport.abort()
            return
        try:
            from_server, to_server = await asyncio.open_connection(*self.target)
        except OSError:
            writer.transport.abort()
            return
        self._count += 1
        wire = Wire(self._count, writer, to_server)
        self.wires.append(wire)
        for source, sink, is_client in ((reader, to_server, True), (from_server, writer, False)):
            task = asyncio.create_task(self._carry(wire, source, sink, is_client=is_client))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _carry(
        self, wire: Wire, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, is_client: bool
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(65_536):
                if is_client and len(wire.said) < 4_096:
                    wire.said += data
                if is_client and self.holds is not None and self.holds in data:
                    held = Held()
                    self.held.put_nowait(held)
                    await held.wait()
                if self.delay_s:
                    await asyncio.sleep(self.delay_s)
                if not wire.is_swallowing:
                    sink.write(data)
                    await sink.drain()
        if not wire.is_swallowing:  # the end of a half-open connection does not learn that the other end has closed
            wire.cut()
            if wire in self.wires:
                self.wires.remove(wire)


@contextlib.asynccontextmanager
async def linked(host: str, port: int) -> AsyncIterator[Link]:
    """A link to that address for the duration of the block."""
    link = Link(host, port)
    await link.start()
    try:
        yield link
    finally:
        await link.close()
