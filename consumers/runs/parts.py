"""The objects that the parts of a worker share; `consumers.worker` creates them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from consumers.agents.loading import ServedAgent
from consumers.faults import Faults
from consumers.metrics import WorkerMetrics
from consumers.runs.run_log import DeltaWriter
from streams.channel import Channel
from streams.records.leases import Leases
from streams.records.run_slots import RunSlots
from streams.records.run_store import RunStore
from streams.records.runs import RunView
from streams.redis.log import Log
from streams.tracing import Tracing


class Jobs(Protocol):
    """The queue of segments. A job is only a hint: the run's hash decides whether a segment may begin."""

    async def put(self, channel: Channel, run: RunView, *, again: str = "") -> None:
        """Put a job for the run's current segment, to be taken by a worker that serves its agent.

        Putting it twice has no further effect, unless `again` differs.
        """

    async def drop(self, channel: Channel, run: RunView) -> None:
        """Remove a job whose worker died while taking it."""


@dataclass(frozen=True, slots=True)
class WorkerParts:
    """The objects that executing runs requires.

    Attributes:
        now_ms: returns the time in milliseconds since 1970.
        lease_ms: lifetime of a run's lease; it is renewed three times in that period.
        grace_s: time for which a graceful cancel waits for the agent, in seconds.
        tracing: records traces; None where that is off.
    """

    worker: str
    log: Log
    store: RunStore
    slots: RunSlots
    leases: Leases
    jobs: Jobs
    writer: DeltaWriter
    agents: Mapping[str, ServedAgent]
    metrics: WorkerMetrics
    faults: Faults
    now_ms: Callable[[], int]
    lease_ms: int = 15_000
    grace_s: float = 5.0
    tracing: Tracing | None = None
