"""The benchmark of `hub bench`: a node on one core, the load generator on the other; each figure is reported with the machine."""

from __future__ import annotations

import asyncio
import contextlib
import os
import platform
import resource
import secrets
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Final

from hub.auth.tokens import sign
from ops.bench import load_client
from ops.children import NodeProcess
from ops.embedded_redis.server import EmbeddedRedis
from streams.redis.log import Log
from streams.redis.server_check import count_commands

TENANT: Final = "bench"
_IDLE_WARM: Final = 1_000
_LATENCIES: Final = 2_000
Tell = Callable[[str, object], None]


class Bench:
    """One run. Each figure is reported as soon as it is measured."""

    def __init__(self, redis: EmbeddedRedis, node: NodeProcess, token: str, tell: Tell, seconds: float) -> None:
        self._redis = redis
        self._node = node
        self._token = token
        self._tell = tell
        self._seconds = seconds

    async def run(self, idle_sockets: int) -> None:
        """Measure everything, in an order in which no measurement warms up a later one."""
        self._tell("machine", machine())
        self._tell("redis", self._redis.server)
        await self._memory(idle_sockets)
        await self._latency()
        await self._round_trips()
        await self._deliveries()

    async def _latency(self) -> None:
        taken = await load_client.latency_ms(self._node.port, self._token, _LATENCIES)
        self._tell("idle_latency_p50_ms", round(taken[len(taken) // 2], 2))
        self._tell("idle_latency_p99_ms", round(taken[int(len(taken) * 0.99)], 2))

    async def _round_trips(self) -> None:
        before, began = await self._calls(), node_cpu_s(self._node.pid)
        rate = await load_client.round_trips(self._node.port, self._token, 100, self._seconds)
        self._tell("round_trips_per_s", round(rate))
        after, events = await self._calls(), rate * self._seconds * 1.25
        self._tell("node_cpu_us_per_round_trip", round((node_cpu_s(self._node.pid) - began) / events * 1e6, 1))
        self._tell("redis_calls_per_event", round((after - before) / events, 2))

    async def _deliveries(self) -> None:
        rate, events = await load_client.deliveries(self._node.port, self._token, 1_000, 50, 8, self._seconds)
        self._tell("deliveries_per_s", round(rate))
        self._tell("published_per_s_meanwhile", round(events))

    async def _memory(self, sockets: int) -> None:
        warm = await load_client.idle(self._node.port, self._token, _IDLE_WARM)
        before = resident_bytes(self._node.pid)
        began = time.perf_counter()
        many = await load_client.idle(self._node.port, self._token, sockets)
        self._tell("connects_per_s", round(sockets / (time.perf_counter() - began)))
        self._tell("bytes_per_idle_connection", round((resident_bytes(self._node.pid) - before) / sockets))
        for socket in (*warm, *many):
            socket.abort()
        await asyncio.sleep(1)  # let the node release eleven thousand sockets before anything is timed

    async def _calls(self) -> int:
        """Number of commands that Redis has received from clients; commands called by scripts are not counted."""
        log = await Log.open(self._redis.url)
        try:
            counts = await count_commands(log.servers.by_partition[0].calls)
        finally:
            await log.close()
        # Redis also counts the commands that scripts call; of these three only the node's own calls are wanted.
        return sum(counts.get(name, 0) for name in ("evalsha", "eval", "xread"))


def machine() -> str:
    """A description of the machine."""
    return f"{platform.machine()}, {os.cpu_count()} cores, {platform.platform()}, Python {platform.python_version()}"


def resident_bytes(pid: int) -> int:
    """The resident memory of a process, in bytes (/proc/PID/statm)."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize()


def node_cpu_s(pid: int) -> float:
    """User and system CPU time of a process so far, in seconds (proc(5), fields 14 and 15)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextlib.asynccontextmanager
async def bench_setup(tell: Tell, seconds: float) -> AsyncIterator[Bench]:
    """Start an embedded Redis and a node on one core; this process, the load generator, uses the other."""
    cores = sorted(os.sched_getaffinity(0))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    secret = secrets.token_hex(24)
    token = sign(secret, "bench", TENANT, {"*": ["*"]}, 86_400, time.time())
    with tempfile.TemporaryDirectory(prefix="hub-bench-") as folder, EmbeddedRedis(folder) as redis:
        node = NodeProcess(redis.url, secret, HUB_DATA=folder, WEBSOCKET_MAX_CONNECTIONS="100000")
        node.start()
        try:
            await node.ready()
            if len(cores) > 1:
                os.sched_setaffinity(node.pid, {cores[0]})
                os.sched_setaffinity(redis.pid, {cores[1]})
                os.sched_setaffinity(0, {cores[1]})
            yield Bench(redis, node, token, tell, seconds)
        finally:
            node.kill()
            os.sched_setaffinity(0, cores)
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def commit() -> str:
    """The measured commit, if this is a checkout."""
    found = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return found.stdout.strip() or "unknown"
