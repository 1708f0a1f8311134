"""The worker: handlers, jobs and reaper over one log, put together."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import socket
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from consumers.agents.loading import ServedAgent
from consumers.faults import NO_FAULTS, Faults
from consumers.groups.delivery import Delivery
from consumers.groups.handler import EventHandler, RetryPolicy
from consumers.groups.partitions import LIFE_MS, Partitions
from consumers.groups.reader import BLOCK_MS, GroupReader
from consumers.handlers.agents import AgentReactions
from consumers.handlers.chat import ChatReactions
from consumers.handlers.settings import SettingsReactions
from consumers.handlers.teams import TeamReactions
from consumers.handlers.tools import ToolReactions
from consumers.jobs import ArqJobs, JobTaker, LocalJobs, arq_pool
from consumers.metrics import WorkerMetrics
from consumers.runs.flow import Flow
from consumers.runs.held_runs import HeldRuns
from consumers.runs.parts import WorkerParts
from consumers.runs.reaper import JOB_PATIENCE_MS, LOOK_AGAIN_MS, Reaper
from consumers.runs.run_log import DeltaWriter
from consumers.runs.segment import SegmentRunner, Taken
from consumers.tasks import end_tasks
from consumers.upkeep import Upkeep, announce_always
from streams.channel import Channel, Kind
from streams.envelope import Durability
from streams.records.agents import AgentDirectory, AgentNotice
from streams.records.leases import Leases
from streams.records.run_store import RunStore
from streams.records.runs import RunView
from streams.redis.calls import Calls
from streams.redis.groups import Groups
from streams.redis.log import Log

AGAIN_S: Final = 1.0
"""Before a part of the worker that failed begins again."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerOptions:
    """What a worker runs with.

    Attributes:
        handlers: further handlers, such as those of files.
        segments_max: segments at once; further jobs stay in the queue for other workers.
        drain_s: how long segments may finish at the end before they are handed over.
        lease_ms: life of a run's lease. `partition_life_ms`: of a partition's. Tests shorten them.
    """

    redis_url: str
    agents: Mapping[str, ServedAgent] = field(default_factory=dict)
    partitions: int = 8
    durability: Mapping[Kind, Durability] | None = None
    handlers: tuple[EventHandler, ...] = ()
    segments_max: int = 500
    drain_s: float = 10.0
    lease_ms: int = 15_000
    partition_life_ms: int = LIFE_MS
    look_again_ms: int = LOOK_AGAIN_MS
    job_patience_ms: int = JOB_PATIENCE_MS
    block_ms: int = BLOCK_MS
    grace_s: float = 5.0
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    faults: Faults = NO_FAULTS


class Worker:
    """One consumer process's parts, put together. `open` starts them; they end in the reverse order."""

    def __init__(self, options: WorkerOptions, log: Log) -> None:
        self.name = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
        self.metrics = WorkerMetrics()
        self.log = log
        self._options = options
        self._own_calls: list[Calls] = []
        self.groups = Groups(log)
        self.store = RunStore(log)
        self._directory = AgentDirectory(log)
        pool = arq_pool(log)
        self.jobs = LocalJobs(ArqJobs(pool), self._take_here)
        leases = Leases(log, self.name)
        self.parts = WorkerParts(
            self.name, log, self.store, leases, self.jobs, DeltaWriter(log), options.agents, self.metrics, options.faults,
            _now_ms, options.lease_ms, options.grace_s,
        )  # fmt: skip
        self.held_runs = HeldRuns(self.parts)
        self.runner = SegmentRunner(self.parts, self.held_runs)
        self.reaper = Reaper(self.parts, options.look_again_ms / 3000, options.look_again_ms, options.job_patience_ms)
        self.readers = [self._subscribe(handler) for handler in self._handlers()]
        self.partitions = Partitions(
            leases, log.keys.partitions, [*self.readers, self.reaper], options.partition_life_ms
        )
        self._segments: set[asyncio.Task[Any]] = set()
        self._tasks: list[asyncio.Task[None]] = []
        self._may_take = True
        self._takers = [JobTaker(pool, agent, len(options.agents), self._begin) for agent in options.agents]

    def _handlers(self) -> list[EventHandler]:
        flow = Flow(self.parts)
        of_runs = ChatReactions(flow), AgentReactions(flow), ToolReactions(flow)
        return [*of_runs, SettingsReactions(self.log), TeamReactions(), *self._options.handlers]

    def _subscribe(self, handler: EventHandler) -> GroupReader:
        options = self._options
        calls = self.log.own_calls(f"work-{handler.name}")
        self._own_calls.append(calls)
        delivery = Delivery(self.log, self.groups, handler, options.retry, options.faults, self.metrics, self.name)
        return GroupReader(delivery, self.groups, calls, options.block_ms)

    async def start(self) -> None:
        """Start everything. Returns when this worker has its first partitions and says which agents it serves."""
        notices = [AgentNotice(a.name, a.description, a.is_interactive) for a in self._options.agents.values()]
        await self._found_groups()
        await self._directory.announce(self.name, notices)
        upkeep = Upkeep(self.groups, self.readers, lambda: self.partitions.held, self.metrics)
        self._start("partitions", self.partitions.run)
        for reader in self.readers:
            self._start(f"group-{reader.name}", reader.run)
        self._start("reaper", self.reaper.run)
        self._start("held-runs", self.held_runs.run)
        self._start("upkeep", upkeep.run)
        self._start("announce", partial(announce_always, self._directory, self.name, notices))
        for taker in self._takers:
            self._start("jobs", taker.run)
        await self.partitions.settled.wait()

    async def _found_groups(self) -> None:
        """Every handler's group, in all partitions, before anybody is told that an agent is served.

        A new group begins with what comes after it: made only with the first lease of its partition, it would miss what was
        asked for since.
        """
        partitions = range(self.log.keys.partitions)
        await asyncio.gather(*(self.groups.ensure(at, one.name) for at in partitions for one in self.readers))

    async def stop(self) -> None:
        """Take no more, let segments finish for a while, hand over the rest, give up the partitions."""
        self.allow_jobs(is_allowed=False)
        await self.partitions.close()
        await self.held_runs.drain(self._options.drain_s)
        if self._segments:
            await asyncio.wait(self._segments, timeout=10.0)
        await self.abandon()

    async def abandon(self) -> None:
        """Be gone at once: nothing is handed over or given up, as if the process had been killed."""
        await end_tasks([*self._tasks, *self._segments, *(task for taker in self._takers for task in taker.tasks)])
        for calls in self._own_calls:
            calls.close()

    def _start(self, name: str, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        task = asyncio.create_task(_always(name, work), name=f"worker-{name}")
        task.add_done_callback(_report)
        self._tasks.append(task)

    async def _take_here(self, channel: Channel, run: RunView) -> bool:
        """Take a segment without a job. False when it is for others: not our agent, no room, about to stop."""
        if run.agent not in self._options.agents or not self._has_room:
            return False
        await self._begin(channel, run.run_id, run.segment, run.attempt)
        return True

    async def _begin(self, channel: Channel, run_id: str, segment: int, attempt: int) -> None:
        """Take a segment, and let it go on by itself, also when whoever waits here is cancelled."""
        taking = asyncio.create_task(self.runner.take(channel, run_id, segment, attempt), name=f"take {run_id}")
        self._segments.add(taking)
        taking.add_done_callback(self._taken)
        await asyncio.shield(taking)

    def _taken(self, taking: asyncio.Task[Taken | None]) -> None:
        self._segments.discard(taking)
        if taking.cancelled() or taking.exception() is not None or (taken := taking.result()) is None:
            return
        task = asyncio.create_task(self.runner.perform(taken), name=f"segment {taken.kept.run_id}")
        self._segments.add(task)
        task.add_done_callback(self._segment_over)
        self._gate()

    def _segment_over(self, task: asyncio.Task[None]) -> None:
        self._segments.discard(task)
        _report(task)
        self._gate()

    def _gate(self) -> None:
        for taker in self._takers:
            taker.allow(is_allowed=self._has_room)

    @property
    def _has_room(self) -> bool:
        return self._may_take and len(self._segments) < self._options.segments_max

    def allow_jobs(self, *, is_allowed: bool) -> None:
        """Take jobs while there is room, or leave them all to other workers."""
        self._may_take = is_allowed
        self._gate()


async def _always(name: str, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Keep a part going: what it did not foresee is logged, and it begins again. Its state is in its object."""
    while True:
        try:
            await work()
        except Exception:
            _log.exception("%s failed; it begins again", name)
        await asyncio.sleep(AGAIN_S)


def _report(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.error("%s ended: %s", task.get_name(), error, exc_info=error)


def _now_ms() -> int:
    return int(time.time() * 1000)


@asynccontextmanager
async def running(options: WorkerOptions, log: Log | None = None) -> AsyncIterator[Worker]:
    """A worker that runs inside the block, on its own log or a given one; `hub dev` and tests use it."""
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
    """A worker until `stop` is set: what `hub worker` does. `ready` is set when it works."""
    async with running(options):
        if ready is not None:
            ready.set()
        await stop.wait()


run_embedded = run
"""The same beside a node in one process: what `hub dev` does."""
