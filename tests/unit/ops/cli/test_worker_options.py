"""A worker's options from its settings: the times by which a lost worker is noticed."""

from __future__ import annotations

from consumers.worker import WorkerOptions
from hub.config import Settings
from ops.cli.worker_process import worker_options


def test_the_default_lease_gives_the_default_times() -> None:
    """HUB_RUN_LEASE scales every time together; its default changes none of them."""
    found = worker_options(Settings.from_env({"REDIS_URL": "redis://127.0.0.1:1"}))

    expected = WorkerOptions(redis_url="redis://127.0.0.1:1")
    assert (found.lease_ms, found.partition_life_ms) == (expected.lease_ms, expected.partition_life_ms)
    assert (found.look_again_ms, found.job_patience_ms) == (expected.look_again_ms, expected.job_patience_ms)


def test_a_shorter_lease_shortens_them_all() -> None:
    """A worker that is lost is noticed within the lease and a fifth of it."""
    found = worker_options(Settings.from_env({"REDIS_URL": "redis://127.0.0.1:1", "HUB_RUN_LEASE": "3"}))

    times = (found.lease_ms, found.partition_life_ms, found.look_again_ms, found.job_patience_ms)
    assert times == (3_000, 1_200, 600, 4_000)
