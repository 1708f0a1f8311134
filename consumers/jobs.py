"""The queue of segments on arq. The only module that imports arq.

An arq job only takes a segment: once the run's hash names this worker, the job is finished, and the segment continues as a task
of the worker. A longer job would be expensive, because arq polls each unfinished job (three round trips, 20 times a second),
and arq's retries do not match a run's attempts; see ops/decisions/0007-arq.md.
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
from streams.errors import ConfigurationRefused, LogUnavailable
from streams.records.runs import RunView
from streams.redis.client import in_our_errors, open_client
from streams.redis.keys import JOBS
from streams.redis.locate import Locator
from streams.redis.log import Log

JOB: Final = "take_segment"
POLL_S: Final = 0.05
"""Interval between polls for the jobs of an agent, in seconds; on average half of it delays an answer's first token."""
POLLS_PER_S: Final = 100
"""Maximum number of polls per second, for all agents together: with more than five agents each is polled less often."""
TAKE_TIMEOUT_S: Final = 30
_log = logging.getLogger(__name__)


def dump_job(value: dict[str, Any]) -> bytes:
    """Serialise a job as JSON, never as pickle; every arq pool uses it."""
    return json.dumps(value).encode()


def load_job(data: bytes) -> dict[str, Any]:
    """The reverse of `dump_job`."""
    value: dict[str, Any] = json.loads(data)
    return value


def job_id(channel: Channel, run: RunView) -> str:
    """The job's ID: `<channel path>:<run>:<segment>:<attempt>`. A run's ID is unique only within its channel."""
    return f"{channel.path}:{run.run_id}:{run.segment}:{run.attempt}"


def queue_of(agent: str) -> str:
    """The agent's queue. Each agent has its own, so that no worker takes a job of an agent that it does not serve."""
    return f"{JOBS}:{agent}"


def check_jobs_place(redis_url: str, jobs_redis_url: str | None) -> None:
    """Refuse a place in which arq cannot keep its queues: its transactions use keys of several slots.

    Raises:
        ConfigurationRefused: HUB_JOBS_REDIS_URL is missing beside a Cluster, or names one.
    """
    if Locator(jobs_redis_url or redis_url).is_cluster:
        raise ConfigurationRefused(
            "job queues cannot be kept in a Redis Cluster: set HUB_JOBS_REDIS_URL to a single Redis (redis:// or redis+sentinel://)"
        )


def arq_pool(log: Log, jobs_redis_url: str | None = None) -> ArqRedis:
    """An arq client: on the server of HUB_JOBS_REDIS_URL, otherwise with the connections of the log's redis-py client.

    Raises:
        ConfigurationRefused: see `check_jobs_place`.
    """
    check_jobs_place(log.url, jobs_redis_url)
    client = log.redis if jobs_redis_url is None else open_client(Locator(jobs_redis_url).place)
    return ArqRedis(client.connection_pool, job_serializer=dump_job, job_deserializer=load_job, default_queue_name=JOBS)


class ArqJobs:
    """Implements `Jobs` over arq."""

    def __init__(self, pool: ArqRedis) -> None:
        self._pool = pool

    async def put(self, channel: Channel, run: RunView, *, again: str = "") -> None:
        """See `Jobs.put`. arq returns None if the job already exists, which is a success here."""
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
    """Implements `Jobs` for one worker: it takes the segments it can run at once, and puts the others on the queue.

    arq takes one job after the other, with four round trips each: if 200 messages arrived at once, the last one would wait for
    most of a second (ops/decisions/0007-arq.md).

    Args:
        queue: the shared queue.
        take: takes the run's segment; False if this worker does not serve the agent, is full, or is about to stop.
    """

    def __init__(self, queue: Jobs, take: Callable[[Channel, RunView], Awaitable[bool]]) -> None:
        self._queue, self._take = queue, take

    async def put(self, channel: Channel, run: RunView, *, again: str = "") -> None:
        """See `Jobs.put`.

        It returns once the segment is taken or queued; until then the event that requested it counts as unhandled.
        """
        if again or not await self._take(channel, run):
            await self._queue.put(channel, run, again=again)

    async def drop(self, channel: Channel, run: RunView) -> None:
        """See `Jobs.drop`."""
        await self._queue.drop(channel, run)


class JobTaker:
    """Takes queued jobs of one agent.

    Args:
        pool: the arq client.
        agent: the agent's name.
        agents: number of agents that this worker serves; they share the polls per second.
        take: takes a segment, given its channel, run ID, segment and attempt.
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
        """The jobs that are being taken at the moment."""
        return list(self._worker.tasks.values())

    @property
    def is_allowed(self) -> bool:
        """True if it may take jobs."""
        return self._worker.allow_pick_jobs

    def allow(self, *, is_allowed: bool) -> None:
        """Allow or forbid it to take jobs; if forbidden, other workers take them."""
        self._worker.allow_pick_jobs = is_allowed

    async def run(self) -> None:
        """Take jobs until cancelled.

        Raises:
            LogUnavailable: Redis is unreachable.
        """
        with in_our_errors():
            await self._worker.async_run()

    async def _take_job(self, _ctx: dict[Any, Any], path: str, run_id: str, segment: int, attempt: int) -> None:
        """The function that arq calls for a job. If it fails, the reaper finds the run still queued and puts another job."""
        try:
            await self._take(channel_from_path(path), run_id, segment, attempt)
        except LogUnavailable as error:
            _log.warning("run %s could not be taken: %s", run_id, error)
