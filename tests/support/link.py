"""A TCP link between a client and a server in this loop, with the faults of a network: what goes in may be late or swallowed."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator


class Wire:
    """One connection over the link. `said` is the first bytes its client sent, to tell connections apart."""

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
    """Something a client sent, which waits on the link until it is let through: also when the client has gone since."""

    def __init__(self) -> None:
        self._may_pass = asyncio.Event()

    def let_through(self) -> None:
        """It reaches the server now."""
        self._may_pass.set()

    async def wait(self) -> None:
        """Returns when it may pass."""
        await self._may_pass.wait()


class Link:
    """Listens on a port of its own; each connection is carried to `target` as it is when the connection is made.

    Attributes:
        target: host and port; changing it is what a failover does to a name.
        delay_s: how late everything arrives.
        holds: what clients send with this word in it waits; each is put into `held` in turn.
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
        """The Redis URL of this end."""
        assert self._server is not None
        return f"redis://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/0"

    @contextlib.contextmanager
    def dropped(self, which: Callable[[Wire], bool] = lambda _: True) -> Iterator[None]:
        """Half-open: what the present connections send, either way, is swallowed, and no end is told. New ones work."""
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
        """Everything arrives so much later."""
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
        """Cut everything and end."""
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
        if not wire.is_swallowing:  # a half-open connection is told nothing of its other end
            wire.cut()
            if wire in self.wires:
                self.wires.remove(wire)


@contextlib.asynccontextmanager
async def linked(host: str, port: int) -> AsyncIterator[Link]:
    """A link to that address for the time of the block."""
    link = Link(host, port)
    await link.start()
    try:
        yield link
    finally:
        await link.close()
