"""Measures nodes without clients beside each other on one Redis: what each costs Redis, itself, and the others.

python -m ops.bench.idle_nodes 5 25 50
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Final

from ops.bench.processes import used_by
from ops.children import NodeProcess
from ops.embedded_redis.server import EmbeddedRedis
from streams.redis.calls import Calls
from streams.redis.keys import NODES
from streams.redis.server_check import count_commands, read_clock

SIZES: Final = (5, 25, 50)
SECONDS: Final = 20.0
AT_ONCE: Final = 5
"""Nodes that start at the same time: each takes a core for a second or two."""
SHOWN: Final = 9
_SECRET: Final = "of nodes that live for a minute, and of no others"  # noqa: S105 - as it says


async def measure(nodes: list[NodeProcess], calls: Calls, redis_pid: int) -> str:
    """Measure these nodes for `SECONDS`; returns the lines to print."""
    before, redis_before = [used_by(node.pid) for node in nodes], used_by(redis_pid)
    counts_before, began = Counter(await count_commands(calls)), time.monotonic()
    await asyncio.sleep(SECONDS)
    took_s, count = time.monotonic() - began, len(nodes)
    counts = Counter(await count_commands(calls)) - counts_before
    after, redis_after = [used_by(node.pid) for node in nodes], used_by(redis_pid)
    leased = await calls.call("ZCOUNT", NODES, await read_clock(calls), "+inf")
    cpu_s = sum(late.cpu_s - early.cpu_s for early, late in zip(before, after, strict=True))
    named = ", ".join(f"{name} {calls / took_s / count:.2f}" for name, calls in counts.most_common(SHOWN))
    return (
        f"{count} nodes, {leased} with a lease, load {os.getloadavg()[0]:.1f}: each {counts.total() / took_s / count:.1f} "
        f"commands/s, {(redis_after.cpu_s - redis_before.cpu_s) / took_s / count * 1_000:.2f} ms/s of Redis, "
        f"{cpu_s / took_s / count:.2%} of a core, {sum(one.rss_bytes for one in after) / count / 1e6:.0f} MB\n  {named}"
    )


async def main(sizes: list[int]) -> None:
    """Start as many nodes as the largest size has, and print a line for each size."""
    with ExitStack() as ending:
        folder = Path(ending.enter_context(tempfile.TemporaryDirectory(prefix="hub-idle-")))
        embedded = EmbeddedRedis(folder / "redis", unix_socket=None, is_persistent=False, is_guarded=False)
        ending.enter_context(embedded)
        calls = ending.enter_context(closing(Calls.at(embedded.url, "hub-check")))
        nodes: list[NodeProcess] = []
        for size in sorted(sizes):
            while len(nodes) < size:
                fresh = [NodeProcess(embedded.url, _SECRET, HUB_DATA=str(folder)) for _ in range(AT_ONCE)]
                for node in fresh[: size - len(nodes)]:
                    node.start()
                    ending.callback(node.kill)
                    nodes.append(node)
                await asyncio.gather(*(node.ready() for node in nodes[-AT_ONCE:]))
            print(await measure(nodes, calls, embedded.pid), flush=True)


if __name__ == "__main__":
    asyncio.run(main([int(size) for size in sys.argv[1:]] or list(SIZES)))
