"""The queue of segments over arq. The only module that imports arq.

An arq job only *takes* a segment: once the run's hash names this worker, the job is done, and the segment continues as a task
of the worker. arq polls every unfinished job again and again (three round trips each, 20 times a second), and its
retries know nothing of a run's attempts; see ops/decisions/0007-arq.md.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final

from arq.connections import ArqRedis
from arq.constants import in_progress_key_prefix, job_key_prefix, retry_key_prefix
from arq.worker import Worker as ArqWorker
from arq.worker import func

from consumers.runs.parts import Jobs
from streams.channel import Channel, channel_from_path
from streams.errors import LogUnavailable
from streams.records.runs import RunView
from streams.redis.calls import in_our_errors
from streams.redis.keys import JOBS
from streams.redis.log import Log

JOB: Final = "take_segment"
POLL_S: Final = 0.05
"""Between polls for jobs of an agent: half of it is the mean delay of the first token."""
POLLS_PER_S: Final = 100
"""Polls per second, of all agents together: with more than five agents each is polled less often."""
TAKE_TIMEOUT_S: Final = 30
_log = logging.getLogger(__name__)


def dump_job(value: dict[str, Any]) -> bytes:
    """A job as JSON, never pickle, here and in every pool."""
    return json.dumps(value).encode()


def load_job(data: bytes) -> dict[str, Any]:
    """The reverse of `dump_job`."""
    value: dict[str, Any] = json.loads(data)
    return value


def job_id(channel: Channel, run: RunView) -> str:
    """`<channel path>:<run>:<segment>:<attempt>`; run ids are unique in their channel."""
    return f"{channel.path}:{run.run_id}:{run.segment}:{run.attempt}"


def queue_of(agent: str) -> str:
    """The agent's queue: one each, so that no worker takes a job it does not serve."""
    return f"{JOBS}:{agent}"


def arq_pool(log: Log) -> ArqRedis:
    """Arq's client, over the connections of the log's general client."""
    return ArqRedis(
        log.redis.connection_pool, job_serializer=dump_job, job_deserializer=load_job, default_queue_name=JOBS
    )


class ArqJobs:
    """Implements `Jobs` over arq."""

    def __init__(self, pool: ArqRedis) -> None:
        self._pool = pool

    async def put(self, channel: Channel, run: RunView, *, again: str = "") -> None:
        """See `Jobs.put`. arq answers None when the job is there already, which is what was wanted."""
        name = job_id(channel, run) + again
        with in_our_errors():
            await self._pool.enqueue_job(
                JOB, channel.path, run.run_id, run.segment, run.attempt, _job_id=name, _queue_name=queue_of(run.agent)
            )

    async def drop(self, channel: Channel, run: RunView) -> None:
        """See `Jobs.drop`."""
        name = job_id(channel, run)
        with in_our_errors():
            await self._pool.zrem(queue_of(run.agent), name)
            await self._pool.delete(*(key + name for key in (in_progress_key_prefix, job_key_prefix, retry_key_prefix)))


class LocalJobs:
    """Implements `Jobs` for one worker: it takes at once the segments it serves and has room for; the queue holds the rest.

    arq takes one job after the other, four round trips each: of 200 questions in one instant the last would wait for most
    of a second (ops/decisions/0007-arq.md).

    Args:
        take: takes the run's segment; False when it is not for this worker: it does not serve the agent, is full, or is
            about to stop.
    """

    def __init__(self, queue: Jobs, take: Callable[[Channel, RunView], Awaitable[bool]]) -> None:
        self._queue, self._take = queue, take

    async def put(self, channel: Channel, run: RunView, *, again: str = "") -> None:
        """See `Jobs.put`. When it returns the segment is taken or queued; only then is the event that asked for it handled."""
        if again or not await self._take(channel, run):
            await self._queue.put(channel, run, again=again)

    async def drop(self, channel: Channel, run: RunView) -> None:
        """See `Jobs.drop`."""
        await self._queue.drop(channel, run)


class JobTaker:
    """Takes queued jobs of one agent.

    Args:
        agents: the number of agents this worker serves; they share the polls per second.
        take: takes a segment, given its channel, run id, segment and attempt.
    """

    def __init__(
        self, pool: ArqRedis, agent: str, agents: int, take: Callable[[Channel, str, int, int], Awaitable[None]]
    ) -> None:
        self._take = take
        self._worker = ArqWorker(
            [func(self._take_job, name=JOB)],  # type: ignore[arg-type]  # its protocol has **kwargs, which no job of ours gets
            queue_name=queue_of(agent),
            redis_pool=pool,
            handle_signals=False,
            max_jobs=50,
            job_timeout=TAKE_TIMEOUT_S,
            keep_result=0,
            poll_delay=max(POLL_S, agents / POLLS_PER_S),
            max_tries=1,
            retry_jobs=False,
            job_serializer=dump_job,
            job_deserializer=load_job,
            log_results=False,
        )

    @property
    def tasks(self) -> list[asyncio.Task[Any]]:
        """The jobs being taken now."""
        return list(self._worker.tasks.values())

    @property
    def is_allowed(self) -> bool:
        """True while it takes jobs."""
        return self._worker.allow_pick_jobs

    def allow(self, *, is_allowed: bool) -> None:
        """Takes jobs from now on, or leaves them to other workers."""
        self._worker.allow_pick_jobs = is_allowed

    async def run(self) -> None:
        """Takes jobs until cancelled.

        Raises:
            LogUnavailable: the queue is unreachable.
        """
        with in_our_errors():
            await self._worker.async_run()

    async def _take_job(self, _ctx: dict[Any, Any], path: str, run_id: str, segment: int, attempt: int) -> None:
        """The arq job. If it fails, the reaper finds the run queued and puts another one."""
        try:
            await self._take(channel_from_path(path), run_id, segment, attempt)
        except LogUnavailable as error:
            _log.warning("run %s could not be taken: %s", run_id, error)
