"""Run a production node, or several that share a port."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Annotated

import typer

from ops.cli.failure import EXIT_USAGE, CommandFailed
from ops.cli.options import Wait, new_app, run

app = new_app()


@app.command()
def serve(
    host: Annotated[str, typer.Option(help="The address to listen on.  [default: HUB_HOST]", show_default=False)] = "",
    port: Annotated[
        int | None, typer.Option(help="The port to listen on.  [default: HUB_PORT]", min=0, max=65_535)
    ] = None,
    workers: Annotated[int, typer.Option(help="Number of processes that share the port.", min=1, max=256)] = 1,
    wait: Wait = True,
) -> None:
    """Serve until SIGTERM or Ctrl-C, then move clients to other nodes within HUB_DRAIN_SECONDS.

    Example: REDIS_URL=redis://localhost:6379/0 hub serve --port 8000 --workers 2
    """
    from hub.config import OWN_KEY, Settings
    from ops.cli.log_access import redis_at
    from ops.cli.node_process import Nodes, bind, refuse_unusable_redis, run_node, url_of

    settings = Settings.from_env(os.environ)
    if not settings.has_token_key:
        raise CommandFailed(
            "set HUB_JWT_SECRET, HUB_JWT_PUBLIC_KEY or HUB_JWKS_URL: a node must be able to verify tokens", EXIT_USAGE
        )
    if settings.has_dev_secret:
        raise CommandFailed(f"HUB_JWT_SECRET must be {OWN_KEY}", EXIT_USAGE)
    settings = dataclasses.replace(settings, host=host or settings.host, port=settings.port if port is None else port)
    with redis_at(settings.redis_url or "", Path(settings.data_dir)) as redis_url:
        settings = dataclasses.replace(settings, redis_url=redis_url)
        with bind(settings.host, settings.port, is_shared=workers > 1) as bound:
            if workers == 1:
                run(run_node(settings, bound, lambda: print(f"hub is up on {url_of(bound)}", flush=True), waits=wait))
            else:
                run(refuse_unusable_redis(settings, waits=wait))
                print(f"hub starts {workers} nodes on {url_of(bound)}", flush=True)
                Nodes(settings, bound.getsockname()[1], workers, waits=wait).run()
