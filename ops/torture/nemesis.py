"""Carries out a fault schedule: injects faults, ends them, and records both."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

from ops.torture.client import ClientProcess
from ops.torture.cluster import Cluster, Process, WallClock
from ops.torture.deployment import Target, ask_redis, find_key
from ops.torture.history import Recorder, now_ms
from ops.torture.people import CREW, TALK
from ops.torture.proxy import REPLICATION, Proxy, Way
from ops.torture.resp import RedisRefused, ask
from ops.torture.schedule import PlannedFault, Schedule
from ops.torture.servers import RedisChild

ALL_LEVELS: Final = ["memory", "fsync", "replicated"]
_ABSENCE_S: Final = 4.0
"""Absence of Redis, in seconds: longer than a node takes to notice it, shorter than the grace period of people who disconnect."""
_JITTER_PERIOD_S: Final = 1.5
_JITTER_AWAY_S: Final = 0.2
T = TypeVar("T")
_FAILOVER_TIMEOUT_S: Final = 30.0
_ENDLESS: Final = "while true do end"
_REDIS_ERRORS: Final = (OSError, TimeoutError, RedisRefused)


class Nemesis:
    """Injects faults that need no control of the hub's processes: in clients, links, and Redis by commands.

    A fault that is interrupted is still ended properly.

    Args:
        target: the cluster or deployment.
        clients: the processes of simulated people.
        recorder: records the faults.
        tell: called with a text on each event, for the progress display.
    """

    def __init__(
        self, target: Target, clients: list[ClientProcess], recorder: Recorder, tell: Callable[[str], None]
    ) -> None:
        self._target, self._clients, self._recorder, self._tell = target, clients, recorder, tell
        self._doings: dict[str, Callable[[PlannedFault], Awaitable[str]]] = {
            "client killed": self._client_killed,
            "client stopped": self._client_stopped,
            "token revoked": self._token_revoked,
            "token expired": self._token_expired,
            "link cut": self._link_cut,
            "link swallows upwards": lambda fault: self._swallow(fault, "up"),
            "link swallows downwards": lambda fault: self._swallow(fault, "down"),
            "link swallows both ways": lambda fault: self._swallow(fault, "up", "down"),
            "link slow": self._link_slow,
            "chunk torn": self._torn,
            "link refuses": self._refuses,
            "links jitter": self._links_jitter,
            "redis full": self._full,
            "redis read-only": self._read_only,
            "redis busy": self._busy,
            "scripts flushed": self._scripts,
            "clients killed": self._connections_killed,
            "configuration changed": self._configuration,
            "all flushed": self._flushed,
            "channel deleted": self._deleted,
            "channel trimmed": self._trimmed,
        }

    def possible(self, names: list[str]) -> list[str]:
        """Those of the kinds that are possible here; the others are recorded as skipped, with the reason."""
        found = []
        for name in names:
            why = self._target.why_not(name)
            if why:
                self._recorder.write("skipped", name=name, why=why)
                self._tell(f"SKIPPED: {name}: {why}")
            else:
                found.append(name)
        return found

    async def carry_out(self, schedule: Schedule) -> None:
        """Carry out both tracks of the schedule to the end."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._track(schedule.alone))
            group.create_task(self._track(schedule.beside))

    async def _track(self, faults: tuple[PlannedFault, ...]) -> None:
        for fault in faults:
            await asyncio.sleep(fault.pause_s)
            await self._fire(fault)

    async def _fire(self, fault: PlannedFault) -> None:
        name = self._recorder.name()
        loses = await self._losses(fault)
        self._tell(f"{fault.name} ({fault.duration_s:.1f} s)")
        self._recorder.write(
            "fault",
            f=name,
            name=fault.name,
            target=f"{fault.aim:.3f}",
            phase="begin",
            **({"loses": loses} if loses else {}),
        )
        hit = ""
        try:
            hit = await self._doings[fault.name](fault)
        finally:
            self._recorder.write("fault", f=name, name=fault.name, phase="end", hit=hit)

    async def _losses(self, fault: PlannedFault) -> dict[str, Any] | None:
        """The acknowledged data that the fault may destroy; recorded before the fault begins."""
        match fault.name:
            case "all flushed":
                return {"levels": ALL_LEVELS, "since": None, "places": None}
            case "channel deleted" | "channel trimmed":
                is_trim = fault.name == "channel trimmed"
                places = [list(self._victim(fault))]
                return {"levels": ALL_LEVELS, "since": None, "places": places, "is_trim": is_trim}
        return None

    def _victim(self, fault: PlannedFault) -> tuple[str, str]:
        tenants = sorted({client.tenant for client in self._clients})
        return tenants[int(fault.aim * len(tenants))], TALK if fault.name == "channel deleted" else CREW

    # clients

    async def _client_killed(self, fault: PlannedFault) -> str:
        client = pick(self._clients, fault)
        client.kill()
        self._recorder.write("died", p=client.process)
        await asyncio.sleep(fault.duration_s)
        client.start()
        return client.process

    async def _client_stopped(self, fault: PlannedFault) -> str:
        client = pick(self._clients, fault)
        client.send(signal.SIGSTOP)
        try:
            await asyncio.sleep(fault.duration_s)
        finally:
            client.send(signal.SIGCONT)
        return client.process

    async def _token_revoked(self, fault: PlannedFault) -> str:
        client = pick(self._clients, fault)
        await client.say("revoke")
        return client.process

    async def _token_expired(self, fault: PlannedFault) -> str:
        client = pick(self._clients, fault)
        await client.say("expire")
        return client.process

    # links

    async def _link_cut(self, fault: PlannedFault) -> str:
        proxy = pick(self._target.links, fault)
        before = proxy.hits
        proxy.cut()
        return f"{proxy.name}: {proxy.hits - before} connections"

    async def _swallow(self, fault: PlannedFault, *ways: Way) -> str:
        proxy = pick(self._target.links, fault)
        before = proxy.hits
        with proxy.swallowing(*ways):
            await asyncio.sleep(fault.duration_s)
            swallowed = proxy.hits - before
        return f"{proxy.name}: {swallowed} bytes"

    async def _link_slow(self, fault: PlannedFault) -> str:
        proxy = pick(self._target.links, fault)
        before = proxy.hits
        with proxy.slowed(0.01 + fault.aim / 5):
            await asyncio.sleep(fault.duration_s)
        return f"{proxy.name}: {proxy.hits - before} chunks"

    async def _torn(self, fault: PlannedFault) -> str:
        proxy = pick(self._target.links, fault)
        before = proxy.hits
        with proxy.tearing(int(fault.aim * 1_000)):
            await asyncio.sleep(fault.duration_s)
        return f"{proxy.name}: {proxy.hits - before} connections"

    async def _refuses(self, fault: PlannedFault) -> str:
        proxy = pick(self._target.links, fault)
        before = proxy.hits
        with proxy.refusing():
            await asyncio.sleep(fault.duration_s)
        return f"{proxy.name}: {proxy.hits - before} connections"

    async def _links_jitter(self, fault: PlannedFault) -> str:
        links = self._target.links
        before = sum(proxy.hits for proxy in links)
        async with asyncio.TaskGroup() as group:
            for number, proxy in enumerate(links):
                group.create_task(_jitter(proxy, number / len(links), fault.duration_s))
        return f"{len(links)} links: {sum(proxy.hits for proxy in links) - before} connections"

    # Redis

    async def _ask(self, *words: str | bytes | int, key: str = "") -> Any:
        return await ask_redis(self._target, *words, key=key)

    async def _surely(self, *words: str | bytes | int) -> None:
        """Send a command that must be executed, because otherwise a fault would not end."""
        for _ in range(200):
            try:
                await self._ask(*words)
            except _REDIS_ERRORS:
                await asyncio.sleep(0.1)
            else:
                return
        raise TimeoutError(f"Redis does not carry out {words}")

    async def _full(self, fault: PlannedFault) -> str:
        return await self._configured({"maxmemory": "1mb"}, fault.duration_s)

    async def _configured(self, changes: dict[str, str], duration_s: float) -> str:
        """Change settings of Redis for a while, then restore them."""
        before = {name: (await self._ask("CONFIG", "GET", name))[1] for name in changes}
        try:
            for name, value in changes.items():
                await self._ask("CONFIG", "SET", name, value)
            await asyncio.sleep(duration_s)
        finally:
            for name, value in before.items():
                await self._surely("CONFIG", "SET", name, value)
        return "redis"

    async def _read_only(self, fault: PlannedFault) -> str:
        """Make Redis the replica of a master that does not exist: it keeps its data and refuses writes."""
        try:
            await self._ask("REPLICAOF", "127.0.0.1", 1)
            await asyncio.sleep(fault.duration_s)
        finally:
            await self._surely("REPLICAOF", "NO", "ONE")
        return "redis"

    async def _busy(self, fault: PlannedFault) -> str:
        """Run an endless script in Redis until it is killed."""
        connection = await self._target.redis_connection()
        # Connected first, because no database can be selected while the script runs.
        killer = await self._target.redis_connection()
        running = asyncio.create_task(connection.call("EVAL", _ENDLESS, 0, timeout_s=fault.duration_s + 60))
        try:
            await asyncio.sleep(fault.duration_s)
        finally:
            while not running.done():
                with contextlib.suppress(*_REDIS_ERRORS):
                    await killer.call("SCRIPT", "KILL")
                await asyncio.wait([running], timeout=0.1)
            await asyncio.gather(running, return_exceptions=True)
            connection.close()
            killer.close()
        return "redis"

    async def _scripts(self, fault: PlannedFault) -> str:
        del fault
        await self._ask("SCRIPT", "FLUSH")
        return "redis"

    async def _connections_killed(self, fault: PlannedFault) -> str:
        del fault
        count = await self._ask("CLIENT", "KILL", "TYPE", "normal")
        return f"{count} connections"

    async def _configuration(self, fault: PlannedFault) -> str:
        changes = {"timeout": "1", "stream-node-max-entries": "3", "tcp-keepalive": "1"}
        return await self._configured(changes, fault.duration_s)

    # losses

    async def _flushed(self, fault: PlannedFault) -> str:
        del fault
        count = await self._ask("DBSIZE")
        await self._ask("FLUSHALL")
        return f"{count} keys"

    async def _deleted(self, fault: PlannedFault) -> str:
        tenant, channel = self._victim(fault)
        key = await self._key(tenant, channel)
        return f"{channel} of {tenant}: {await self._ask('DEL', key, key=key) if key else 0} streams"

    async def _trimmed(self, fault: PlannedFault) -> str:
        tenant, channel = self._victim(fault)
        key = await self._key(tenant, channel)
        length = int(await self._ask("XLEN", key, key=key)) if key else 0
        count = await self._ask("XTRIM", key, "MAXLEN", int(fault.aim * length), key=key) if key else 0
        return f"{channel} of {tenant}: {count} events"

    async def _key(self, tenant: str, channel: str) -> str | None:
        return await find_key(self._target, f"hub:*:{tenant}:{channel}")


class ClusterNemesis(Nemesis):
    """Also injects faults into the processes, clocks and disks of a cluster started for the run, and causes failovers."""

    def __init__(
        self, cluster: Cluster, clients: list[ClientProcess], recorder: Recorder, tell: Callable[[str], None]
    ) -> None:
        super().__init__(cluster, clients, recorder, tell)
        self._cluster = cluster
        self._doings |= {
            "node killed": self._node_killed,
            "node stopped": self._node_stopped,
            "worker killed": self._worker_killed,
            "worker stopped": self._worker_stopped,
            "worker stopped for long": self._worker_stopped,
            "redis killed": self._redis_killed,
            "redis stopped": self._redis_stopped,
            "rolling restart": self._rolling,
            "redis loading": self._loading,
            "failover": self._failover,
            "failover that loses": self._failover_losing,
            "redis clock moved": self._redis_clock,
            "node clock moved": self._node_clock,
            "disk full": self._disk_full,
        }

    async def _losses(self, fault: PlannedFault) -> dict[str, Any] | None:
        if fault.name == "failover that loses":
            await self._cluster.replicated()
            return {"levels": ["memory", "fsync"], "since": now_ms(), "places": None}
        return await super()._losses(fault)

    async def part_people(self) -> None:
        """Disconnect everybody, cut the nodes off from Redis, and reconnect everybody to the same node within the grace period."""
        name = self._recorder.name()
        self._recorder.write("fault", f=name, name="people away", target="all", phase="begin")
        await asyncio.gather(*(client.say("away") for client in self._clients))
        for node in self._cluster.nodes:
            for proxy in node.to_redis:
                proxy.cut()
        await asyncio.sleep(_ABSENCE_S)
        await asyncio.gather(*(client.say("back") for client in self._clients))
        self._recorder.write("fault", f=name, name="people away", phase="end", hit="everybody")

    # processes

    async def _down(self, child: Process | RedisChild, duration_s: float) -> None:
        self._cluster.held_down.add(child)
        child.kill()
        await asyncio.sleep(duration_s)
        child.start()
        self._cluster.held_down.discard(child)

    async def _node_killed(self, fault: PlannedFault) -> str:
        node = pick(self._cluster.nodes, fault)
        await self._down(node.process, fault.duration_s)
        await node.ready()
        return node.process.name

    async def _node_stopped(self, fault: PlannedFault) -> str:
        return await self._stopped(pick(self._cluster.nodes, fault).process, fault.duration_s)

    async def _worker_killed(self, fault: PlannedFault) -> str:
        worker = pick(self._cluster.workers, fault)
        await self._down(worker.process, fault.duration_s)
        return worker.process.name

    async def _worker_stopped(self, fault: PlannedFault) -> str:
        return await self._stopped(pick(self._cluster.workers, fault).process, fault.duration_s)

    async def _stopped(self, process: Process, duration_s: float) -> str:
        process.send(signal.SIGSTOP)
        try:
            await asyncio.sleep(duration_s)
        finally:
            process.send(signal.SIGCONT)
        return process.name

    async def _redis_killed(self, fault: PlannedFault) -> str:
        await self._down(self._cluster.redis, fault.duration_s)
        await self._cluster.redis.ready()
        return "redis"

    async def _redis_stopped(self, fault: PlannedFault) -> str:
        server = self._cluster.redis
        server.freeze()
        try:
            await asyncio.sleep(fault.duration_s)
        finally:
            server.thaw()
        return "redis"

    async def _rolling(self, fault: PlannedFault) -> str:
        """Stop and restart every node and every worker, one after the other."""
        del fault
        for process in self._cluster.processes:
            self._cluster.held_down.add(process)
            await process.end()
            process.start()
            self._cluster.held_down.discard(process)
            for node in self._cluster.nodes:
                if node.process is process:
                    await node.ready()
        return f"{len(self._cluster.processes)} processes"

    async def _loading(self, fault: PlannedFault) -> str:
        """Restart Redis so slowly that clients find it loading its data."""
        server = self._cluster.redis
        with contextlib.suppress(*_REDIS_ERRORS):
            await self._ask("BGREWRITEAOF")
            await asyncio.sleep(0.3)
        keys = max(1, int(await self._ask("DBSIZE")))
        self._cluster.held_down.add(server)
        server.kill()
        delay_us = int(fault.duration_s * 1_500_000 / keys)
        server.start("--key-load-delay", str(delay_us), "--loading-process-events-interval-bytes", "512")
        self._cluster.held_down.discard(server)
        told = await self._count_loading(server, fault.duration_s * 2)
        await server.ready()
        return f"redis: {told} times found loading"

    async def _count_loading(self, server: RedisChild, seconds: float) -> int:
        told, deadline = 0, time.monotonic() + seconds
        while time.monotonic() < deadline:
            try:
                await ask(server.port, "GET", "nothing", timeout_s=1)
            except RedisRefused:
                told += 1
            except (OSError, TimeoutError):
                pass
            else:
                return told
            await asyncio.sleep(0.05)
        return told

    # failovers

    async def _failover(self, fault: PlannedFault) -> str:
        """Hold back writes to the master until the replica has caught up, then kill the master: nothing may be lost."""
        del fault
        with contextlib.ExitStack() as held:
            for proxy in self._cluster.redis_proxies:
                held.enter_context(proxy.holding())
            await asyncio.sleep(0.2)
            await self._cluster.replicated()
            return await self._promote()

    async def _failover_losing(self, fault: PlannedFault) -> str:
        """Cut the replica off from the master for a while, then kill the master."""
        with self._cluster.fronts[self._cluster.master].silencing(REPLICATION):
            await asyncio.sleep(fault.duration_s)
            return await self._promote()

    async def _promote(self) -> str:
        """Kill the master, wait for the Sentinels, point the proxies at the new master, and make the old one its replica."""
        cluster = self._cluster
        old, new = cluster.master, 1 - cluster.master
        server = cluster.servers[old]
        cluster.held_down.add(server)
        server.kill()
        cluster.fronts[old].cut()
        deadline = time.monotonic() + _FAILOVER_TIMEOUT_S
        while True:
            if time.monotonic() > deadline:
                raise TimeoutError("the Sentinels promoted nobody")
            with contextlib.suppress(*_REDIS_ERRORS):
                named = await ask(cluster.sentinels[0].port, "SENTINEL", "get-master-addr-by-name", "hub")
                role = await ask(cluster.servers[new].port, "ROLE")
                if int(named[1]) == cluster.fronts[new].port and role[0] == b"master":
                    break
            await asyncio.sleep(0.05)
        cluster.point_at_master(new)
        server.start()
        cluster.held_down.discard(server)
        await server.ready()
        await cluster.replicated(_FAILOVER_TIMEOUT_S)
        return f"redis{old} to redis{new}"

    # clocks and disks

    async def _redis_clock(self, fault: PlannedFault) -> str:
        by_s = (fault.aim - 0.5) * 60
        return await self._clock_moved(self._cluster.redis_clock, by_s, fault.duration_s)

    async def _node_clock(self, fault: PlannedFault) -> str:
        by_s = (fault.aim - 0.5) * 40
        return await self._clock_moved(self._cluster.node_clock, by_s, fault.duration_s)

    async def _clock_moved(self, clock: WallClock, by_s: float, duration_s: float) -> str:
        clock.move(by_s)
        try:
            await asyncio.sleep(duration_s)
        finally:
            clock.move(0.0)
        return f"{by_s:+.1f} s"

    async def _disk_full(self, fault: PlannedFault) -> str:
        """Fill the disk of the append-only file, free it again, and wait for Redis."""
        filler, over = self._cluster.disk.folder / "filler", threading.Event()
        try:
            size = await asyncio.to_thread(fill, filler, over)
        finally:
            over.set()  # a run that is interrupted takes the disk away, and the thread would write on for ever
        await asyncio.sleep(fault.duration_s)
        filler.unlink()
        await self._cluster.redis.ready()
        return f"{size} bytes"


async def _jitter(proxy: Proxy, phase: float, duration_s: float) -> None:
    """Let a link fail once in each period of a while; `phase` spreads the links over the period."""
    deadline = time.monotonic() + duration_s
    await asyncio.sleep(phase * _JITTER_PERIOD_S)
    while time.monotonic() < deadline:
        with proxy.refusing():
            await asyncio.sleep(_JITTER_AWAY_S)
        await asyncio.sleep(_JITTER_PERIOD_S - _JITTER_AWAY_S)


def fill(path: Path, over: threading.Event) -> int:
    """Write a file until the disk is full, or until `over` is set; returns its size."""
    size = 0
    for mode, piece in (("wb", bytes(65_536)), ("ab", bytes(1))):
        with path.open(mode, buffering=0) as file, contextlib.suppress(OSError):
            while not over.is_set():
                size += file.write(piece)
    return size


def pick(things: Sequence[T], fault: PlannedFault) -> T:
    """The item that the fault's `aim` selects."""
    return things[int(fault.aim * len(things))]
