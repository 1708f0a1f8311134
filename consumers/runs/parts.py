"""The objects that the parts of a worker share, made once in its composition root."""

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


class Jobs(Protocol):
    """The queue of segments. A job is a hint: the run's hash decides whether a segment may begin."""

    async def put(self, channel: Channel, run: RunView, *, again: str = "") -> None:
        """Have the run's current segment done by a worker that serves its agent.

        Putting it twice is putting it once, unless `again` differs.
        """

    async def drop(self, channel: Channel, run: RunView) -> None:
        """Remove a job whose worker died with it."""


@dataclass(frozen=True, slots=True)
class WorkerParts:
    """Everything a run needs.

    Attributes:
        now_ms: milliseconds since 1970.
        lease_ms: life of a run's lease; it is renewed three times as often.
        grace_s: how long a graceful cancel waits for the agent.
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
