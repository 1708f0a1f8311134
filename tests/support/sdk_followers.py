"""SDK clients that follow channels from the beginning while connections are cut, and nodes and Redis are killed.

Every client's list of (seq, ID, bytes) must equal its stream. Events are written directly to the log; `hub torture` tests
commands sent through the hub.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import random
import secrets
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from hub.auth.signing import sign
from hub.client import Event, HubClient
from ops.children import NodeProcess
from ops.embedded_redis.server import EmbeddedRedis
from ops.importing.importer import Import
from ops.importing.irc import date_in, drafts, parse, source_id
from streams.channel import Channel, Kind
from streams.envelope import Actor, Draft, Entry
from streams.errors import LogUnavailable
from streams.json_bytes import to_json
from streams.redis.log import Log

Seen = tuple[int, str, bytes]
"""An event as a client received it, or as the stream holds it: seq, ID, exact bytes."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The parameters of a run.

    Attributes:
        seconds: duration of the faults, after which the clients may catch up.
        cut_every_s: mean time between two cuts of a client's connection.
        kill_every_s: time between two SIGKILLs of nodes, in turn; 0 kills none.
        redis_kill_every_s: time between two SIGKILLs of Redis; 0 never kills it.
        settle_s: time in which clients must reach the head at the end.
        seed: the seed of all random choices.
    """

    seconds: float = 20.0
    clients: int = 50
    nodes: int = 2
    cut_every_s: float = 1.0
    kill_every_s: float = 5.0
    redis_kill_every_s: float = 0.0
    settle_s: float = 30.0
    seed: int = 0


@dataclass(slots=True)
class Fault:
    """A client whose list differs from its stream."""

    client: int
    channel: str
    at: int
    problem: str


@dataclass(slots=True)
class Report:
    """The result of a run. `faults` is empty if every list equals its stream."""

    plan: Plan
    events_stored: int = 0
    events_checked: int = 0
    cuts: int = 0
    node_kills: int = 0
    redis_kills: int = 0
    resumes: int = 0
    seconds: float = 0.0
    faults: list[Fault] = field(default_factory=list)

    @property
    def is_whole(self) -> bool:
        """True if every client's list equals its stream, and there was something to compare."""
        return not self.faults and self.events_checked > 0

    def to_json(self) -> dict[str, Any]:
        """The report as plain data."""
        return asdict(self) | {"is_whole": self.is_whole}


def compare(client: int, channel: str, seen: list[Seen], stored: list[Seen]) -> list[Fault]:
    """Find the first place where a client's list differs from the stream: missing, repeated, out of order, or other bytes."""
    for at, (mine, true) in enumerate(zip(seen, stored, strict=False)):
        if mine == true:
            continue
        if mine[0] == true[0]:
            return [Fault(client, channel, at, f"seq {true[0]} has other bytes or another id")]
        kind = "a gap" if mine[0] > true[0] else "a duplicate or reordering"
        return [Fault(client, channel, at, f"{kind}: seq {mine[0]} where {true[0]} belongs")]
    if len(seen) != len(stored):
        return [Fault(client, channel, min(len(seen), len(stored)), f"{len(seen)} events seen, {len(stored)} stored")]
    return []


class Follower:
    """Follows one channel from its beginning.

    Attributes:
        seen: every event received, in order.
        cuts: number of times its connection was cut.
    """

    def __init__(
        self, number: int, urls: Sequence[str], token: str, channel: str, seed: int, websocket_retry_s: float = 5.0
    ) -> None:
        self.number = number
        self.channel = channel
        self.seen: list[Seen] = []
        self.cuts = 0
        self._random = random.Random(f"{seed}:{number}")
        urls = list(urls)
        self._random.shuffle(urls)
        self._client = HubClient(
            urls, token, connect_timeout_s=60.0, jitter=self._random.random, websocket_retry_s=websocket_retry_s
        )
        self._grew = asyncio.Event()

    @property
    def hub_faults(self) -> tuple[int, int]:
        """Number of gaps and of repeats that the hub sent and the SDK repaired, which the lists of events do not show."""
        return self._client.hub_faults

    @property
    def transport(self) -> str | None:
        """The client's current way to the hub."""
        return self._client.transport

    async def run(self, cut_every_s: float, calm: asyncio.Event) -> None:
        """Follow until cancelled; the connection is cut at intervals until `calm` is set."""
        async with self._client as hub:
            cutter = asyncio.create_task(self._cut(cut_every_s, calm))
            try:
                async for event in hub.subscribe(self.channel, after="0", state=False):
                    if isinstance(event, Event):
                        self.seen.append((event.seq, event.id, event.raw))
                        self._grew.set()
            finally:
                cutter.cancel()

    async def reached(self, seq: int) -> None:
        """Wait until an event with this seq or a later one was received."""
        while not self.seen or self.seen[-1][0] < seq:
            self._grew.clear()
            await self._grew.wait()

    async def _cut(self, every_s: float, calm: asyncio.Event) -> None:
        while not calm.is_set():
            await asyncio.sleep(self._random.expovariate(1 / every_s))
            if not calm.is_set():
                self._client.cut()
                self.cuts += 1


Source = tuple[Channel, list[Draft]]


def irc_sources(folder: Path, tenant: str) -> list[Source]:
    """Read every log of a folder as one channel."""
    found = []
    for file in sorted(folder.glob("*.txt")):
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
        channel = Channel(tenant, Kind.CONVERSATION, file.name.partition(".")[0])
        events = list(parse(lines, date_in(file.name)))
        found.append((channel, list(drafts(events, channel, source_id(file.name, lines[0])))))
    return found


def made_up_sources(count: int, events_each: int, tenant: str, seed: int) -> list[Source]:
    """Generate conversations of random length between a few people."""
    chance = random.Random(seed)
    return [_made_up(Channel(tenant, Kind.CONVERSATION, f"talk-{n}"), events_each, chance) for n in range(count)]


def _made_up(channel: Channel, count: int, chance: random.Random) -> Source:
    def draft(number: int) -> Draft:
        text = "é" * chance.randint(0, 200) + f" {number}"
        data = to_json({"text": text})
        return Draft(channel, "chat.message", data, Actor("user", f"p{chance.randint(1, 9)}"))

    return channel, [draft(number) for number in range(count)]


_SECRET_BYTES: Final = 24
_TOKEN_TTL_S: Final = 86_400
_PAGE: Final = 1_000
_READS_MAX: Final = 10


class Followed:
    """Writes sources into an embedded Redis while it injects faults.

    Args:
        plan: the parameters of the run.
        redis: the embedded Redis.
        sources: each channel's drafts, in order. Their command IDs make a repeated append harmless.
        tell: called with a text on each event, for a progress display.
    """

    def __init__(
        self, plan: Plan, redis: EmbeddedRedis, sources: Sequence[Source], tell: Callable[[str], None]
    ) -> None:
        self._plan = plan
        self._redis = redis
        self._sources = sources
        self._tell = tell
        secret = secrets.token_hex(_SECRET_BYTES)
        self._nodes = [NodeProcess(redis.url, secret, HUB_DATA=str(redis.data_dir)) for _ in range(plan.nodes)]
        tenant = sources[0][0].tenant
        token = sign(secret, "torture", tenant, {"conversation:*": ["read"]}, _TOKEN_TTL_S, time.time())
        urls = [node.url for node in self._nodes]
        channels = itertools.cycle(channel for channel, _ in sources)
        self._followers = [
            Follower(number, urls, token, next(channels).wire, plan.seed) for number in range(plan.clients)
        ]
        self.report = Report(plan)

    async def run(self) -> Report:
        """Carry out the run and compare the lists with the streams."""
        begun = time.monotonic()
        calm = asyncio.Event()
        # Until the end, because Redis may be killed at the very last.
        watch = asyncio.create_task(self._redis.supervise())
        try:
            await self._start_nodes()
            following = [asyncio.create_task(f.run(self._plan.cut_every_s, calm)) for f in self._followers]
            try:
                await self._torment(calm)
                await self._check(following)
            finally:
                for task in following:
                    task.cancel()
                await asyncio.gather(*following, return_exceptions=True)
        finally:
            watch.cancel()
            await asyncio.gather(watch, return_exceptions=True)
            for node in self._nodes:
                node.kill()
        self.report.cuts = sum(follower.cuts for follower in self._followers)
        self.report.seconds = round(time.monotonic() - begun, 1)
        return self.report

    async def _start_nodes(self) -> None:
        for node in self._nodes:
            node.start()
        await asyncio.gather(*(node.ready() for node in self._nodes))

    async def _torment(self, calm: asyncio.Event) -> None:
        """Write everything, spread over the run's duration, and inject faults meanwhile; at the end stop the faults."""
        writing = asyncio.create_task(self._write_all())
        breaking = [asyncio.create_task(self._kill_nodes())]
        if self._plan.redis_kill_every_s:
            breaking.append(asyncio.create_task(self._kill_redis()))
        try:
            await asyncio.gather(asyncio.sleep(self._plan.seconds), writing)
        finally:
            calm.set()
            writing.cancel()
            for task in breaking:
                task.cancel()
            await asyncio.gather(writing, *breaking, return_exceptions=True)
        for node in self._nodes:
            node.kill()  # so that the last node process starts now, whatever state the old one is in
            node.start()
        await asyncio.gather(*(node.ready() for node in self._nodes))

    async def _write_all(self) -> None:
        log = await Log.open(self._redis.url)
        try:
            pause_s = self._plan.seconds / (len(self._sources) + 1)
            jobs = [asyncio.create_task(self._write(log, s, pause_s * n)) for n, s in enumerate(self._sources)]
            await asyncio.gather(*jobs)
        finally:
            await log.close()

    async def _write(self, log: Log, source: Source, delay_s: float) -> None:
        await asyncio.sleep(delay_s)
        channel, drafts = source
        await Import(log, drafts, f"torture:{channel.path}").run()
        self.report.events_stored += len(drafts)
        self._tell(f"{self.report.events_stored} events stored")

    async def _kill_nodes(self) -> None:
        if not self._plan.kill_every_s:
            return
        for node in itertools.cycle(self._nodes):
            await asyncio.sleep(self._plan.kill_every_s)
            node.kill()
            self.report.node_kills += 1
            self._tell(f"node on port {node.port} killed")
            node.start()
            await node.ready()

    async def _kill_redis(self) -> None:
        while True:
            await asyncio.sleep(self._plan.redis_kill_every_s)
            os.kill(self._redis.pid, signal.SIGKILL)
            self.report.redis_kills += 1
            self._tell("Redis killed")

    async def _check(self, following: Sequence[asyncio.Task[None]]) -> None:
        log = await Log.open(self._redis.url)
        try:
            stored = {channel.wire: await read_all(log, channel) for channel, _ in self._sources}
        finally:
            await log.close()
        self._tell("waiting for the clients to reach the head")
        waits = [follower.reached(len(stored[follower.channel])) for follower in self._followers]
        done, late = await asyncio.wait([asyncio.ensure_future(w) for w in waits], timeout=self._plan.settle_s)
        del done
        for wait in late:
            wait.cancel()
        for follower, task in zip(self._followers, following, strict=True):
            self.report.faults += self._faults_of(follower, task, stored[follower.channel])
            self.report.events_checked += len(follower.seen)

    def _faults_of(self, follower: Follower, task: asyncio.Task[None], stored: list[Seen]) -> list[Fault]:
        if task.done() and not task.cancelled() and (error := task.exception()) is not None:
            return [Fault(follower.number, follower.channel, len(follower.seen), f"the client gave up: {error!r}")]
        holes, repeats = follower.hub_faults
        if holes or repeats:
            problem = f"the hub sent {holes} holes and {repeats} repeats"
            return [Fault(follower.number, follower.channel, len(follower.seen), problem)]
        return compare(follower.number, follower.channel, follower.seen, stored)


async def read_all(log: Log, channel: Channel) -> list[Seen]:
    """All events of a channel in Redis, which every reader must have received."""
    found: list[Seen] = []
    after, wire = "0", channel.wire.encode()
    while page := await _page(log, channel, after):
        found += [(entry.seq, entry.id.decode(), entry.wire(wire)) for entry in page]
        after = page[-1].id.decode()
    return found


async def _page(log: Log, channel: Channel, after: str) -> list[Entry]:
    """Read a page of the channel, repeating while Redis is too busy after a fault."""
    for _ in range(_READS_MAX):
        with contextlib.suppress(LogUnavailable):
            return await log.page(channel, after, _PAGE)
    return await log.page(channel, after, _PAGE)
