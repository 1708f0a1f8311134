"""Everything a run is made of, as processes on this machine with a proxy between every two of them that talk."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import struct
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from ops.children import end_with
from ops.torture.proxy import Proxy
from ops.torture.resp import RedisRefused, Resp, ask
from ops.torture.servers import RedisChild, build_shim, free_port

READY_TIMEOUT_S: Final = 120.0
DISK_MB: Final = 96
SECRET: Final = "the-torture-signs-its-tokens-with-this"  # noqa: S105 - of a cluster that lives for a minute
LIBRARY: Final = Path(__file__).parents[2]
TENANTS: Final = {"acme": "⟦acme⟧", "beta": "⟦beta⟧"}
AGENT: Final = "torture"
SENTINEL_NAME: Final = "hub"


class Process:
    """A `hub` command as a child.

    Args:
        name: `n0`, `w0`: how the history calls it.
        arguments: of `hub`.
        tree: the folder whose modules it runs; a copy with a planted bug, or this one.
    """

    def __init__(self, name: str, arguments: list[str], env: dict[str, str], tree: Path, log: Path) -> None:
        self.name = name
        self._arguments, self._env, self._tree, self._log = arguments, env, tree, log
        self._child: subprocess.Popen[bytes] | None = None
        self.starts = 0

    @property
    def is_running(self) -> bool:
        """The process is there; it may be stopped."""
        return self._child is not None and self._child.poll() is None

    def start(self) -> None:
        """Start it; it listens a moment later."""
        env = {**os.environ, **self._env, "PYTHONPATH": str(self._tree), "PYTHONDONTWRITEBYTECODE": "1"}
        program = f"import sys; sys.path.insert(0, {str(self._tree)!r}); from ops.cli import main; main()"
        with self._log.open("ab") as log:
            self._child = subprocess.Popen(
                [sys.executable, "-c", program, *self._arguments],
                env=env,
                cwd=self._tree,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=end_with(os.getpid()),  # noqa: PLW1509 - it makes two system calls and takes no lock
            )
        self.starts += 1

    def send(self, number: signal.Signals) -> None:
        """A signal, if it runs."""
        if self._child is not None and self._child.poll() is None:
            self._child.send_signal(number)

    def kill(self) -> None:
        """SIGKILL."""
        if self._child is not None:
            self._child.kill()
            self._child.wait()

    async def end(self, timeout_s: float = 20.0) -> None:
        """SIGTERM, and SIGKILL when that does not help."""
        self.send(signal.SIGTERM)
        deadline = time.monotonic() + timeout_s
        while self.is_running and time.monotonic() < deadline:  # noqa: ASYNC110 - another process raises no event
            await asyncio.sleep(0.02)
        self.kill()


@dataclass(slots=True)
class NodeChild:
    """A hub node: its process, the proxy clients reach it by, the proxy it reaches Redis by."""

    process: Process
    front: Proxy
    to_redis: Proxy

    @property
    def url(self) -> str:
        """The address for clients."""
        return f"http://127.0.0.1:{self.front.port}"

    async def ready(self) -> None:
        """Until it takes traffic.

        Raises:
            TimeoutError: not in time.
        """
        deadline = time.monotonic() + READY_TIMEOUT_S
        while not await asyncio.to_thread(is_ready, f"http://127.0.0.1:{self.front.target}"):
            if time.monotonic() > deadline:
                raise TimeoutError(f"node {self.process.name} is not ready after {READY_TIMEOUT_S:g} s")
            await asyncio.sleep(0.1)


def is_ready(url: str) -> bool:
    """True if a node takes traffic."""
    try:
        with urllib.request.urlopen(f"{url}/readyz", timeout=2) as answer:  # noqa: S310 - our own loopback URL
            return bool(answer.status == 200)  # noqa: PLR2004
    except (urllib.error.URLError, OSError):
        return False


@dataclass(slots=True)
class WorkerChild:
    """A worker and the proxy it reaches Redis by."""

    process: Process
    to_redis: Proxy


@dataclass(slots=True)
class Disk:
    """A small disk of its own for Redis. `mounted` is false where this machine does not let us mount one."""

    folder: Path
    mounted: bool = False
    why_not: str = ""

    def mount(self) -> None:
        """Make it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        made = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m", "tmpfs", str(self.folder)],
            capture_output=True,
            text=True,
            check=False,
        )
        self.mounted, self.why_not = made.returncode == 0, made.stderr.strip()

    def unmount(self) -> None:
        """Take it away."""
        if self.mounted:
            subprocess.run(["umount", "-l", str(self.folder)], capture_output=True, check=False)
            self.mounted = False


@dataclass(slots=True)
class WallClock:
    """A wall clock that can be moved under processes that run with the shim. Nobody's without a compiler."""

    path: Path
    is_there: bool = False
    offset_s: float = 0.0

    def prepare(self) -> dict[str, str]:
        """The environment of a process that is to have this clock."""
        shim = build_shim(self.path.parent)
        self.is_there = shim is not None
        self.path.write_bytes(struct.pack("d", 0.0))
        return {"LD_PRELOAD": str(shim), "TORTURE_CLOCK": str(self.path)} if shim else {}

    def move(self, offset_s: float) -> None:
        """From now on it is wrong by so much."""
        with self.path.open("r+b") as file:
            file.write(struct.pack("d", offset_s))
        self.offset_s = offset_s


@dataclass(slots=True)
class Cluster:
    """The processes of one run.

    Args:
        folder: everything they write.
        binary: the Redis.
        tree: the modules nodes and workers run.
        has_sentinels: with a replica and three Sentinels, so that a failover is a real one.
        durability: HUB_DURABILITY.
        tenants: each with the mark that stands in everything it writes.
        secret: signs its tokens; `claims` are in each of them.
        agent: the one people ask.
        uses_small_disk: Redis has a disk of its own that can be filled.
        heartbeat_s: WEBSOCKET_HEARTBEAT_INTERVAL.
        redis_env: more of Redis's environment.
    """

    folder: Path
    binary: Path
    tree: Path = LIBRARY
    has_sentinels: bool = False
    durability: str = "fsync"
    nodes_count: int = 2
    workers_count: int = 2
    uses_small_disk: bool = True
    heartbeat_s: str = "5"
    redis_env: dict[str, str] = field(default_factory=dict)
    tenants: dict[str, str] = field(default_factory=lambda: dict(TENANTS))
    secret: str = SECRET
    claims: dict[str, str] = field(default_factory=dict)
    agent: str = AGENT
    servers: list[RedisChild] = field(default_factory=list)
    fronts: list[Proxy] = field(default_factory=list)
    sentinels: list[RedisChild] = field(default_factory=list)
    nodes: list[NodeChild] = field(default_factory=list)
    workers: list[WorkerChild] = field(default_factory=list)
    disk: Disk = field(default_factory=lambda: Disk(Path()))
    redis_clock: WallClock = field(default_factory=lambda: WallClock(Path()))
    node_clock: WallClock = field(default_factory=lambda: WallClock(Path()))
    master: int = 0
    held_down: set[object] = field(default_factory=set)
    deaths: int = 0
    _watch: asyncio.Task[None] | None = None

    @property
    def redis(self) -> RedisChild:
        """The server that is the master now."""
        return self.servers[self.master]

    @property
    def redis_proxies(self) -> list[Proxy]:
        """The ways of nodes and workers to Redis."""
        return [node.to_redis for node in self.nodes] + [worker.to_redis for worker in self.workers]

    @property
    def links(self) -> list[Proxy]:
        """All proxies between clients and nodes, and between those and Redis."""
        return [node.front for node in self.nodes] + self.redis_proxies

    async def redis_connection(self) -> Resp:
        """A connection to the server that is the master now."""
        return await Resp.connect(self.redis.port)

    def why_not(self, fault: str) -> str:
        """The reason why a kind of fault cannot be done here; empty when it can."""
        if fault == "disk full" and not self.disk.mounted:
            return f"no small disk could be mounted: {self.disk.why_not}"
        if fault.endswith("clock moved") and not self.redis_clock.is_there:
            return "no C compiler: a process's clock cannot be moved"
        return ""

    @property
    def processes(self) -> list[Process]:
        """Nodes and workers."""
        return [node.process for node in self.nodes] + [worker.process for worker in self.workers]

    @property
    def urls(self) -> dict[str, str]:
        """Node → its address for clients."""
        return {node.process.name: node.url for node in self.nodes}

    async def start(self) -> None:
        """Everything up and ready."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.disk = Disk(self.folder / "disk")
        if self.uses_small_disk:
            self.disk.mount()
        self.redis_clock, self.node_clock = (
            WallClock(self.folder / "redis-clock"),
            WallClock(self.folder / "node-clock"),
        )
        await self._start_redis(self.redis_clock.prepare() | self.redis_env)
        node_env = self.node_clock.prepare()
        for number in range(self.nodes_count):
            await self._add_node(number, node_env)
        for number in range(self.workers_count):
            await self._add_worker(number)
        self._watch = asyncio.create_task(self._supervise())
        await self.ready()

    async def ready(self) -> None:
        """Until every node takes traffic and every worker runs."""
        await self.redis.ready()
        await asyncio.gather(*(node.ready() for node in self.nodes))

    async def stop(self) -> None:
        """Everything gone, whatever state it is in."""
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.gather(self._watch, return_exceptions=True)
        self.kill()
        await asyncio.gather(*(proxy.close() for proxy in [*self.links, *self.fronts]))

    def kill(self) -> None:
        """Every process gone and the small disk unmounted, without waiting for anything else."""
        children: list[Process | RedisChild] = [*self.processes, *self.sentinels, *self.servers]
        for child in children:
            child.kill()
        self.disk.unmount()

    async def _start_redis(self, env: dict[str, str]) -> None:
        place = self.disk.folder if self.disk.mounted else self.folder
        for number in range(2 if self.has_sentinels else 1):
            front = Proxy(f"redis{number}", 0)
            await front.start()
            announced = (f"replica-announce-port {front.port}", "replica-announce-ip 127.0.0.1")
            extra = announced if self.has_sentinels else ()
            server = RedisChild(self.binary, place / f"redis{number}", *extra, env=env)
            front.point_at(server.port)
            self.servers.append(server)
            self.fronts.append(front)
            server.start()
            await server.ready()
        if self.has_sentinels:
            await ask(self.servers[1].port, "REPLICAOF", "127.0.0.1", self.fronts[0].port)
            await self.replicated()
            for number in range(3):
                lines = (
                    f"sentinel monitor {SENTINEL_NAME} 127.0.0.1 {self.fronts[0].port} 2",
                    f"sentinel down-after-milliseconds {SENTINEL_NAME} 2500",
                    f"sentinel failover-timeout {SENTINEL_NAME} 4000",
                )
                sentinel = RedisChild(self.binary, self.folder / f"sentinel{number}", *lines, is_sentinel=True)
                self.sentinels.append(sentinel)
                sentinel.start()
                await sentinel.ready()

    async def replicated(self, timeout_s: float = 20.0) -> None:
        """Until the replica has everything that was written before.

        Raises:
            TimeoutError: it does not follow.
        """
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError, TimeoutError, RedisRefused):
                before = await _offset(self.redis.port)
                behind = await _offset(self.servers[1 - self.master].port, is_replica=True)
                if behind is not None and before is not None and behind >= before:
                    return
            await asyncio.sleep(0.05)
        raise TimeoutError("the replica does not follow its master")

    def _env(self, proxy: Proxy) -> dict[str, str]:
        return {
            "REDIS_URL": f"redis://127.0.0.1:{proxy.port}/0",
            "HUB_JWT_SECRET": SECRET,
            "HUB_RATE_LIMITS": "off",
            "HUB_RUNS_PER_USER": "0",
            "HUB_RUNS_PER_TENANT": "0",
            "HUB_DRAIN_SECONDS": "1",
            "HUB_DURABILITY": self.durability,
            "HUB_DATA": str(self.folder / "files"),
            "HUB_AGENTS": f"{AGENT}=ops.torture.agent:run",
            "HUB_RUN_LEASE": "3",
            "WEBSOCKET_HEARTBEAT_INTERVAL": self.heartbeat_s,
            "TORTURE_EFFECTS": str(self.folder / "effects.jsonl"),
            "HUB_PARTITIONS": "8",
        }

    async def _proxy_to_redis(self, name: str) -> Proxy:
        proxy = Proxy(f"{name}-redis", self.redis.port)
        await proxy.start()
        return proxy

    async def _add_node(self, number: int, env: dict[str, str]) -> None:
        name, port = f"n{number}", free_port()
        to_redis, front = await self._proxy_to_redis(name), Proxy(name, port)
        await front.start()
        arguments = ["serve", "--host", "127.0.0.1", "--port", str(port)]
        process = Process(name, arguments, self._env(to_redis) | env, self.tree, self.folder / f"{name}.log")
        self.nodes.append(NodeChild(process, front, to_redis))
        process.start()

    async def _add_worker(self, number: int) -> None:
        name = f"w{number}"
        to_redis = await self._proxy_to_redis(name)
        process = Process(name, ["worker"], self._env(to_redis), self.tree, self.folder / f"{name}.log")
        self.workers.append(WorkerChild(process, to_redis))
        process.start()

    async def _supervise(self) -> None:
        """Start again what ended by itself, as a process manager would. What a fault keeps down is the fault's business."""
        while True:
            await asyncio.sleep(0.2)
            children: list[Process | RedisChild] = [*self.processes, *self.servers, *self.sentinels]
            for child in children:
                if not child.is_running and child not in self.held_down:
                    self.deaths += 1
                    child.start()

    def point_at_master(self, number: int) -> None:
        """Send connections to the new master from now on and end those that are there, as a failover does to a name."""
        self.master = number
        for proxy in self.redis_proxies:
            proxy.point_at(self.redis.port)

    def logs(self) -> dict[str, str]:
        """The end of every process's log, for a report."""
        files = sorted(self.folder.glob("*.log"))
        return {file.name: file.read_text(errors="replace")[-2_000:] for file in files}

    def remove(self) -> None:
        """Delete what the run wrote."""
        shutil.rmtree(self.folder, ignore_errors=True)


async def _offset(port: int, *, is_replica: bool = False) -> int | None:
    """The offset a server's replication stands at; None if it follows nobody."""
    text = (await ask(port, "INFO", "replication", timeout_s=3)).decode()
    pairs = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    if is_replica:
        return int(pairs["slave_repl_offset"]) if pairs.get("master_link_status") == "up" else None
    return int(pairs["master_repl_offset"])
