"""Run a worker, which handles events and runs agents."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Annotated

import typer

from ops.cli.options import Wait, new_app, run

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
    from hub.config import Settings
    from ops.cli.log_access import redis_at
    from ops.cli.worker_process import run_worker

    settings = Settings.from_env(os.environ)
    with redis_at(settings.redis_url or "", Path(settings.data_dir)) as redis_url:
        run(run_worker(dataclasses.replace(settings, redis_url=redis_url), metrics_port, waits=wait))
