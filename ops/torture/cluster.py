"""The processes of a run on this machine, with a proxy between every two that communicate."""

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
from collections.abc import Sequence
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
    """A `hub` command as a child process.

    Args:
        name: its name in the history, such as `n0` or `w0`.
        arguments: the arguments of `hub`.
        env: its environment.
        tree: the folder whose modules it runs: this checkout, or a copy with a planted bug.
        log: the file for its output.
    """

    def __init__(self, name: str, arguments: list[str], env: dict[str, str], tree: Path, log: Path) -> None:
        self.name = name
        self._arguments, self._env, self._tree, self._log = arguments, env, tree, log
        self._child: subprocess.Popen[bytes] | None = None
        self.starts = 0

    @property
    def is_running(self) -> bool:
        """True if the process exists, even if it is stopped."""
        return self._child is not None and self._child.poll() is None

    def start(self) -> None:
        """Start the process; it begins to listen a moment later."""
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
        """Send a signal if the process is running."""
        if self._child is not None and self._child.poll() is None:
            self._child.send_signal(number)

    def kill(self) -> None:
        """Kill the process with SIGKILL."""
        if self._child is not None:
            self._child.kill()
            self._child.wait()

    async def end(self, timeout_s: float = 20.0) -> None:
        """End the process with SIGTERM, and with SIGKILL if it does not end in time."""
        self.send(signal.SIGTERM)
        deadline = time.monotonic() + timeout_s
        while self.is_running and time.monotonic() < deadline:  # noqa: ASYNC110 - another process raises no event
            await asyncio.sleep(0.02)
        self.kill()


@dataclass(slots=True)
class NodeChild:
    """A hub node: its process, the proxy through which clients reach it, and the proxies through which it reaches Redis."""

    process: Process
    front: Proxy
    to_redis: Sequence[Proxy]

    @property
    def url(self) -> str:
        """The URL for clients."""
        return f"http://127.0.0.1:{self.front.port}"

    async def ready(self) -> None:
        """Wait until the node is ready.

        Raises:
            TimeoutError: it is not ready in time.
        """
        deadline = time.monotonic() + READY_TIMEOUT_S
        while not await asyncio.to_thread(is_ready, f"http://127.0.0.1:{self.front.target}"):
            if time.monotonic() > deadline:
                raise TimeoutError(f"node {self.process.name} is not ready after {READY_TIMEOUT_S:g} s")
            await asyncio.sleep(0.1)


def is_ready(url: str) -> bool:
    """True if the node at this URL is ready."""
    try:
        with urllib.request.urlopen(f"{url}/readyz", timeout=2) as answer:  # noqa: S310 - our own loopback URL
            return bool(answer.status == 200)  # noqa: PLR2004
    except (urllib.error.URLError, OSError):
        return False


@dataclass(slots=True)
class WorkerChild:
    """A worker, and the proxies through which it reaches Redis."""

    process: Process
    to_redis: Sequence[Proxy]


@dataclass(slots=True)
class Disk:
    """A small file system for Redis, which can be filled. `mounted` is false if this machine does not permit mounting."""

    folder: Path
    mounted: bool = False
    why_not: str = ""

    def mount(self) -> None:
        """Mount the file system."""
        self.folder.mkdir(parents=True, exist_ok=True)
        made = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m", "tmpfs", str(self.folder)],
            capture_output=True,
            text=True,
            check=False,
        )
        self.mounted, self.why_not = made.returncode == 0, made.stderr.strip()

    def unmount(self) -> None:
        """Unmount the file system."""
        if self.mounted:
            subprocess.run(["umount", "-l", str(self.folder)], capture_output=True, check=False)
            self.mounted = False


@dataclass(slots=True)
class WallClock:
    """A wall clock that can be changed for processes that run with the shim library. Building the shim needs a C compiler."""

    path: Path
    is_there: bool = False
    offset_s: float = 0.0

    def prepare(self) -> dict[str, str]:
        """The environment for a process that is to use this clock."""
        shim = build_shim(self.path.parent)
        self.is_there = shim is not None
        self.path.write_bytes(struct.pack("d", 0.0))
        return {"LD_PRELOAD": str(shim), "TORTURE_CLOCK": str(self.path)} if shim else {}

    def move(self, offset_s: float) -> None:
        """Shift the clock by this many seconds from now on."""
        with self.path.open("r+b") as file:
            file.write(struct.pack("d", offset_s))
        self.offset_s = offset_s


@dataclass(slots=True)
class Cluster:
    """The processes of one run.

    Args:
        folder: the folder for all their files.
        binary: the redis-server program.
        tree: the modules that nodes and workers run.
        has_sentinels: add a replica and three Sentinels, for real failovers.
        durability: the value of HUB_DURABILITY.
        tenants: for each tenant, the marker contained in everything its people write.
        secret: signs the tokens; `claims` are added to each of them.
        agent: the agent to which questions are sent.
        uses_small_disk: give Redis a small file system that can be filled.
        heartbeat_s: the value of WEBSOCKET_HEARTBEAT_INTERVAL.
        redis_env: additional environment for Redis.
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
        """The server that is currently the master."""
        return self.servers[self.master]

    @property
    def redis_proxies(self) -> list[Proxy]:
        """The proxies of nodes and workers to Redis."""
        ways = [node.to_redis for node in self.nodes] + [worker.to_redis for worker in self.workers]
        return list(dict.fromkeys(proxy for way in ways for proxy in way))

    @property
    def links(self) -> list[Proxy]:
        """All proxies: between clients and nodes, and between nodes or workers and Redis."""
        return [node.front for node in self.nodes] + self.redis_proxies

    @property
    def redis_children(self) -> list[RedisChild]:
        """All servers and Sentinels."""
        return [*self.servers, *self.sentinels]

    async def redis_connection(self, key: str = "") -> Resp:
        """Connect to the server that is currently the master."""
        del key
        return await Resp.connect(self.redis.port)

    async def redis_connections(self) -> list[Resp]:
        """Connect to every server that holds keys of its own."""
        return [await self.redis_connection()]

    def why_not(self, fault: str) -> str:
        """The reason why a kind of fault is impossible here; "" if it is possible."""
        if fault == "disk full" and not self.disk.mounted:
            return f"no small disk could be mounted: {self.disk.why_not}"
        if fault.endswith("clock moved") and not self.redis_clock.is_there:
            return "no C compiler: a process's clock cannot be moved"
        return ""

    @property
    def processes(self) -> list[Process]:
        """The processes of nodes and workers."""
        return [node.process for node in self.nodes] + [worker.process for worker in self.workers]

    @property
    def urls(self) -> dict[str, str]:
        """The URL for clients of each node."""
        return {node.process.name: node.url for node in self.nodes}

    async def start(self) -> None:
        """Start everything, and wait until it is ready."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.disk = Disk(self.folder / "disk")
        if self.uses_small_disk:
            self.disk.mount()
        self.redis_clock, self.node_clock = (
            WallClock(self.folder / "redis-clock"),
            WallClock(self.folder / "node-clock"),
        )
        await self.start_redis(self.redis_clock.prepare() | self.redis_env)
        node_env = self.node_clock.prepare()
        for number in range(self.nodes_count):
            await self._add_node(number, node_env)
        for number in range(self.workers_count):
            await self._add_worker(number)
        self._watch = asyncio.create_task(self._supervise())
        await self.ready()

    async def ready(self) -> None:
        """Wait until Redis and every node are ready."""
        await self.redis_ready()
        await asyncio.gather(*(node.ready() for node in self.nodes))

    async def redis_ready(self) -> None:
        """Wait until Redis answers."""
        await self.redis.ready()

    async def stop(self) -> None:
        """Stop everything, whatever state it is in."""
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.gather(self._watch, return_exceptions=True)
        self.kill()
        await asyncio.gather(*(proxy.close() for proxy in [*self.links, *self.fronts]))

    def kill(self) -> None:
        """Kill every process and unmount the small file system, without waiting for anything else."""
        children: list[Process | RedisChild] = [*self.processes, *self.redis_children]
        for child in children:
            child.kill()
        self.disk.unmount()

    async def start_redis(self, env: dict[str, str]) -> None:
        """Start the servers, and the Sentinels if there are any."""
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
        """Wait until the replica has all earlier writes.

        Raises:
            TimeoutError: the replica does not catch up.
        """
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError, TimeoutError, RedisRefused):
                before = await offset_of(self.redis.port)
                behind = await offset_of(self.servers[1 - self.master].port, is_replica=True)
                if behind is not None and before is not None and behind >= before:
                    return
            await asyncio.sleep(0.05)
        raise TimeoutError("the replica does not follow its master")

    def _env(self) -> dict[str, str]:
        return {
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

    async def way_to_redis(self, name: str) -> tuple[Sequence[Proxy], dict[str, str]]:
        """The proxies between the process of this name and Redis, and the settings that lead it to them."""
        proxy = Proxy(f"{name}-redis", self.redis.port)
        await proxy.start()
        return (proxy,), {"REDIS_URL": f"redis://127.0.0.1:{proxy.port}/0"}

    async def _add_node(self, number: int, env: dict[str, str]) -> None:
        name, port = f"n{number}", free_port()
        (to_redis, place), front = await self.way_to_redis(name), Proxy(name, port)
        await front.start()
        arguments = ["serve", "--host", "127.0.0.1", "--port", str(port)]
        process = Process(name, arguments, self._env() | place | env, self.tree, self.folder / f"{name}.log")
        self.nodes.append(NodeChild(process, front, to_redis))
        process.start()

    async def _add_worker(self, number: int) -> None:
        name = f"w{number}"
        to_redis, place = await self.way_to_redis(name)
        process = Process(name, ["worker"], self._env() | place, self.tree, self.folder / f"{name}.log")
        self.workers.append(WorkerChild(process, to_redis))
        process.start()

    async def _supervise(self) -> None:
        """Restart processes that ended by themselves, as a process manager would, but not those that a fault keeps down."""
        while True:
            await asyncio.sleep(0.2)
            children: list[Process | RedisChild] = [*self.processes, *self.redis_children]
            for child in children:
                if not child.is_running and child not in self.held_down:
                    self.deaths += 1
                    child.start()

    def point_at_master(self, number: int) -> None:
        """Direct connections to the new master from now on and end existing ones, as a failover of a DNS name does."""
        self.master = number
        for proxy in self.redis_proxies:
            proxy.point_at(self.redis.port)

    def logs(self) -> dict[str, str]:
        """The end of every process's log, for a report."""
        files = sorted(self.folder.glob("*.log"))
        return {file.name: file.read_text(errors="replace")[-2_000:] for file in files}

    def remove(self) -> None:
        """Delete the files of the run."""
        shutil.rmtree(self.folder, ignore_errors=True)


async def offset_of(port: int, *, is_replica: bool = False) -> int | None:
    """The replication offset of a server; None for a replica that follows no master."""
    text = (await ask(port, "INFO", "replication", timeout_s=3)).decode()
    pairs = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    if is_replica:
        return int(pairs["slave_repl_offset"]) if pairs.get("master_link_status") == "up" else None
    return int(pairs["master_repl_offset"])
