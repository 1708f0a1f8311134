"""Jobs that a worker need not queue: what it can do itself it takes at once. It knows no queue but by its protocol."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from consumers.runs.services import Jobs
from streams.channel import Channel
from streams.records.runs import RunView


class NearJobs:
    """`services.Jobs` of one worker: what it serves and has room for it takes; the queue carries the rest to others.

    arq looks at one job after the other, four round trips each: of 200 questions in one instant the last would wait for it
    for most of a second (ops/decisions/0021-arq.md).

    Args:
        take: takes the run's segment and tells whether it was for this worker; it is not when it does not serve the agent,
            is full, or about to stop.
    """

    def __init__(self, queue: Jobs, take: Callable[[Channel, RunView], Awaitable[bool]]) -> None:
        self._queue, self._take = queue, take

    async def put(self, channel: Channel, run: RunView, *, again: str = "") -> None:
        """See `Jobs.put`. When it returns the segment is taken or queued: only then is the asking event done with."""
        if again or not await self._take(channel, run):
            await self._queue.put(channel, run, again=again)

    async def drop(self, channel: Channel, run: RunView) -> None:
        """See `Jobs.drop`."""
        await self._queue.drop(channel, run)
