"""The processes that an answer passes through, which can be killed: a Redis, two nodes, two workers; and simulated devices.

Devices are SDK clients in the test's own event loop; their connections can be cut and their state dropped. Nodes and workers
are killed with SIGKILL.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import random
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from hub.auth.signing import sign
from hub.client import ChannelClosed, HubClient, HubClosed
from ops.children import NodeProcess
from ops.embedded_redis.server import EmbeddedRedis
from streams.channel import Channel
from streams.records.runs import run_guard_name
from streams.redis.log import Log
from support.answer_screen import Screen

ROOT = Path(__file__).parents[2]
AGENTS = {"slow": "run", "once": "run_once", "endless": "run_endless"}
LEASE_S = 5.0
"""A third of the production lease, in seconds; a worker on a busy machine can still renew it in time."""
GRANTS = {"conversation:*": ["*"]}
WITHIN_S = 150.0
_numbers = itertools.count()


class WorkerProcess:
    """`hub worker` as a child."""

    def __init__(self, redis_url: str, folder: Path) -> None:
        agents = ",".join(f"{name}=support.slow_agent:{function}" for name, function in AGENTS.items())
        self._env = os.environ | {
            "REDIS_URL": redis_url, "HUB_AGENTS": agents, "HUB_RUN_LEASE": str(LEASE_S), "HUB_DATA": str(folder),
            "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}", "SLOW_AGENT_EFFECTS": str(folder / "effects"),
        }  # fmt: skip # a table
        self._log = folder / f"worker-{next(_numbers)}.log"
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The process ID; 0 while the process is not running."""
        return self._child.pid if self._child is not None else 0

    def start(self) -> None:
        """Start the process; it is ready a moment later."""
        with self._log.open("ab") as log:
            self._child = subprocess.Popen(
                [sys.executable, "-c", "from ops.cli import main; main()", "worker"],
                env=self._env,
                cwd=ROOT,
                stdout=subprocess.PIPE,
                stderr=log,
            )

    def ready(self) -> None:
        """Wait, blocking, until the worker is ready."""
        assert self._child is not None
        assert self._child.stdout is not None
        line = self._child.stdout.readline()
        assert b"is up" in line, f"{line!r}; see {self._log}: {self._log.read_text()[-2000:]}"

    def kill(self) -> None:
        """Kill the process with SIGKILL."""
        if self._child is not None:
            self._child.kill()
            self._child.wait()
            if self._child.stdout is not None:
                self._child.stdout.close()
            self._child = None


class Stage:
    """The processes, a pair of nodes and of workers, so that one can be dead while the other works."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.redis = EmbeddedRedis(folder / "redis", is_persistent=False)
        self.redis.start()
        self._secret = secrets.token_hex(24)
        self.nodes = [NodeProcess(self.redis.url, self._secret, HUB_DATA=str(folder)) for _ in range(2)]
        self.workers = [WorkerProcess(self.redis.url, folder) for _ in range(2)]

    @property
    def effects(self) -> Path:
        """The file to which the agents write their effects."""
        return self.folder / "effects"

    def token(self, user: str) -> str:
        """A token that permits everything in conversations for an hour."""
        return sign(self._secret, user, "t", GRANTS, 3600, time.time())

    async def start(self) -> None:
        """Start the processes that are not running, and wait until all are ready."""
        dead_workers = [worker for worker in self.workers if not worker.pid]
        for process in (*(node for node in self.nodes if not _is_running(node)), *dead_workers):
            process.start()
        await asyncio.gather(*(node.ready() for node in self.nodes), *map(_until_ready, dead_workers))

    def close(self) -> None:
        """End all processes."""
        for process in (*self.nodes, *self.workers):
            process.kill()
        self.redis.stop()

    async def restart(self, process: NodeProcess | WorkerProcess) -> None:
        """Start a killed process again, and wait until it is ready."""
        process.start()
        await (process.ready() if isinstance(process, NodeProcess) else _until_ready(process))

    async def holder(self, log: Log, channel: Channel, run_id: str) -> WorkerProcess | None:
        """The worker that currently executes the run; None if there is none."""
        raw = await log.redis.hget(log.keys.guard(channel, run_guard_name(channel, run_id)), "holder")
        name = (raw or b"").decode()
        return next((worker for worker in self.workers if worker.pid and f"-{worker.pid}-" in name), None)


def _is_running(node: NodeProcess) -> bool:
    with contextlib.suppress(RuntimeError):
        return node.pid > 0
    return False


async def _until_ready(worker: WorkerProcess) -> None:
    await asyncio.to_thread(worker.ready)


@contextlib.contextmanager
def stage_in(folder: Path) -> Iterator[Stage]:
    """A stage whose processes are ended at the end of the block in any case."""
    found = Stage(folder)
    try:
        yield found
    finally:
        found.close()


class Audience:
    """The devices that follow one channel, with a way to wait for what they show."""

    def __init__(self, stage: Stage, channel: str) -> None:
        self.stage, self.channel = stage, channel
        self.devices: list[Device] = []
        self._moved = asyncio.Condition()

    async def join(self, user: str, *, first_node: int = 0, after: str = "$") -> Device:
        """Add a device that follows the channel; returns when the hub has answered its subscription."""
        urls = [node.url for node in self.stage.nodes]
        device = Device(self, user, [*urls[first_node:], *urls[:first_node]], after)
        self.devices.append(device)
        await device.begin()
        return device

    async def tell(self) -> None:
        """Wake the waiting tests, because a device shows something new."""
        async with self._moved:
            self._moved.notify_all()

    async def until(self, condition: Callable[[], bool], within_s: float = WITHIN_S) -> None:
        """Wait until the devices satisfy the condition.

        Raises:
            TimeoutError: they do not in time.
        """
        async with asyncio.timeout(within_s), self._moved:
            await self._moved.wait_for(condition)

    async def leave(self) -> None:
        """Stop all devices."""
        await asyncio.gather(*(device.end() for device in self.devices))


class Device:
    """A person's client and its screen."""

    def __init__(self, audience: Audience, user: str, urls: Sequence[str], after: str) -> None:
        self.user, self.screen = user, Screen()
        self.is_harmed = False
        self._audience, self._urls, self._after = audience, list(urls), after
        self._reading: asyncio.Task[None] | None = None
        self._reloading = asyncio.Lock()
        self.client = self._new_client()

    @property
    def trouble(self) -> str:
        """The error that ended reading; "" if there was none."""
        task = self._reading
        if task is None or not task.done() or task.cancelled() or task.exception() is None:
            return ""
        return repr(task.exception())

    def _new_client(self) -> HubClient:
        return HubClient(self._urls, self._audience.stage.token(self.user), connect_timeout_s=WITHIN_S)

    async def begin(self) -> None:
        """Connect and subscribe; returns when the first answer has been applied."""
        client, screen = self.client, self.screen
        await client.connect()
        self._reading = asyncio.create_task(self._read(client, screen), name=f"device of {self.user}")
        await self._audience.until(lambda: screen.starts > 0 or self._reading is None or self._reading.done())
        assert not self.trouble, self.trouble

    async def _read(self, client: HubClient, screen: Screen) -> None:
        channel = self._audience.channel
        items = client.subscribe(channel, after=self._after, signals=True, with_receipts=True)
        try:
            async for item in items:
                screen.take(item)
                if screen.is_behind:
                    state = await client.state(channel)
                    screen.take_state(state.state, state.state_at)
                await self._audience.tell()
        finally:
            await self._audience.tell()

    def cut(self) -> None:
        """Cut the connection; the client reconnects by itself."""
        self.is_harmed = True
        self.client.cut()

    async def reload(self) -> None:
        """Replace the client by a new one without any state, as when a page is reloaded; it begins with the channel's state."""
        async with self._reloading:
            self.is_harmed = True
            self.client.cut()
            await self.end()
            self.client, self.screen, self._after = self._new_client(), Screen(), "$"
            await self.begin()

    async def end(self) -> None:
        """Stop following."""
        task, self._reading = self._reading, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        await self.client.aclose()

    async def command(self, kind: str, payload: dict[str, Any]) -> Any:
        """Send a command; if the client was replaced meanwhile, the new one sends it again with the same ID."""
        command_id = f"{self.user}.{secrets.token_hex(6)}"
        while True:
            client = self.client
            try:
                return (await client.command(kind, self._audience.channel, payload, command_id=command_id)).payload
            except (HubClosed, ChannelClosed):
                async with self._reloading:
                    assert self.client is not client, "the client closed by itself"


def offsets(chance: random.Random, count: int, length: int) -> list[int]:
    """Random positions in an answer, sorted. The last tenth is excluded, so that a fault there still hits the running answer."""
    return sorted(chance.randrange(length * 9 // 10) for _ in range(count))
