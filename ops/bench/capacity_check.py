"""Compares the model of `hub capacity` with this machine at two sizes: memory and processor time of a node and of Redis.

python -m ops.bench.capacity_check
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from contextlib import AsyncExitStack, closing
from pathlib import Path
from typing import Final

from hub.auth.signing import sign
from hub.client import HubClient
from ops.bench.processes import used_by
from ops.capacity import MEASURED
from ops.children import NodeProcess
from ops.embedded_redis.server import EmbeddedRedis
from streams.redis.calls import Calls
from streams.redis.server_check import read_memory

SIZES: Final = ((300, 200.0), (900, 400.0))
"""Connections, and events a second."""
SECONDS: Final = 10.0
READERS: Final = 10
TICK_S: Final = 0.2
"""Events are sent in waves, as by people who do not wait for each other: those of a wave share batches."""
TEXT: Final = "a message of a usual length, as people write them to each other"
_SECRET: Final = "of a hub that lives for a minute, and of no other"  # noqa: S105 - as it says
_GRANTS: Final = {"conversation:*": ["*"]}


async def measure(connections: int, rate_per_s: float, folder: Path) -> list[str]:
    """Measure one size; returns a line for each figure."""
    with EmbeddedRedis(folder / "redis", unix_socket=None, is_persistent=False, is_guarded=False) as embedded:
        node = NodeProcess(embedded.url, _SECRET, HUB_RATE_LIMITS="off", HUB_DATA=str(folder))
        node.start()
        await node.ready()
        followers: list[asyncio.Task[None]] = []
        calls = Calls.at(embedded.url, "hub-check")
        with closing(calls):
            before, (kept, _) = used_by(node.pid), await read_memory(calls)
            async with AsyncExitStack() as opened:
                clients: list[HubClient] = []
                for number in range(connections):
                    token = sign(_SECRET, f"u{number}", "acme", _GRANTS, 3_600, time.time())
                    clients.append(await opened.enter_async_context(HubClient([node.url], token)))
                    followers.append(asyncio.create_task(_follow(clients[-1], f"conversation:{number // READERS}")))
                await asyncio.sleep(2)
                idle, (present, _) = used_by(node.pid), await read_memory(calls)
                count, at_once = int(rate_per_s * SECONDS), int(rate_per_s * TICK_S)
                started = time.monotonic()
                for first in range(0, count, at_once):
                    writers = [number % connections for number in range(first, first + at_once)]
                    await asyncio.gather(
                        *(clients[one].send(f"conversation:{one // READERS}", TEXT) for one in writers)
                    )
                    await asyncio.sleep(max(0.0, started + (first + at_once) / rate_per_s - time.monotonic()))
                took_s = time.monotonic() - started
                await asyncio.sleep(1)
                busy, (stored, _) = used_by(node.pid), await read_memory(calls)
                for follower in followers:
                    follower.cancel()
                await asyncio.gather(*followers, return_exceptions=True)
        node.kill()
    node_us = (busy.cpu_s - idle.cpu_s) * 1e6 / count
    expected_us = MEASURED.event_node_us + READERS * MEASURED.delivery_node_us
    return [
        f"{connections} connections, {count / took_s:.0f} events/s delivered to {READERS} each, load {os.getloadavg()[0]:.1f}:",
        _line(
            "node, bytes a connection",
            (idle.rss_bytes - before.rss_bytes) / connections,
            MEASURED.connection_node_bytes,
        ),
        _line("Redis, bytes a connection", (present - kept) / connections, MEASURED.connection_redis_bytes),
        _line("node, µs an event with its deliveries", node_us, expected_us),
        _line("Redis, bytes an event", (stored - present) / count, MEASURED.event_redis_bytes),
    ]


async def _follow(client: HubClient, channel: str) -> None:
    async for _ in client.subscribe(channel, state=False):
        pass


def _line(what: str, measured: float, expected: float) -> str:
    return f"  {what}: {measured:,.0f}, by the model {expected:,.0f} ({measured / expected:.2f} of it)"


async def main() -> None:
    """Measure both sizes."""
    for connections, rate_per_s in SIZES:
        with tempfile.TemporaryDirectory(prefix="hub-capacity-") as folder:
            print("\n".join(await measure(connections, rate_per_s, Path(folder))), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
