"""Memory that a hostile client can make a node use: `python -m ops.bench.memory_growth [--count 100000]`. It takes minutes.

A hub in this process, on its own Redis, receives that many distinct channels, users, addresses and IDs by each kind of request,
twice: the first round fills the bounded tables, and the second must not add memory. For each kind the growth of resident memory
is printed, with the types of which there are more objects. Exits with 1 if one grew by more than TOLERANCE_MB.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import secrets
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from hub.app import open_hub
from hub.auth.signing import sign
from hub.config import Settings
from hub.node.connection import Connection
from hub.node.hub import Hub
from hub.readers import RateOverride
from hub.sockets import Upgrade
from hub.websocket.codec import TEXT, split_frames
from ops.embedded_redis.server import EmbeddedRedis

TOLERANCE_MB: Final = 8.0
"""Tolerated growth of resident memory. A table of 16,384 entries that is cleared and refilled, or doubled by Python, can change
it by this much without a leak; 100,000 leaked entries would be 30 MB or more.
"""
OBJECTS_SHOWN: Final = 5
OBJECTS_MIN: Final = 2_000
_BATCH: Final = 100
_EVERYTHING: Final = {"*": ["*"]}
_NO_LIMIT: Final = RateOverride(1e9, 10**9)
_CLASSES: Final = ("subscribe", "history", "chat", "command", "live", "signals", "document", "cursor", "control")


class Sink:
    """A transport that discards everything but the awaited reply."""

    is_writable = True
    is_deflate = False

    def __init__(self) -> None:
        self.is_closed = False
        self._awaited = ""
        self._came = asyncio.Event()

    def write(self, frames: bytes, /) -> None:
        """Look for the awaited reply in the sent frames."""
        mark = f'"re":"{self._awaited}"'.encode()
        if any(opcode == TEXT and mark in payload for opcode, payload in split_frames(frames)):
            self._came.set()

    async def answer(self, id_: str) -> None:
        """Wait until the reply with this ID is sent, or the socket is closed."""
        self._awaited = id_
        self._came.clear()
        await self._came.wait()

    def close(self, code: int = 1000, reason: str = "") -> None:  # noqa: ARG002  # the port's signature
        """End the wait for a reply."""
        self.is_closed = True
        self._came.set()

    def abort(self) -> None:
        """End the wait for a reply."""
        self.close()

    def trust(self) -> None:
        """Does nothing: this client may send messages of any size."""

    def pause_reading(self) -> None:
        """Does nothing: the client waits for each reply anyway."""

    def resume_reading(self) -> None:
        """Does nothing, as `pause_reading`."""


class HostileClient:
    """A client that never uses a name twice."""

    def __init__(self, hub: Hub, secret: str) -> None:
        self._hub, self._secret = hub, secret
        self._number = 0
        self._connection, self._sink = hub.connect(), Sink()

    def name(self) -> str:
        """A new name of maximum length."""
        self._number += 1
        return f"{self._number:09}".ljust(120, "x")

    async def enter(self) -> None:
        """Authenticate."""
        await self._open(self._connection, self._sink, "hostile")

    async def _open(self, connection: Connection, sink: Sink, user: str, token: str = "", address: str = "::1") -> None:
        connection.opened(sink, Upgrade("/ws", "", {}, (address, 1), None))
        token = token or sign(self._secret, user, "t", _EVERYTHING, 86_400, time.time())
        self._send(connection, "connection.init", "i", {"token": token, "versions": [1], "client_id": user})
        if not sink.is_closed:
            await sink.answer("i")

    def _send(
        self, to: Connection, type_: str, id_: str, payload: dict[str, object], channel: str | None = None
    ) -> None:
        frame: dict[str, object] = {"type": type_, "id": id_, "payload": payload}
        to.text(json.dumps(frame | ({"channel": channel} if channel else {})).encode())

    async def _each(self, type_: str, payload: dict[str, object], channels: list[str]) -> None:
        for channel in channels:
            id_ = f"n{self.name()[:12]}"
            self._send(self._connection, type_, id_, payload, channel)
        await self._sink.answer(id_)

    async def signals(self) -> None:
        """Send live messages to new channels."""
        await self._each("chat.typing", {"state": "start"}, [f"conversation:{self.name()}" for _ in range(_BATCH)])

    async def histories(self) -> None:
        """Request pages of history of channels that do not exist."""
        await self._each("channel.history", {"limit": 1}, [f"team:{self.name()}" for _ in range(_BATCH)])

    async def states(self) -> None:
        """Request states of channels that do not exist."""
        await self._each("channel.state", {}, [f"document:{self.name()}" for _ in range(_BATCH)])

    async def messages(self) -> None:
        """Send messages with new IDs in one channel."""
        await self._each("chat.message", {"text": "x" * 1_000}, ["conversation:one"] * _BATCH)

    async def subscriptions(self) -> None:
        """Subscribe to new channels, and unsubscribe."""
        channels: list[object] = [f"conversation:{self.name()}" for _ in range(_BATCH)]
        for type_ in ("channel.subscribe", "channel.unsubscribe"):
            id_ = f"s{self.name()[:12]}"
            self._send(self._connection, type_, id_, {"channels": channels})
            self._send(self._connection, "connection.heartbeat", f"h{id_}", {})
            await self._sink.answer(f"h{id_}")

    async def users(self) -> None:
        """Connect new users with new clients, each briefly."""
        for _ in range(_BATCH):
            connection, sink = self._hub.connect(), Sink()
            await self._open(connection, sink, self.name())
            connection.closed(1000)

    async def strangers(self) -> None:
        """Send invalid tokens from new addresses."""
        for _ in range(_BATCH):
            self._number += 1
            address = ".".join(str(part) for part in (10, *self._number.to_bytes(3, "big")))
            connection, sink = self._hub.connect(), Sink()
            await self._open(connection, sink, "x", token=f"a.{self._number}.c", address=address)
            connection.closed(1006)

    async def refreshes(self) -> None:
        """Send new tokens on one connection."""
        for _ in range(_BATCH):
            token = sign(self._secret, "hostile", "t", _EVERYTHING, 86_400, time.time(), jti=self.name()[:60])
            id_ = f"r{self._number}"
            self._send(self._connection, "connection.refresh", id_, {"token": token})
            await self._sink.answer(id_)

    def ways(self) -> dict[str, Callable[[], Awaitable[None]]]:
        """All kinds of request, by name; each call makes a hundred."""
        all_ways = (
            self.signals,
            self.histories,
            self.states,
            self.messages,
            self.subscriptions,
            self.users,
            self.strangers,
            self.refreshes,
        )
        return {way.__name__: way for way in all_ways}


def resident_mb() -> float:
    """Resident memory of this process, in MB (proc(5), statm)."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def census() -> Counter[str]:
    """Number of objects known to the garbage collector, by type."""
    gc.collect()
    return Counter(type(thing).__name__ for thing in gc.get_objects())


async def compare(way: Callable[[], Awaitable[None]], count: int) -> tuple[float, Counter[str]]:
    """Fill, measure, repeat with new names and measure again. Returns the growth in MB, and the types with more objects."""

    async def all_of_it() -> None:
        for _ in range(count // _BATCH):
            await way()
        await asyncio.sleep(1.5)  # until messages to other nodes and periodic work are done

    await all_of_it()
    before, before_mb = census(), resident_mb()
    await all_of_it()
    grown = census() - before
    return resident_mb() - before_mb, Counter({name: more for name, more in grown.items() if more >= OBJECTS_MIN})


async def run(count: int, only: list[str]) -> int:
    """Try every kind of request; returns how many made the memory grow."""
    failed, secret = 0, secrets.token_hex(32)
    with tempfile.TemporaryDirectory() as folder:
        redis = EmbeddedRedis(Path(folder), unix_socket=Path(folder) / "s")
        limits = dict.fromkeys(_CLASSES, _NO_LIMIT)
        settings = Settings(redis_url=redis.start(), jwt_secret=secret, data_dir=folder, rate_limits=limits)
        try:
            async with open_hub(settings) as hub:
                client = HostileClient(hub, secret)
                await client.enter()
                for name, way in client.ways().items():
                    if only and name not in only:
                        continue
                    began = time.monotonic()
                    grown_mb, more = await compare(way, count)
                    failed += grown_mb > TOLERANCE_MB
                    shown = ", ".join(f"{type_} +{n}" for type_, n in more.most_common(OBJECTS_SHOWN)) or "nothing"
                    print(
                        f"{name:14} {count} more: {grown_mb:+6.1f} MB (of {resident_mb():.0f}), more of {shown}; "
                        f"{time.monotonic() - began:.0f} s",
                        flush=True,
                    )
        finally:
            redis.stop()
    return failed


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--only", nargs="*", default=[], help="only these kinds of request")
    given = parser.parse_args()
    sys.exit(1 if asyncio.run(run(given.count, given.only)) else 0)


if __name__ == "__main__":
    main()
