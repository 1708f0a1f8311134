"""What a worker runs with, from the settings: shared by `hub worker` and `hub dev`."""

from __future__ import annotations

import os
import sys
from typing import Final, TypedDict

from consumers.agents.loading import load_agents
from consumers.worker import WorkerOptions
from hub.config import Settings
from ops.cli.failure import EXIT_USAGE, CommandFailed
from streams.errors import StreamsError

DEMO_PATH: Final = "consumers.agents.demo:agent"


def worker_options(settings: Settings, *, has_demo: bool = False) -> WorkerOptions:
    """The options of a worker on the settings' Redis, with the agents of HUB_AGENTS loaded.

    Modules in the working directory are found too.

    Args:
        settings: with a `redis_url`.
        has_demo: also serve the demo agent as `demo`, unless HUB_AGENTS names another one so.

    Raises:
        CommandFailed: an agent cannot be loaded, or there is no Redis.
    """
    if settings.redis_url is None:
        raise CommandFailed("a worker needs REDIS_URL", EXIT_USAGE)
    if settings.agents and os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    paths = {"demo": DEMO_PATH} if has_demo else {}
    paths |= {spec.name: f"{spec.module}:{spec.attribute}" for spec in settings.agents}
    try:
        agents = load_agents(paths)
    except StreamsError as error:
        raise CommandFailed(f"HUB_AGENTS: {error}", EXIT_USAGE) from error
    return WorkerOptions(
        redis_url=settings.redis_url,
        partitions=settings.partitions,
        durability=settings.durability,
        agents=agents,
        drain_s=settings.drain_s,
        **lease_times(settings.run_lease_s),
    )


class LeaseTimes(TypedDict):
    """What follows from the life of a run's lease, in milliseconds; fields of `WorkerOptions`."""

    lease_ms: int
    partition_life_ms: int
    look_again_ms: int
    job_patience_ms: int


def lease_times(run_lease_s: float) -> LeaseTimes:
    """The times by which a lost worker is noticed, in the proportions of the defaults (15, 6, 3 and 20 s)."""
    lease_ms = int(run_lease_s * 1000)
    return {
        "lease_ms": lease_ms, "partition_life_ms": lease_ms * 2 // 5, "look_again_ms": lease_ms // 5,
        "job_patience_ms": lease_ms * 4 // 3,
    }  # fmt: skip
