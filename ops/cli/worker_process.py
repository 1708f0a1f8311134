"""Runs a worker: its options from the settings, the uploads' completion, its status pages. Used by `hub worker` and `hub dev`."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import logging
import os
import signal
import socket
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import AsyncExitStack, asynccontextmanager
from hmac import compare_digest
from threading import Thread
from typing import Any, Final, TypedDict, cast
from wsgiref.simple_server import WSGIRequestHandler, make_server

from prometheus_client import CollectorRegistry, make_wsgi_app

from consumers.agents.loading import load_agents
from consumers.handlers.files import FileReactions
from consumers.handlers.own import load_handlers
from consumers.jobs import check_jobs_place
from consumers.metrics import ConsumerCollector
from consumers.worker import Worker, WorkerOptions, running
from hub.config import Settings
from hub.logs import log_as_set
from hub.storage.choice import audit_signer, open_seals, reading_archive
from hub.storage.timestamping import stamper_of
from hub.uploads.finishing import open_finisher
from ops.cli.extensions import extensions_of, find_modules_here
from ops.cli.failure import EXIT_USAGE, CommandFailed
from ops.cli.garbage import forget_startup
from ops.cli.node_process import refuse_unusable_redis
from ops.cli.options import run
from ops.tracing import exported_traces
from streams.archive.keeper import Keeper
from streams.errors import StreamsError
from streams.log_context import PROCESS
from streams.loops import until_reachable
from streams.redis.log import Log
from streams.tracing import open_tracing

_log = logging.getLogger(__name__)
LEFT_AFTER_S: Final = 10.0
"""Time that a worker in a thread gets beyond its drain before it is abandoned."""
DEMO_PATH: Final = "consumers.agents.demo:agent"
Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


@asynccontextmanager
async def running_worker(settings: Settings, options: WorkerOptions) -> AsyncIterator[Worker]:
    """Run a worker for the duration of the block, including the handler that ends uploads.

    Raises:
        LogUnavailable, ConfigurationRefused: Redis is unreachable, or its configuration is unsafe.
    """
    check_jobs_place(options.redis_url, options.jobs_redis_url)
    async with reading_archive(settings) as (archive, cold):
        log = await Log.open(
            options.redis_url,
            partitions=options.partitions,
            durability=options.durability,
            cold=cold,
            seals=open_seals(settings, options.own_events),
        )
        try:
            async with open_finisher(settings, log) as finisher:
                handlers, keeper, stamper = (*options.handlers, FileReactions(finisher)), None, None
                if archive is not None and (policy := settings.retention) is not None:
                    kept = Keeper(log, archive, policy, audit_signer(settings), settings.checkpoint_interval_s)
                    keeper, stamper = kept, stamper_of(settings, archive, lambda: kept.tenants)
                uploads, tracing = finisher.ready_after, open_tracing(settings.traced_share)
                options = dataclasses.replace(
                    options, handlers=handlers, uploads=uploads, tracing=tracing, keeper=keeper, stamper=stamper
                )
                async with running(options, log) as worker:
                    yield worker
        finally:
            await log.close()


@asynccontextmanager
async def worker_in_thread(settings: Settings, options: WorkerOptions) -> AsyncIterator[None]:
    """Run a worker in a thread with its own event loop, so that an agent that blocks the loop does not block the node.

    It waits for Redis. At the end, an agent that still blocks is abandoned: the thread does not keep the process alive.

    Raises:
        ConfigurationRefused: the configuration of Redis is unsafe.
    """
    started: Future[tuple[asyncio.AbstractEventLoop, asyncio.Task[None]]] = Future()
    ready, ended = Future[None](), Future[None]()

    async def work() -> None:
        task = cast("asyncio.Task[None]", asyncio.current_task())
        started.set_result((asyncio.get_running_loop(), task))
        async with AsyncExitStack() as stack:
            await until_reachable(lambda: stack.enter_async_context(running_worker(settings, options)))
            ready.set_result(None)
            await asyncio.Event().wait()

    def in_thread() -> None:
        try:
            run(work())
        except asyncio.CancelledError:
            pass
        except BaseException as error:
            (ended if ready.done() else ready).set_exception(error)
        finally:
            if not ended.done():
                ended.set_result(None)

    Thread(target=in_thread, name="worker", daemon=True).start()
    loop, task = await asyncio.wrap_future(started)
    try:
        await asyncio.wrap_future(ready)
        yield
    finally:
        loop.call_soon_threadsafe(task.cancel)
        try:
            await asyncio.wait_for(asyncio.wrap_future(ended), options.drain_s + LEFT_AFTER_S)
        except TimeoutError:
            _log.warning("an agent still blocks the worker; its run is left unfinished")


def worker_options(settings: Settings, *, has_demo: bool = False) -> WorkerOptions:
    """Build the options of a worker on the Redis of the settings, with the agents of HUB_AGENTS loaded.

    Modules in the working directory can be imported, too.

    Args:
        settings: settings with a `redis_url`.
        has_demo: also serve the demo agent as `demo`, unless HUB_AGENTS has an agent of that name.

    Raises:
        CommandFailed: an agent cannot be loaded, or no Redis is configured.
    """
    if settings.redis_url is None:
        raise CommandFailed("a worker needs REDIS_URL", EXIT_USAGE)
    find_modules_here(settings)
    paths = {"demo": DEMO_PATH} if has_demo else {}
    paths |= {spec.name: spec.path for spec in settings.agents}
    try:
        agents = load_agents(paths)
    except StreamsError as error:
        raise CommandFailed(f"HUB_AGENTS: {error}", EXIT_USAGE) from error
    try:
        handlers = load_handlers({spec.name: spec.path for spec in settings.handlers})
    except StreamsError as error:
        raise CommandFailed(f"HUB_HANDLERS: {error}", EXIT_USAGE) from error
    return WorkerOptions(
        redis_url=settings.redis_url,
        jobs_redis_url=settings.jobs_redis_url,
        partitions=settings.partitions,
        durability=settings.durability,
        agents=agents,
        handlers=handlers,
        own_events=extensions_of(settings).events,
        drain_s=settings.drain_s,
        stall_max_s=settings.stall_limit_s,
        **lease_times(settings.run_lease_s),
    )


class LeaseTimes(TypedDict):
    """Times derived from the lifetime of a run's lease, in milliseconds; fields of `WorkerOptions`."""

    lease_ms: int
    partition_life_ms: int
    look_again_ms: int
    job_patience_ms: int


def lease_times(run_lease_s: float) -> LeaseTimes:
    """The times that determine when a lost worker is noticed, in the proportions of the defaults (15, 6, 3 and 20 s)."""
    lease_ms = int(run_lease_s * 1000)
    return {
        "lease_ms": lease_ms,
        "partition_life_ms": lease_ms * 2 // 5,
        "look_again_ms": lease_ms // 5,
        "job_patience_ms": lease_ms * 4 // 3,
    }


class WorkerStatus:
    """The state of a worker for its status pages; until it has started, it waits for Redis."""

    def __init__(self) -> None:
        self.worker: Worker | None = None

    def started(self, worker: Worker) -> None:
        """Show this worker from now on."""
        self.worker = worker

    def missing(self) -> list[str]:
        """A sentence for each part that does not work."""
        return ["the worker is waiting for Redis"] if self.worker is None else self.worker.troubles()


@contextlib.contextmanager
def served_status(status: WorkerStatus, host: str, port: int | None, token: str | None) -> Iterator[int | None]:
    """Serve `/metrics`, `/healthz` and `/readyz` from a thread inside the block, and yield the port; None if `port` is None.

    Args:
        status: the state of the worker.
        host: the address to listen on.
        port: the port; 0 for any free one.
        token: required for `/metrics` as `Authorization: Bearer`; None leaves it open, as on a node.

    Raises:
        CommandFailed: the port is taken.
    """
    if port is None:
        yield None
        return
    try:
        server = make_server(host, port, _pages(status, token), handler_class=_Silent)
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


def _pages(status: WorkerStatus, token: str | None) -> Application:
    wanted = None if token is None else f"Bearer {token}".encode()

    def answer(request: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        path = request.get("PATH_INFO", "")
        if path in {"/healthz", "/readyz"}:
            missing = status.missing() if path == "/readyz" else []
            ready: dict[str, Any] = {"status": "unready", "missing": missing} if missing else {"status": "ready"}
            if status.worker is not None and (full := status.worker.log.memory_trouble) is not None:
                ready["memory"] = full
            body = ready if path == "/readyz" else {"status": "ok"}
            start_response("503 Service Unavailable" if missing else "200 OK", [("Content-Type", "application/json")])
            return [json.dumps(body).encode()]
        if wanted is not None and not compare_digest(request.get("HTTP_AUTHORIZATION", "").encode(), wanted):
            start_response("401 Unauthorized", [("WWW-Authenticate", "Bearer")])
            return [b"send the token of HUB_METRICS_TOKEN as Authorization: Bearer\n"]
        registry = CollectorRegistry()
        if status.worker is not None:
            registry.register(ConsumerCollector(status.worker.metrics, status.worker.log))
        page: Application = make_wsgi_app(registry)
        return page(request, start_response)

    return answer


class _Silent(WSGIRequestHandler):
    """A request handler that logs nothing and makes no reverse DNS look-ups."""

    timeout = 5
    """Time limit for receiving a request, in seconds: the server answers one at a time."""

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the overridden name
        """Does nothing, so that scrapes are not logged."""

    def address_string(self) -> str:
        """The client's numeric address."""
        return str(self.client_address[0])


async def run_worker(settings: Settings, metrics_port: int | None, *, waits: bool) -> None:
    """Work until SIGTERM or SIGINT.

    Raises:
        CommandFailed: the Redis cannot be used.
        KeyboardInterrupt: the signal was SIGINT; raised after the end.
    """
    await refuse_unusable_redis(settings, waits=waits)
    log_as_set(settings)
    PROCESS["worker"] = f"{socket.gethostname()}:{os.getpid()}"
    logging.getLogger("arq").setLevel(logging.WARNING)  # it logs a line for every job
    options = worker_options(settings)
    stop = asyncio.Event()
    signals: set[int] = set()

    def end(number: int) -> None:
        signals.add(number)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, end, number)
    status = WorkerStatus()
    traced = exported_traces(settings, "worker")
    with traced, served_status(status, settings.host, metrics_port, settings.metrics_token) as port:
        async with AsyncExitStack() as running:
            starting = asyncio.create_task(_start(running, settings, options, waits=waits), name="start")
            stopping = asyncio.create_task(stop.wait(), name="stop")
            await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if starting.done():
                process = starting.result()
                status.started(process)
                forget_startup()
                about = f"agents: {', '.join(options.agents) or 'none'}" + (f"; metrics on port {port}" if port else "")
                print(f"worker {process.name} is up; {about}", flush=True)
                await stopping
            else:
                starting.cancel()
                await asyncio.wait({starting})
    if signal.SIGINT in signals:
        raise KeyboardInterrupt


async def _start(running: AsyncExitStack, settings: Settings, options: WorkerOptions, *, waits: bool) -> Worker:
    async def attempt() -> Worker:
        return await running.enter_async_context(running_worker(settings, options))

    return await (until_reachable(attempt) if waits else attempt())
