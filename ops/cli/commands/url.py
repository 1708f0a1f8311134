"""Print the address of the hub that runs on a data folder, or that of its Redis."""

from __future__ import annotations

from typing import Annotated

import typer

from ops.cli.failure import CommandFailed
from ops.cli.options import DEFAULT_DATA, Data, new_app

app = new_app()


@app.command()
def url(
    redis: Annotated[bool, typer.Option("--redis", help="Print the URL of the hub's Redis instead.")] = False,
    data: Data = DEFAULT_DATA,
) -> None:
    """Print the address of the hub running on the --data folder.

    Examples: HUB_URL=$(hub url); REDIS_URL=$(hub url --redis)
    """
    from ops.cli.running_hub import running_hub

    here = running_hub(data)
    if here is None:
        raise CommandFailed(f"no hub runs on {data.absolute()}: start one with `hub dev`, or see --data")
    print(here.redis_url if redis else here.url)
