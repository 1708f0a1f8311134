"""A run's processes on a Redis Cluster of three primaries and three replicas, with a proxy before every server and every bus."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from ops.torture.cluster import Cluster, offset_of
from ops.torture.proxy import Proxy
from ops.torture.resp import RedisRefused, Resp, ask
from ops.torture.servers import RedisChild, free_port

PRIMARIES: Final = 3
SLOTS: Final = 16_384
NODE_TIMEOUT_MS: Final = 1_500
SETTLE_TIMEOUT_S: Final = 40.0
_PORTS: Final = range(10_000, 20_000)
"""A server's bus listens 10,000 above its port: both below the ports that the system gives to outgoing connections."""
_PASSWORD: Final = "torture"  # noqa: S105 - of servers that live for a minute
_USERS: Final = ("n0", "n1", "w0", "w1")
_ERRORS: Final = (OSError, TimeoutError, RedisRefused)


@dataclass(slots=True, eq=False)
class ShardServer:
    """A server of the Redis Cluster.

    Args:
        name: its name in the Cluster, with which its bus messages begin.
        front: the proxy that it announces to clients and replicas.
        bus: the proxy that it announces to the other servers.
    """

    number: int
    name: str
    child: RedisChild
    front: Proxy
    bus: Proxy

    async def role(self) -> bytes:
        """`master` or `slave`; nothing if it does not answer."""
        try:
            found = await ask(self.child.port, "ROLE", timeout_s=2)
        except _ERRORS:
            return b""
        return bytes(found[0])

    async def call(self, *words: str | bytes | int) -> Any:
        """Run one command on it, past its proxy."""
        return await ask(self.child.port, *words)


@dataclass(slots=True)
class ShardedCluster(Cluster):
    """The processes of one run on a Redis Cluster; a shard is a primary and its replica.

    Every process logs in with its own name, by which the proxies tell the connections apart.

    Attributes:
        focus: the shard whose primary is hit by faults of one server.
    """

    members: list[ShardServer] = field(default_factory=list)
    jobs: list[RedisChild] = field(default_factory=list)
    focus: int = 0

    @property
    def redis(self) -> RedisChild:
        """The server of the jobs, which no fault ends."""
        return self.jobs[0]

    @property
    def redis_proxies(self) -> list[Proxy]:
        """The proxies of nodes and workers to Redis: those before the servers, which all of them share."""
        return self.fronts

    @property
    def redis_children(self) -> list[RedisChild]:
        """All servers."""
        return [*self.servers, *self.jobs]

    async def way_to_redis(self, name: str) -> tuple[Sequence[Proxy], dict[str, str]]:
        """The proxies between the process of this name and Redis, and the settings that lead it to them."""
        hosts = ",".join(f"127.0.0.1:{front.port}" for front in self.fronts)
        return self.fronts, {
            "REDIS_URL": f"redis+cluster://{name}:{_PASSWORD}@{hosts}",
            "HUB_JOBS_REDIS_URL": f"redis://127.0.0.1:{self.jobs[0].port}/0",
        }

    def why_not(self, fault: str) -> str:
        """The reason why a kind of fault is impossible here; "" if it is possible."""
        return Cluster.why_not(self, fault)

    async def start_redis(self, env: dict[str, str]) -> None:
        """Start the servers with the map already written, and the server of the jobs."""
        place = self.disk.folder if self.disk.mounted else self.folder
        for number in range(2 * PRIMARIES):
            await self._add_member(number, place, env)
        for member in self.members:
            self._write_map(member)
            member.child.start()
        self.jobs.append(RedisChild(self.binary, place / "jobs"))
        self.jobs[0].start()
        await self.redis_ready()

    async def _add_member(self, number: int, place: Path, env: dict[str, str]) -> None:
        front, bus = Proxy(f"redis{number}", 0), Proxy(f"bus{number}", 0)
        await front.start()
        await bus.start()
        port = free_port(_PORTS)
        lines = (
            "cluster-enabled yes",
            "cluster-config-file nodes.conf",
            f"cluster-node-timeout {NODE_TIMEOUT_MS}",
            "cluster-require-full-coverage no",
            "cluster-migration-barrier 10",
            "cluster-replica-validity-factor 0",
            "cluster-announce-ip 127.0.0.1",
            f"cluster-announce-port {front.port}",
            f"cluster-announce-bus-port {bus.port}",
            *(f"user {name} on >{_PASSWORD} ~* &* +@all" for name in _USERS),
        )
        child = RedisChild(self.binary, place / f"redis{number}", *lines, env=env, port=port)
        front.point_at(port)
        bus.point_at(port + 10_000)
        self.servers.append(child)
        self.fronts.append(front)
        self.members.append(ShardServer(number, secrets.token_hex(20), child, front, bus))

    def _write_map(self, own: ShardServer) -> None:
        lines = []
        for one in self.members:
            shard = one.number % PRIMARIES
            leads = one.number < PRIMARIES
            role = "master -" if leads else f"slave {self.members[shard].name}"
            first, last = shard * SLOTS // PRIMARIES, (shard + 1) * SLOTS // PRIMARIES - 1
            flags, slots = "myself," if one is own else "", f" {first}-{last}" if leads else ""
            lines.append(
                f"{one.name} 127.0.0.1:{one.front.port}@{one.bus.port} {flags}{role} 0 0 {shard + 1} connected{slots}"
            )
        lines.append(f"vars currentEpoch {PRIMARIES} lastVoteEpoch 0")
        (own.child.folder / "nodes.conf").write_text("\n".join(lines) + "\n")

    async def redis_ready(self) -> None:
        """Wait until every server answers, every slot is served, and every replica follows its primary.

        Raises:
            TimeoutError: the Cluster does not become whole; the text has what its servers say.
        """
        deadline = time.monotonic() + SETTLE_TIMEOUT_S
        await self.jobs[0].ready()
        while not all([await self._is_settled(member) for member in self.members]):
            if time.monotonic() > deadline:
                told = [await self._told(member) for member in self.members]
                raise TimeoutError(f"the Redis Cluster does not become whole: {told}")
            await asyncio.sleep(0.05)

    async def _is_settled(self, member: ShardServer) -> bool:
        try:
            info = (await member.call("CLUSTER", "INFO")).decode()
            if "cluster_state:ok" not in info or f"cluster_slots_ok:{SLOTS}" not in info:
                return False
            return await member.role() == b"master" or await offset_of(member.child.port, is_replica=True) is not None
        except _ERRORS:
            return False

    async def _told(self, member: ShardServer) -> str:
        try:
            return f"{(await member.call('CLUSTER', 'NODES')).decode()} {await member.call('ROLE')}"
        except _ERRORS as error:
            return repr(error)

    def aim_at(self, shard: int) -> None:
        """Let the faults of one server hit the primary of this shard from now on."""
        self.focus = shard

    def shard(self, number: int) -> tuple[ShardServer, ShardServer]:
        """The two servers of a shard."""
        return self.members[number], self.members[number + PRIMARIES]

    async def led(self, number: int) -> tuple[ShardServer, ShardServer]:
        """The primary and the replica of a shard, as they are now.

        Raises:
            TimeoutError: the shard does not come to have both.
        """
        one, other = self.shard(number)
        deadline = time.monotonic() + SETTLE_TIMEOUT_S
        while time.monotonic() < deadline:
            roles = await one.role(), await other.role()
            if roles == (b"master", b"slave"):
                return one, other
            if roles == (b"slave", b"master"):
                return other, one
            await asyncio.sleep(0.05)
        raise TimeoutError(f"shard {number} has no primary with a replica")

    async def caught_up(self, primary: ShardServer, replica: ShardServer) -> None:
        """Wait until the replica has all earlier writes.

        Raises:
            TimeoutError: the replica does not catch up.
        """
        deadline = time.monotonic() + SETTLE_TIMEOUT_S
        while time.monotonic() < deadline:
            with contextlib.suppress(*_ERRORS):
                before = await offset_of(primary.child.port)
                behind = await offset_of(replica.child.port, is_replica=True)
                if before is not None and behind is not None and behind >= before:
                    return
            await asyncio.sleep(0.05)
        raise TimeoutError(f"{replica.front.name} does not follow {primary.front.name}")

    async def keeper(self, slot: int, *, unlike: ShardServer | None = None) -> ShardServer | None:
        """The server that serves a slot, as any living primary but `unlike` says."""
        for member in self.members:
            if member is unlike or await member.role() != b"master":
                continue
            with contextlib.suppress(*_ERRORS):
                for first, last, (_host, port, *_), *_replicas in await member.call("CLUSTER", "SLOTS"):
                    if first <= slot <= last:
                        return next((one for one in self.members if one.front.port == port), None)
        return None

    async def redis_connection(self, key: str = "") -> Resp:
        """Connect to the server that holds a key, or to the primary in focus.

        Raises:
            OSError: nobody holds it now.
        """
        holder = await self.keeper(slot_of(key)) if key else (await self.led(self.focus))[0]
        if holder is None:
            raise OSError(f"no server holds {key}")
        return await Resp.connect(holder.child.port)

    async def redis_connections(self) -> list[Resp]:
        """Connect to every primary."""
        return [await Resp.connect((await self.led(number))[0].child.port) for number in range(PRIMARIES)]

    async def stop(self) -> None:
        """Stop everything, whatever state it is in."""
        await Cluster.stop(self)
        await asyncio.gather(*(member.bus.close() for member in self.members))


def slot_of(key: str) -> int:
    """The slot of a key, by the text in its first braces: CRC-16 as the Cluster's specification has it, bit by bit."""
    _, opening, rest = key.partition("{")
    tag = rest.partition("}")[0]
    crc = 0
    for byte in (tag if opening and tag else key).encode():
        crc ^= byte << 8
        for _ in range(8):
            crc = (crc << 1) ^ 0x1021 if crc & 0x8000 else crc << 1
        crc &= 0xFFFF
    return crc % SLOTS
