"""A Redis Cluster as one process uses it: a server object for each primary, a tail for each partition, and the map between.

One command may only name keys of one slot, so every partition has a tail with connections of its own; appends and calls share
the connections to a primary. When slots move or a replica is promoted, the map is read again, and the tails of the partitions
concerned connect to their new server, where every position is checked. The other partitions are not affected.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Final

from streams.channel import Kind
from streams.envelope import Durability
from streams.errors import ConfigurationRefused, LogUnavailable, PartitionMoving, StreamsError
from streams.loops import Loop, Loops
from streams.redis.calls import Calls
from streams.redis.keys import CONFIG, Keys, Limits, Servers, slot_of
from streams.redis.locate import Locator, SlotMap
from streams.redis.scripts import Script
from streams.redis.server import Server, ServerCounts, new_epoch, without_password
from streams.redis.server_check import fix_life, fix_partitions
from streams.redis.tail import Labels, Tail
from streams.redis.wire import Argument, Reply, Wire
from streams.redis.wire_set import WireSet
from streams.sealing.seals import Seals

READ_MAP_EVERY_S: Final = 1.0
"""Interval between two reads of the map without a reason, in seconds: a slot that has moved is noticed by its first refusal."""
READ_AGAIN_S: Final = 0.1
"""Shortest interval between two reads of the map: a failover takes longer."""

_log = logging.getLogger(__name__)


class PartitionTail:
    """The tail of one partition, and its connections to the server that holds the partition now.

    Attributes:
        tail: the tail, the same for the life of the process.
        life: the identity of the partition's data.
    """

    def __init__(
        self,
        partition: int,
        keys: Keys,
        labels: Labels,
        limits: Limits,
        locate: Callable[[int], str],
        loops: Loops,
        on_away: Callable[[], None],
        seals: Seals | None = None,
    ) -> None:
        self.life = ""
        self.tail = Tail(keys, (partition,), keys.config(partition), labels, limits, seals)
        self.is_available = False
        self._life_key = keys.config(partition)
        self._slot = slot_of(keys.prefix(partition))
        self._locate = locate
        self._wires = WireSet(
            ("bell", "tail"), f"partition {partition}", self._url, self._attach, self._detach, on_away
        )
        self._loops = loops
        self._loop: Loop | None = None

    async def start(self) -> None:
        """Connect, and supervise the connections until `close`.

        Raises:
            LogUnavailable: the partition's server could not be reached.
        """
        await self._wires.connect()
        self._loop = self._loops.keep("tail", self._wires.supervise)

    def follow(self) -> None:
        """Connect to the server that holds the partition now, if it is another one."""
        with contextlib.suppress(LogUnavailable):  # nobody holds it: the wires will be refused
            if self._wires.url != self._locate(self._slot):
                self._wires.renew()

    async def close(self) -> None:
        """Close the connections."""
        if self._loop is not None:
            await self._loops.stop(self._loop)
        self._wires.close()

    async def _url(self) -> str:
        return self._locate(self._slot)

    async def _attach(self, wires: Sequence[Wire]) -> None:
        bell, read = wires
        self.life = await fix_life(_over(read), self._life_key)
        await self.tail.attach(bell, read)
        self.is_available = True

    def _detach(self) -> None:
        self.is_available = False
        self.tail.detach()


class TailsOfAll:
    """Reads batches back for the appenders of all primaries: each part by the tail of its partition."""

    def __init__(self, keys: Keys, labels: Labels, tails: Sequence[PartitionTail]) -> None:
        self._labels = labels
        self._by_tag = {keys.bell(number).partition(b"}")[0]: one.tail for number, one in enumerate(tails)}

    def begin_batch(self) -> bytes:
        """See `Labels.begin_batch`."""
        return self._labels.begin_batch()

    def read_back(self, wire: Wire, lanes: Iterable[bytes], since_s: float, on_read: Callable[[], None]) -> None:
        """Read back those lanes that are watched, with one command for each partition; `on_read` is called once."""
        parts: dict[bytes, list[bytes]] = {}
        for lane in lanes:
            parts.setdefault(lane.partition(b"}")[0], []).append(lane)
        due = len(parts)

        def one_read() -> None:
            nonlocal due
            due -= 1
            if not due:
                on_read()

        for tag, several in parts.items():
            self._by_tag[tag].read_back(wire, several, since_s, one_read)
        if not parts:
            on_read()

    def distrust(self) -> None:
        """See `Bells.distrust`."""
        for tail in self._by_tag.values():
            tail.distrust()


class SlotCalls(Calls):
    """Calls to whichever server holds a slot now. What a server refuses because it does not hold the slot is sent once more.

    Args:
        server_now: the server that holds the slot, as far as is known.
        read_map: reads the map again.
    """

    def __init__(self, server_now: Callable[[], Server], read_map: Callable[[], Awaitable[None]]) -> None:
        super().__init__(self._get)
        self._server_now = server_now
        self._read_map = read_map

    async def call(self, *args: Argument, timeout_s: float | None = None) -> Reply:
        """See `Calls.call`."""
        try:
            return await super().call(*args, timeout_s=timeout_s)
        except PartitionMoving:
            await self._read_map()
            return await super().call(*args, timeout_s=timeout_s)

    async def run(self, script: Script, keys: Sequence[bytes | str], *args: Argument) -> Reply:
        """See `Calls.run`."""
        try:
            return await super().run(script, keys, *args)
        except PartitionMoving:
            await self._read_map()
            return await super().run(script, keys, *args)

    async def _get(self) -> Wire:
        return await self._server_now().query_wire()


class ClusterServers:
    """The servers of a Redis Cluster; created by `open`.

    Attributes:
        keys: builds the names of all keys.
        servers: the primary of each slot, kept up to date.
        tails: the tail of each partition.
        calls: the calls to the server of each partition.
        past: the counts of primaries that are no longer in use.
    """

    def __init__(
        self,
        locator: Locator,
        keys: Keys,
        slots: SlotMap,
        durability: Mapping[Kind, Durability],
        limits: Limits,
        loops: Loops,
        seals: Seals | None = None,
    ) -> None:
        self.keys = keys
        labels = Labels(new_epoch())
        self._wanted = asyncio.Event()
        self.tails = tuple(
            PartitionTail(number, keys, labels, limits, self._url_of, loops, self._wanted.set, seals)
            for number in range(keys.partitions)
        )
        self.calls = tuple(self.calls_at(keys.prefix(number)) for number in range(keys.partitions))
        self._reader = TailsOfAll(keys, labels, self.tails)
        self._locator = locator
        self._map = slots
        self._durability = durability
        self._limits = limits
        self._loops = loops
        self._loop: Loop | None = None
        self.past = ServerCounts()
        self._known: dict[str, Server] = {}
        self._in_use: set[str] = set()
        self._servers: Servers[Server] | None = None
        self._config = self.calls_at(CONFIG)
        self._reading = asyncio.Lock()
        self._read_at = 0.0
        self._current_at = 0.0

    @classmethod
    async def open(
        cls,
        locator: Locator,
        partitions: int,
        durability: Mapping[Kind, Durability],
        limits: Limits,
        loops: Loops,
        seals: Seals | None = None,
    ) -> ClusterServers:
        """Connect to all primaries, check them, and fix the partitions.

        Raises:
            LogUnavailable: a primary could not be reached, or slots are not served.
            ConfigurationRefused: a primary's configuration is unsafe, or the log has another number of partitions.
        """
        slots = await locator.read_map()
        if slots.missing:
            raise LogUnavailable(f"{slots.missing} slots of the Redis Cluster are not served; see CLUSTER SLOTS")
        calls = Calls(partial(locator.open, "hub-check", slot_of(CONFIG)))
        try:
            keys = await fix_partitions(calls, partitions)
        finally:
            calls.close()
        cluster = cls(locator, keys, slots, durability, limits, loops, seals)
        try:
            await cluster._start()
        except BaseException:
            await cluster.close()
            raise
        return cluster

    async def _start(self) -> None:
        for url in dict.fromkeys(held.url for held in self._map.ranges):
            await self._use(url)
        self._servers = Servers(self.keys, [(held.first, self._known[held.url]) for held in self._map.ranges])
        ended = await asyncio.gather(*(tail.start() for tail in self.tails), return_exceptions=True)
        for failure in ended:  # looked at once all have ended: none opens a connection after `close`
            if failure is not None:
                raise failure
        self._loop = self._loops.every("cluster", self._turn, 0)

    @property
    def servers(self) -> Servers[Server]:
        """The primary of each slot; the same object for the life of the process."""
        if self._servers is None:
            raise LogUnavailable("the Redis Cluster is not connected yet")
        return self._servers

    @property
    def known(self) -> Iterable[Server]:
        """The primaries in use; `past` has the counts of those that were in use before."""
        return self._known.values()

    def life_of(self, partition: int) -> str:
        """The identity of a partition's data."""
        return self.tails[partition].life

    def reaches(self, partition: int) -> bool:
        """True while the connections to a partition's server are open."""
        return self.tails[partition].is_available and self.servers.by_partition[partition].is_available

    def calls_at(self, key: str | bytes) -> SlotCalls:
        """Calls to the server of a key, whichever that is at the time."""
        return SlotCalls(lambda: self.servers.keeping(key), self.read_map)

    async def read_map(self) -> None:
        """Read the map, and follow what has changed. Calls made at the same time share one read.

        Raises:
            LogUnavailable: no server of the Cluster answers.
        """
        now = asyncio.get_running_loop().time
        asked_at = now()
        async with self._reading:
            if self._current_at > asked_at:
                return
            await asyncio.sleep(self._read_at + READ_AGAIN_S - now())
            self._wanted.clear()
            began_at = now()
            try:
                await self._follow(await self._locator.read_map())
            finally:
                self._read_at = now()
            self._current_at = began_at

    async def close(self) -> None:
        """Close every connection."""
        if self._loop is not None:
            await self._loops.stop(self._loop)
        await asyncio.gather(*(tail.close() for tail in self.tails))
        for url in self._in_use:
            await self._known[url].close()
        self._in_use.clear()

    async def _turn(self) -> None:
        """Read the map when a server has refused keys or is lost, and otherwise once a second.

        Raises:
            LogUnavailable: no server of the Cluster answers.
            ConfigurationRefused: the log has been replaced by one with other partitions.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(READ_MAP_EVERY_S):
                await self._wanted.wait()
        await self.read_map()
        if self.servers.keeping(CONFIG).is_available:
            keys = await fix_partitions(self._config, self.keys.partitions)
            if keys.tags != self.keys.tags:
                raise ConfigurationRefused("the log was replaced by one with other hash tags; restart this process")

    async def _follow(self, found: SlotMap) -> None:
        wanted = {held.url for held in found.ranges}
        if (found.ranges == self._map.ranges and wanted == self._in_use) or not found.ranges:
            return
        for url in wanted - self._in_use:
            try:
                await self._use(url)
            except StreamsError as error:  # its slots stay with their former server until it answers
                _log.warning("the primary at %s cannot be used yet: %s", without_password(url), error)
        before, self._map = self._map, found
        former = [self.servers.keeping_slot(held.first) for held in found.ranges]
        self.servers.fill(
            [
                (held.first, self._known[held.url] if held.url in self._in_use else old)
                for held, old in zip(found.ranges, former, strict=True)
            ]
        )
        if before.ranges != found.ranges:
            told = ", ".join(f"{held.first}-{held.last} {without_password(held.url)}" for held in found.ranges)
            _log.warning("the map of the Redis Cluster has changed: %s", told)
        for tail in self.tails:
            tail.follow()
        for url in self._in_use - wanted:
            if self._known[url] not in self.servers:
                self._in_use.discard(url)
                await self._known[url].close()
                self.past.add(self._known.pop(url))

    async def _use(self, url: str) -> None:
        self._known[url] = await Server.open_at(
            url,
            self.keys,
            self._durability,
            self._reader,
            self.life_of,
            self._limits,
            self._loops,
            self._wanted.set,
            self._recheck,
        )
        self._in_use.add(url)

    def _recheck(self, server: Server) -> None:
        """Let the positions in a server's partitions be checked once it is back.

        A tail may have been back before it; what its followers then asked of the log was refused.
        """
        if self._servers is None:
            return
        for number, tail in enumerate(self.tails):
            if tail.is_available and self._servers.by_partition[number] is server:
                tail.tail.break_all()

    def _url_of(self, slot: int) -> str:
        url = self._map.url_of(slot)
        if url is None:
            raise LogUnavailable(f"no server of the Redis Cluster holds slot {slot} now")
        return url


def _over(wire: Wire) -> Calls:
    """Calls over a wire that is already open."""

    async def this() -> Wire:
        return wire

    return Calls(this)
