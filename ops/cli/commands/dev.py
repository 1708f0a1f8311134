"""Run Redis, a node, a worker and the console in one command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ops.cli.options import new_app

app = new_app()


@app.command()
def dev(
    port: Annotated[
        int | None,
        typer.Option(
            help="The port to listen on.  [default: HUB_PORT, otherwise the first free port from 8000]",
            min=0,
            max=65_535,
        ),
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="Folder for the data of Redis and for uploads.  [default: HUB_DATA, .hub]")
    ] = None,
) -> None:
    """Run until Ctrl-C. The data is kept. If REDIS_URL is set, that Redis is used in place of the embedded one.

    Example: hub dev --port 8080
    """
    from ops.cli.dev_process import run_dev

    run_dev(port, data)
