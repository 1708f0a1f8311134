"""A worker process: its options from the settings, the end of uploads, and its `/metrics`. Shared by `hub worker` and `hub dev`."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from hmac import compare_digest
from threading import Thread
from typing import Any, Final, TypedDict
from wsgiref.simple_server import WSGIRequestHandler, make_server

from prometheus_client import CollectorRegistry, make_wsgi_app

from consumers.agents.loading import load_agents
from consumers.handlers.files import FileReactions
from consumers.metrics import ConsumerCollector, WorkerMetrics
from consumers.worker import Worker, WorkerOptions, running
from hub.config import Settings
from hub.uploads.finishing import open_finisher
from ops.cli.failure import EXIT_USAGE, CommandFailed
from streams.errors import StreamsError

DEMO_PATH: Final = "consumers.agents.demo:agent"
Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


@asynccontextmanager
async def running_worker(settings: Settings, options: WorkerOptions) -> AsyncIterator[Worker]:
    """A worker that runs inside the block and also finishes uploads.

    Raises:
        LogUnavailable, ConfigurationRefused: Redis is unreachable, or must not be used as it is set up.
    """
    async with open_finisher(settings) as finisher:
        handlers = (*options.handlers, FileReactions(finisher))
        async with running(dataclasses.replace(options, handlers=handlers)) as worker:
            yield worker


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
    """Times derived from the life of a run's lease, in milliseconds; fields of `WorkerOptions`."""

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


@contextlib.contextmanager
def served_metrics(metrics: WorkerMetrics, host: str, port: int | None, token: str | None) -> Iterator[int | None]:
    """Serves `/metrics` in a thread inside the block, and yields its port; serves nothing without a port.

    Args:
        metrics: the counters of the worker.
        host: where to listen.
        port: 0 for any free one.
        token: required as `Authorization: Bearer`; None leaves them open, as on a node.

    Raises:
        CommandFailed: the port is taken.
    """
    if port is None:
        yield None
        return
    registry = CollectorRegistry()
    registry.register(ConsumerCollector(metrics))
    try:
        server = make_server(host, port, _guarded(make_wsgi_app(registry), token), handler_class=_Silent)
    except OSError as refused:
        raise CommandFailed(
            f"cannot serve metrics on {host}:{port} ({refused.strerror}): choose another --metrics-port"
        ) from refused
    with server:
        thread = Thread(target=server.serve_forever, name="metrics", daemon=True)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


def _guarded(metrics: Application, token: str | None) -> Application:
    wanted = None if token is None else f"Bearer {token}".encode()

    def answer(request: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if wanted is None or compare_digest(request.get("HTTP_AUTHORIZATION", "").encode(), wanted):
            return metrics(request, start_response)
        start_response("401 Unauthorized", [("WWW-Authenticate", "Bearer")])
        return [b"send the token of HUB_METRICS_TOKEN as Authorization: Bearer\n"]

    return answer


class _Silent(WSGIRequestHandler):
    """Writes no line for each scrape, and does no reverse look-up."""

    timeout = 5
    """Seconds for the request to come: the server answers one at a time."""

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the overridden name
        """Writes nothing."""

    def address_string(self) -> str:
        """The address as a number."""
        return str(self.client_address[0])
