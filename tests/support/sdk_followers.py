"""SDK clients that follow channels from their beginning while clients are cut, nodes and Redis killed: what the SDK promises.

Every list of (seq, id, bytes) must equal its stream. Importers write past the hub; what is *sent* through it is judged by
`hub torture`.
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

from hub.auth.tokens import sign
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
"""An event as a client saw it, or as the stream holds it: seq, id, the exact bytes."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The length and strength of a run.

    Attributes:
        seconds: how long faults go on; then everybody may catch up.
        cut_every_s: mean time between two cuts of one client.
        kill_every_s: time between two SIGKILLs of a node (each in turn); 0 kills none.
        redis_kill_every_s: time between two SIGKILLs of Redis itself; 0 kills it never.
        settle_s: how long clients may take to reach the head at the end.
        seed: of every random choice.
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
    """One client whose list differs from its stream."""

    client: int
    channel: str
    at: int
    problem: str


@dataclass(slots=True)
class Report:
    """A run's outcome. `faults` is empty if the promise held."""

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
    """The first place where a client's list differs from the stream: missing, twice, out of order, or other bytes."""
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
    """Follows one channel from its beginning for as long as it runs.

    Attributes:
        seen: every event handed out, in order.
        cuts: how often the plug was pulled.
    """

    def __init__(self, number: int, urls: Sequence[str], token: str, channel: str, seed: int) -> None:
        self.number = number
        self.channel = channel
        self.seen: list[Seen] = []
        self.cuts = 0
        self._random = random.Random(f"{seed}:{number}")
        urls = list(urls)
        self._random.shuffle(urls)
        self._client = HubClient(urls, token, connect_timeout_s=60.0, jitter=self._random.random)
        self._grew = asyncio.Event()

    @property
    def hub_faults(self) -> tuple[int, int]:
        """Holes and repeats the hub sent, which the SDK mended: the lists hide them, so they are counted."""
        return self._client.hub_faults

    async def run(self, cut_every_s: float, calm: asyncio.Event) -> None:
        """Follow until cancelled; be cut until `calm` is set."""
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
        """Until an event with this seq, or a later one, was seen."""
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
    """Every log of a folder as one channel."""
    found = []
    for file in sorted(folder.glob("*.txt")):
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
        channel = Channel(tenant, Kind.CONVERSATION, file.name.partition(".")[0])
        events = list(parse(lines, date_in(file.name)))
        found.append((channel, list(drafts(events, channel, source_id(file.name, lines[0])))))
    return found


def made_up_sources(count: int, events_each: int, tenant: str, seed: int) -> list[Source]:
    """Talk of random length by a few people."""
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
    """Puts sources into an embedded Redis of its own while breaking everything around it.

    Args:
        sources: what is written: each channel's drafts, in order. Their command ids make a repeated append harmless.
        tell: told what goes on, for a progress display.
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
        """Do it all and compare."""
        begun = time.monotonic()
        calm = asyncio.Event()
        watch = asyncio.create_task(self._redis.supervise())  # to the end: Redis may be killed at the very last
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
        """Write everything, spread over the time; break things meanwhile; at the end leave all in peace."""
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
            node.kill()  # whatever state it is in, the last life begins now
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
    """The channel as Redis holds it: what every reader must have seen."""
    found: list[Seen] = []
    after, wire = "0", channel.wire.encode()
    while page := await _page(log, channel, after):
        found += [(entry.seq, entry.id.decode(), entry.wire(wire)) for entry in page]
        after = page[-1].id.decode()
    return found


async def _page(log: Log, channel: Channel, after: str) -> list[Entry]:
    """A page of the channel; again, should Redis be too busy with what was done to it."""
    for _ in range(_READS_MAX):
        with contextlib.suppress(LogUnavailable):
            return await log.page(channel, after, _PAGE)
    return await log.page(channel, after, _PAGE)
