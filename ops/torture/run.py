"""One torture run: importers write, followers are cut, nodes and Redis are killed; then every list must equal its stream."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import secrets
import signal
import time
from collections.abc import Callable, Sequence
from typing import Final

from hub.auth.tokens import sign
from ops.embedded_redis.server import EmbeddedRedis
from ops.importing.importer import Import
from ops.torture.cluster import NodeProcess
from ops.torture.follower import Follower
from ops.torture.plan import Fault, Plan, Report, Seen, compare
from streams.channel import Channel
from streams.envelope import Draft, Entry
from streams.errors import LogUnavailable
from streams.redis.log import Log

Source = tuple[Channel, list[Draft]]
_SECRET_BYTES: Final = 24
_TOKEN_TTL_S: Final = 86_400
_PAGE: Final = 1_000
_READS_MAX: Final = 10


class Torture:
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
