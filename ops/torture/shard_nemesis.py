"""Faults of a Redis Cluster: primaries killed, stopped, split off and flushed, replicas promoted, slots moved under load."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Any, Final

from ops.torture.client import ClientProcess
from ops.torture.deployment import keys_of
from ops.torture.history import Recorder, now_ms
from ops.torture.nemesis import ALL_LEVELS, ClusterNemesis, pick
from ops.torture.people import CREW, TALK
from ops.torture.proxy import REPLICATION
from ops.torture.resp import RedisRefused, Resp
from ops.torture.schedule import SHARDS, PlannedFault
from ops.torture.sharded import PRIMARIES, SETTLE_TIMEOUT_S, ShardedCluster, ShardServer, slot_of

_ERRORS: Final = (OSError, TimeoutError, RedisRefused)
_BUS: Final = b"RCmb"
"""The beginning of every message on the bus of a Cluster."""
_MOVE_AGAIN_S: Final = 3.0
_KEYS_AT_A_TIME: Final = 10


class ShardNemesis(ClusterNemesis):
    """Also injects faults into the shards of a Redis Cluster. All faults of one server hit the primary of the shard in focus.

    Args:
        places: every channel that the run writes.
    """

    def __init__(
        self,
        cluster: ShardedCluster,
        clients: list[ClientProcess],
        recorder: Recorder,
        tell: Callable[[str], None],
        places: list[tuple[str, str]],
    ) -> None:
        super().__init__(cluster, clients, recorder, tell)
        self._shards, self._places = cluster, places
        self._doings |= {
            "shard failover": self._shard_failover,
            "shard failover that loses": self._shard_failover_losing,
            "shard stopped": self._shard_stopped,
            "shard split off": self._shard_split,
            "shard flushed": self._shard_flushed,
            "slot moved": self._slot_moved,
            "replica killed": self._replica_killed,
        }

    async def _losses(self, fault: PlannedFault) -> dict[str, Any] | None:
        if fault.name in SHARDS or fault.name in {"scripts flushed", "clients killed", "configuration changed"}:
            self._shards.aim_at(int(fault.aim * PRIMARIES))
        match fault.name:
            case "shard failover that loses" | "shard stopped" | "shard split off":
                await self._shards.caught_up(*await self._shards.led(self._shards.focus))
                return {"levels": ["memory", "fsync"], "since": now_ms(), "places": await self._held()}
            case "shard flushed":
                return {"levels": ALL_LEVELS, "since": None, "places": await self._held()}
        return await super()._losses(fault)

    async def _held(self) -> list[list[str]]:
        """The channels that are not on the primary of another shard."""
        elsewhere: set[str] = set()
        for number in range(PRIMARIES):
            if number != self._shards.focus:
                primary, _ = await self._shards.led(number)
                connection = await Resp.connect(primary.child.port)
                try:
                    elsewhere |= {key.partition("}:")[2] for key in await keys_of(connection, "hub:{*}:*:*")}
                finally:
                    connection.close()
        return [[tenant, channel] for tenant, channel in self._places if f"{tenant}:{channel}" not in elsewhere]

    async def _shard_failover(self, fault: PlannedFault) -> str:
        """Hold back writes to a primary until its replica has caught up, then kill it: nothing may be lost."""
        del fault
        primary, replica = await self._shards.led(self._shards.focus)
        with primary.front.holding():
            await asyncio.sleep(0.2)
            await self._shards.caught_up(primary, replica)
            return await self._promoted(primary, replica)

    async def _shard_failover_losing(self, fault: PlannedFault) -> str:
        """Cut the replica off from its primary for a while, then kill the primary."""
        primary, replica = await self._shards.led(self._shards.focus)
        with primary.front.silencing(REPLICATION):
            await asyncio.sleep(fault.duration_s)
            return await self._promoted(primary, replica)

    async def _promoted(self, primary: ShardServer, replica: ShardServer) -> str:
        """Kill a primary, wait for its replica to be promoted, and start it again as the replica of that one."""
        self._shards.held_down.add(primary.child)
        primary.child.kill()
        primary.front.cut()
        try:
            await self._takes_over(replica, primary)
        finally:
            primary.child.start()
            self._shards.held_down.discard(primary.child)
        await self._shards.redis_ready()
        return f"{primary.front.name} to {replica.front.name}"

    async def _takes_over(self, replica: ShardServer, primary: ShardServer) -> None:
        deadline = time.monotonic() + SETTLE_TIMEOUT_S
        others = [one for one in self._shards.members if one not in self._shards.shard(self._shards.focus)]
        while not await self._is_seen_as_primary(replica, others):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{replica.front.name} was not promoted in place of {primary.front.name}")
            await asyncio.sleep(0.05)

    async def _is_seen_as_primary(self, replica: ShardServer, others: list[ShardServer]) -> bool:
        for member in others:
            with contextlib.suppress(*_ERRORS):
                rows = await member.call("CLUSTER", "SLOTS")
                return any(row[2][1] == replica.front.port for row in rows)
        return False

    async def _shard_stopped(self, fault: PlannedFault) -> str:
        """Stop a primary until its replica is promoted; when it continues, it is a primary for another moment."""
        primary, replica = await self._shards.led(self._shards.focus)
        primary.child.freeze()
        try:
            await asyncio.sleep(fault.duration_s)
        finally:
            primary.child.thaw()
        await self._shards.redis_ready()
        return f"{primary.front.name}; afterwards {'its replica' if await replica.role() == b'master' else 'it'} leads"

    async def _shard_split(self, fault: PlannedFault) -> str:
        """Split the network: on one side a primary, and by half of the faults a node and a worker; on the other all the rest."""
        primary, replica = await self._shards.led(self._shards.focus)
        with_it = (b"n0", b"w0") if fault.aim * 97 % 1 < 0.5 else ()  # noqa: PLR2004
        across = tuple(name for name in (b"n0", b"n1", b"w0", b"w1") if name not in with_it)
        with contextlib.ExitStack() as split:
            split.enter_context(primary.bus.silencing(_BUS))
            split.enter_context(primary.front.silencing(REPLICATION, *map(_login, across)))
            for other in self._shards.members:
                if other is not primary:
                    split.enter_context(other.bus.silencing(primary.name.encode()))
                    split.enter_context(other.front.silencing(*map(_login, with_it)))
            await asyncio.sleep(fault.duration_s)
        await self._shards.redis_ready()
        leads = replica if await replica.role() == b"master" else primary
        return f"{primary.front.name} with {len(with_it)} processes; afterwards {leads.front.name} leads"

    async def _shard_flushed(self, fault: PlannedFault) -> str:
        del fault
        primary, _ = await self._shards.led(self._shards.focus)
        count = await primary.call("DBSIZE")
        await primary.call("FLUSHALL")
        return f"{primary.front.name}: {count} keys"

    async def _replica_killed(self, fault: PlannedFault) -> str:
        _, replica = await self._shards.led(self._shards.focus)
        await self._down(replica.child, fault.duration_s)
        await self._shards.redis_ready()
        return replica.front.name

    async def _slot_moved(self, fault: PlannedFault) -> str:
        """Move the slot of a channel that is written to the next shard."""
        key = await self._key(pick(self._clients, fault).tenant, TALK if fault.aim * 31 % 1 < 0.5 else CREW)  # noqa: PLR2004
        if key is None:
            return "no channel"
        slot, deadline = slot_of(key), time.monotonic() + SETTLE_TIMEOUT_S
        source = await self._shards.keeper(slot)
        if source is None:
            return "nobody holds it"
        target, _ = await self._shards.led((source.number + 1) % PRIMARIES)
        while await self._shards.keeper(slot) is not target:
            if time.monotonic() > deadline:
                raise TimeoutError(f"slot {slot} was not moved to {target.front.name}")
            with contextlib.suppress(*_ERRORS):
                await self._move(slot, source, target)
        await self._shards.redis_ready()
        return f"slot {slot}: {source.front.name} to {target.front.name}"

    async def _move(self, slot: int, source: ShardServer, target: ShardServer) -> None:
        """Move a slot at once where the server can (Valkey 9), otherwise key by key, as redis-cli does."""
        try:
            await source.call("CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", slot, slot, "NODE", target.name)
        except RedisRefused as refused:
            if "nknown subcommand" not in str(refused):
                await asyncio.sleep(0.2)
                raise
        else:
            until = time.monotonic() + _MOVE_AGAIN_S
            while await self._shards.keeper(slot) is not target and time.monotonic() < until:  # noqa: ASYNC110 - it tells nobody
                await asyncio.sleep(0.05)
            return
        await target.call("CLUSTER", "SETSLOT", slot, "IMPORTING", source.name)
        await source.call("CLUSTER", "SETSLOT", slot, "MIGRATING", target.name)
        while keys := await source.call("CLUSTER", "GETKEYSINSLOT", slot, _KEYS_AT_A_TIME):
            await source.call("MIGRATE", "127.0.0.1", target.child.port, "", 0, 5_000, "KEYS", *keys)
        await target.call("CLUSTER", "SETSLOT", slot, "NODE", target.name)
        await source.call("CLUSTER", "SETSLOT", slot, "NODE", target.name)


def _login(name: bytes) -> bytes:
    """The text with which the connections of a process begin: the name of its user, as it is sent."""
    return b"$%d\r\n%b\r\n" % (len(name), name)
