"""A Redis with a replica behind a link, so that the replica can lag, and be promoted without what it has not seen."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis

from support.link import Link, linked
from support.redis_server import RedisServer


def port_of(server: RedisServer) -> int:
    """The port a server listens on."""
    return int(server.url.rpartition(":")[2].partition("/")[0])


@dataclass(slots=True)
class Pair:
    """Master, replica, the link the replica follows by, and the link that clients reach the master by."""

    master: RedisServer
    replica: RedisServer
    following: Link
    front: Link

    async def catch_up(self) -> None:
        """Until the replica has everything that was written before this call."""
        async with command(self.master) as redis:
            await redis.set("caught-up", "1")  # WAIT counts the writes of its own connection
            assert await redis.execute_command("WAIT", 1, 10_000) == 1

    def lag(self) -> None:
        """From now on the replica hears nothing, and does not know it."""
        for wire in self.following.wires:
            wire.is_swallowing = True

    async def fail_over(self) -> None:
        """The master dies; the replica, as far as it came, takes its place and its name."""
        self.master.kill()
        self.front.cut()
        async with command(self.replica) as redis:
            await redis.execute_command("REPLICAOF", "NO", "ONE")
        self.front.target = ("127.0.0.1", port_of(self.replica))


@contextlib.asynccontextmanager
async def command(server: RedisServer) -> AsyncIterator[Any]:
    """A client of one server for a moment."""
    redis: Any = Redis.from_url(server.url)
    try:
        yield redis
    finally:
        await redis.aclose()


@contextlib.asynccontextmanager
async def replicated() -> AsyncIterator[Pair]:
    """A master with a replica that follows it."""
    master, replica = RedisServer(on_port=True), RedisServer(on_port=True)
    try:
        async with linked("127.0.0.1", port_of(master)) as following, linked("127.0.0.1", port_of(master)) as front:
            async with command(master) as redis:
                await redis.config_set("repl-diskless-sync-delay", 0)
                await redis.config_set("repl-diskless-sync", "yes")
            async with command(replica) as redis:
                await redis.execute_command(
                    "REPLICAOF", "127.0.0.1", following.url.rpartition(":")[2].partition("/")[0]
                )
            pair = Pair(master, replica, following, front)
            await pair.catch_up()
            yield pair
    finally:
        replica.close()
        master.close()
