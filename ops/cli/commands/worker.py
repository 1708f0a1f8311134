"""Run a worker, which handles events and runs agents."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import os
import signal
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Annotated

import typer

from consumers.worker import Worker, WorkerOptions
from hub.config import Settings
from hub.logs import configure_logging
from ops.cli.log_access import redis_at
from ops.cli.node_process import forget_startup, refuse_unusable_redis
from ops.cli.options import Wait, new_app, run
from ops.cli.worker_process import WorkerStatus, running_worker, served_status, worker_options
from streams.loops import until_reachable

app = new_app()


@app.command()
def worker(
    metrics_port: Annotated[
        int | None,
        typer.Option(
            help="Serve /metrics and /readyz on this port of HUB_HOST.  [default: off]",
            min=0,
            max=65_535,
            show_default=False,
        ),
    ] = None,
    wait: Wait = True,
) -> None:
    """Work until SIGTERM or Ctrl-C. Answers unfinished after HUB_DRAIN_SECONDS are handed over to other workers.

    Example: REDIS_URL=redis://localhost:6379/0 HUB_AGENTS=support=my_agents:run hub worker --metrics-port 9100
    """
    settings = Settings.from_env(os.environ)
    with redis_at(settings.redis_url or "", Path(settings.data_dir)) as redis_url:
        run(_work(dataclasses.replace(settings, redis_url=redis_url), metrics_port, waits=wait))


async def _work(settings: Settings, metrics_port: int | None, *, waits: bool) -> None:
    await refuse_unusable_redis(settings, waits=waits)
    configure_logging(logging.INFO)
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
    with served_status(status, settings.host, metrics_port, settings.metrics_token) as port:
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
