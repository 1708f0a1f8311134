"""The worker: handlers, jobs and reaper on one log. This module creates and connects the parts."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from consumers.agents.loading import ServedAgent
from consumers.faults import NO_FAULTS, Faults
from consumers.groups.delivery import Delivery
from consumers.groups.handler import EventHandler, RetryPolicy
from consumers.groups.partitions import LIFE_MS, Partitions
from consumers.groups.reader import BLOCK_MS, GroupReader
from consumers.handlers.runs import AgentReactions, ChatReactions, ToolReactions
from consumers.handlers.settings import SettingsReactions
from consumers.handlers.teams import TeamReactions
from consumers.jobs import ArqJobs, JobTaker, LocalJobs, arq_pool, check_jobs_place
from consumers.metrics import WorkerMetrics
from consumers.runs.flow import Flow
from consumers.runs.held_runs import HeldRuns
from consumers.runs.lease_renewal import LeaseRenewal
from consumers.runs.parts import WorkerParts
from consumers.runs.reaper import JOB_PATIENCE_MS, LOOK_AGAIN_MS, Reaper
from consumers.runs.run_log import DeltaWriter
from consumers.runs.segment import SegmentRunner, Taken
from consumers.tasks import end_tasks
from streams.archive.keeper import Keeper
from streams.channel import Channel, Kind
from streams.cursor import ms_of_id
from streams.envelope import Durability
from streams.errors import LogUnavailable
from streams.events.custom import ANY_OWN, OwnEvents
from streams.histogram import Histogram
from streams.loops import Loop
from streams.records.agents import NOTICE_MS, AgentDirectory, AgentNotice
from streams.records.leases import Leases
from streams.records.run_slots import RunSlots
from streams.records.run_store import RunStore
from streams.records.runs import RunView
from streams.redis.groups import Groups
from streams.redis.log import Log
from streams.redis.partition_calls import PartitionCalls
from streams.tracing import Tracing

if TYPE_CHECKING:
    from streams.archive.stamper import Stamper

UPKEEP_EVERY_S: Final = 2.0
_log = logging.getLogger(__name__)


class Upkeep:
    """Housekeeping in a worker's partitions: trimming, counting backlogs, finding lost work."""

    def __init__(
        self,
        groups: Groups,
        readers: Sequence[GroupReader],
        partitions: Callable[[], Iterable[int]],
        metrics: WorkerMetrics,
    ) -> None:
        self._groups, self._readers, self._partitions, self._metrics = groups, readers, partitions, metrics

    async def turn(self) -> None:
        """Trim the work streams, count the backlogs and look for lost work, once."""
        partitions, failure, parked = list(self._partitions()), None, 0
        for partition in partitions:
            try:
                parked += await self._groups.parked_count(partition)
                await self._groups.trim(partition)
            except LogUnavailable as error:  # the partitions on other servers are kept up
                failure = error
        self._metrics.parked = parked
        for reader in self._readers:
            try:
                await reader.find_orphans()
            except LogUnavailable as error:
                failure = error
        if failure is not None:
            raise failure
        for name in dict.fromkeys(reader.name for reader in self._readers):
            await self._count(name, partitions)

    async def _count(self, name: str, partitions: Iterable[int]) -> None:
        total, oldest_ms = 0, None
        for partition in partitions:
            found = await self._groups.backlog(partition, name)
            total += found.unread + found.pending
            if found.oldest is not None:
                at_ms = ms_of_id(found.oldest)
                oldest_ms = at_ms if oldest_ms is None else min(oldest_ms, at_ms)
        self._metrics.backlog[name] = total
        self._metrics.oldest_s[name] = 0.0 if oldest_ms is None else max(0.0, time.time() - oldest_ms / 1000)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerOptions:
    """The options of a worker.

    Attributes:
        handlers: further handlers, such as the one that ends uploads.
        own_events: the event types beside the catalogue.
        uploads: the times that uploads took, counted by the handler that ends them.
        tracing: records traces; None where that is off.
        keeper: keeps the archive while this worker holds the first partition; None without an archive.
        stamper: has its checkpoints stamped meanwhile; None without a time-stamping authority.
        segments_max: maximum number of concurrent segments; further jobs stay in the queue for other workers.
        drain_s: time in which segments may finish at shutdown before they are handed over, in seconds.
        stall_max_s: time for which an agent may block the worker before its runs are left to other workers, in seconds.
        lease_ms: lifetime of a run's lease. `partition_life_ms` is the lifetime of a partition's lease. Tests shorten both.
    """

    redis_url: str
    jobs_redis_url: str | None = None
    agents: Mapping[str, ServedAgent] = field(default_factory=dict)
    partitions: int = 8
    durability: Mapping[Kind, Durability] | None = None
    handlers: tuple[EventHandler, ...] = ()
    own_events: OwnEvents = ANY_OWN
    uploads: Histogram | None = None
    tracing: Tracing | None = None
    keeper: Keeper | None = None
    stamper: Stamper | None = None
    segments_max: int = 500
    drain_s: float = 10.0
    stall_max_s: float = 60.0
    lease_ms: int = 15_000
    partition_life_ms: int = LIFE_MS
    look_again_ms: int = LOOK_AGAIN_MS
    job_patience_ms: int = JOB_PATIENCE_MS
    block_ms: int = BLOCK_MS
    grace_s: float = 5.0
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    faults: Faults = NO_FAULTS


class Worker:
    """One worker. `start` starts its parts; `stop` hands over its runs and ends the parts."""

    def __init__(self, options: WorkerOptions, log: Log) -> None:
        self.name = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
        self.metrics = WorkerMetrics(options.uploads, options.keeper, options.stamper)
        self.log = log
        self._options = options
        self._own_calls: list[PartitionCalls] = []
        self.groups = Groups(log)
        self.store = RunStore(log)
        self._directory = AgentDirectory(log)
        self._pool = pool = arq_pool(log, options.jobs_redis_url)
        self.jobs = LocalJobs(ArqJobs(pool), self._take_here)
        leases = Leases(log, self.name)
        self.parts = WorkerParts(
            self.name,
            log,
            self.store,
            RunSlots(log),
            leases,
            self.jobs,
            DeltaWriter(log),
            options.agents,
            self.metrics,
            options.faults,
            log.now_ms,
            options.lease_ms,
            options.grace_s,
            options.tracing,
        )
        self.held_runs = HeldRuns(self.parts)
        self._renewal = LeaseRenewal(self.parts, self.held_runs, options.stall_max_s)
        self.runner = SegmentRunner(self.parts, self.held_runs)
        self.reaper = Reaper(self.parts, options.look_again_ms / 3000, options.look_again_ms, options.job_patience_ms)
        self.readers = [reader for handler in self._handlers() for reader in self._subscribe(handler)]
        self.partitions = Partitions(
            leases, log.keys.partitions, [*self.readers, self.reaper], options.partition_life_ms
        )
        self._segments: set[asyncio.Task[Any]] = set()
        self._loops: list[Loop] = []
        self._archive: tuple[Loop, ...] = ()
        self._announced: list[str] = []
        self._may_take = True
        self._takers = [JobTaker(pool, agent, len(options.agents), self._begin) for agent in options.agents]

    def _handlers(self) -> list[EventHandler]:
        flow = Flow(self.parts)
        of_runs = ChatReactions(flow), AgentReactions(flow), ToolReactions(flow)
        return [*of_runs, SettingsReactions(self.log), TeamReactions(self.log), *self._options.handlers]

    def _subscribe(self, handler: EventHandler) -> Iterator[GroupReader]:
        """One reader, or in a Cluster one for each partition, each with a connection of its own: it blocks."""
        options = self._options
        delivery = Delivery(
            self.log,
            self.groups,
            handler,
            options.retry,
            options.faults,
            self.metrics,
            options.own_events,
            options.tracing,
        )
        own = self.log.own_partition_calls(f"work-{handler.name}")
        self._own_calls.append(own)
        for partitions, calls in own.by_connection():
            yield GroupReader(delivery, self.groups, calls, self.name, options.block_ms, scope=partitions)

    async def start(self) -> None:
        """Start everything. Returns when this worker has its first partitions and has announced its agents."""
        notices = [AgentNotice(a.name, a.description, a.is_interactive) for a in self._options.agents.values()]
        await self._create_groups()
        await self._directory.announce(self.name, notices)
        upkeep = Upkeep(self.groups, self.readers, lambda: self.partitions.held, self.metrics)
        loops = self.log.loops
        announce, again_s = partial(self._directory.announce, self.name, notices), NOTICE_MS / 3000
        self._loops = [
            loops.every("partitions", self.partitions.turn, self.partitions.every_s, first_after_s=0),
            *(loops.keep(f"group_{reader.name}", reader.run) for reader in self.readers),
            loops.every("reaper", self.reaper.turn, self.reaper.every_s),
            loops.every("run_flags", self.held_runs.poll, 0),
            loops.keep("run_hints", self.held_runs.hear),
            loops.every("upkeep", upkeep.turn, UPKEEP_EVERY_S),
            loops.every("announce", announce, again_s),
            *(loops.keep("jobs", taker.run) for taker in self._takers),
        ]
        if (keeper := self._options.keeper) is not None:
            self._archive = (loops.keep("archive", partial(keeper.run, self._keeps_archive)),)
            if (stamper := self._options.stamper) is not None:
                self._archive = (*self._archive, loops.keep("stamps", partial(stamper.run, self._keeps_archive)))
        self._renewal.start()
        self._announced = [notice.name for notice in notices]
        await self.partitions.settled.wait()

    def _keeps_archive(self) -> bool:
        """True while the archive is this worker's."""
        return 0 in self.partitions.held

    async def _create_groups(self) -> None:
        """Create every handler's group in all partitions, before any agent is announced.

        A new group starts with later events only. If it were created with the first lease of its partition, it would miss the
        events between the announcement and that lease.
        """
        partitions = range(self.log.keys.partitions)
        names = dict.fromkeys(reader.name for reader in self.readers)
        await asyncio.gather(*(self.groups.ensure(at, name) for at in partitions for name in names))

    async def stop(self) -> None:
        """Take no more segments, let the running ones finish for a while, hand over the rest, and release the partitions."""
        self.allow_jobs(is_allowed=False)
        await self.log.loops.stop(*self._archive)  # before another worker, who gets the partition, begins with it
        await self.partitions.close()
        await self.held_runs.drain(self._options.drain_s)
        if self._segments:
            await asyncio.wait(self._segments, timeout=10.0)
        with contextlib.suppress(LogUnavailable):
            await self._directory.withdraw(self.name, self._announced)
        await self.abandon()

    async def abandon(self) -> None:
        """End at once without handing over or releasing anything, as if the process had been killed."""
        await self._renewal.stop()
        await self.log.loops.stop(*self._loops, *self._archive)
        await end_tasks([*self._segments, *(task for taker in self._takers for task in taker.tasks)])
        for calls in self._own_calls:
            calls.close()
        if self._options.jobs_redis_url is not None:
            await self._pool.aclose(close_connection_pool=True)

    def troubles(self) -> list[str]:
        """A sentence for each part that does not work."""
        away = [] if self.log.is_available else ["Redis is unreachable"]
        return [*away, *self.log.loops.troubles()]

    async def _take_here(self, channel: Channel, run: RunView) -> bool:
        """Take a segment without a job.

        False if this worker does not serve the agent, has no room or is about to stop.
        """
        if run.agent not in self._options.agents or not self._has_room:
            return False
        await self._begin(channel, run.run_id, run.segment, run.attempt)
        return True

    async def _begin(self, channel: Channel, run_id: str, segment: int, attempt: int) -> None:
        """Take a segment and run it as a task, which continues if the caller is cancelled."""
        taking = asyncio.create_task(self.runner.take(channel, run_id, segment, attempt), name=f"take {run_id}")
        self._segments.add(taking)
        taking.add_done_callback(self._taken)
        await asyncio.shield(taking)

    def _taken(self, taking: asyncio.Task[Taken | None]) -> None:
        self._segments.discard(taking)
        if taking.cancelled() or taking.exception() is not None or (taken := taking.result()) is None:
            return
        task = asyncio.create_task(self.runner.execute(taken), name=f"segment {taken.held.run_id}")
        self._segments.add(task)
        task.add_done_callback(self._segment_over)
        self._update_takers()

    def _segment_over(self, task: asyncio.Task[None]) -> None:
        self._segments.discard(task)
        _report(task)
        self._update_takers()

    def _update_takers(self) -> None:
        for taker in self._takers:
            taker.allow(is_allowed=self._has_room)

    @property
    def _has_room(self) -> bool:
        return self._may_take and len(self._segments) < self._options.segments_max

    def allow_jobs(self, *, is_allowed: bool) -> None:
        """Allow taking jobs while there is room, or leave all jobs to other workers."""
        self._may_take = is_allowed
        self._update_takers()


def _report(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.error("%s ended: %s", task.get_name(), error, exc_info=error)


@asynccontextmanager
async def running(options: WorkerOptions, log: Log | None = None) -> AsyncIterator[Worker]:
    """Run a worker for the duration of the block, on its own log or a given one; `hub dev` and tests use it."""
    check_jobs_place(options.redis_url, options.jobs_redis_url)
    own = log or await Log.open(options.redis_url, partitions=options.partitions, durability=options.durability)
    worker = Worker(options, own)
    try:
        await worker.start()
        yield worker
    finally:
        await worker.stop()
        if log is None:
            await own.close()


async def run(options: WorkerOptions, stop: asyncio.Event, ready: asyncio.Event | None = None) -> None:
    """Run a worker until `stop` is set. `ready` is set when it has started."""
    async with running(options):
        if ready is not None:
            ready.set()
        await stop.wait()
