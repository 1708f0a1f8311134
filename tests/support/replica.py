"""A Redis with a replica behind a link, so that the replica can lag and be promoted without the latest writes."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis

from support.link import Link, linked
from support.redis_server import RedisServer


def port_of(server: RedisServer) -> int:
    """The port on which a server listens."""
    return int(server.url.rpartition(":")[2].partition("/")[0])


@dataclass(slots=True)
class Pair:
    """Master and replica, the link over which the replica follows, and the link over which clients reach the master."""

    master: RedisServer
    replica: RedisServer
    following: Link
    front: Link

    async def catch_up(self) -> None:
        """Wait until the replica has everything that was written before this call."""
        async with command(self.master) as redis:
            await redis.set("caught-up", "1")  # WAIT counts only the writes of its own connection
            assert await redis.execute_command("WAIT", 1, 10_000) == 1

    def lag(self) -> None:
        """Stop the replication traffic from now on, without the replica noticing."""
        for wire in self.following.wires:
            wire.is_swallowing = True

    async def fail_over(self) -> None:
        """Kill the master, promote the replica as it is, and redirect clients to it."""
        self.master.kill()
        self.front.cut()
        async with command(self.replica) as redis:
            await redis.execute_command("REPLICAOF", "NO", "ONE")
        self.front.target = ("127.0.0.1", port_of(self.replica))


@contextlib.asynccontextmanager
async def command(server: RedisServer) -> AsyncIterator[Any]:
    """A short-lived client of one server."""
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
