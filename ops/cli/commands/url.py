"""Print the address of the hub that runs on a data folder."""

from __future__ import annotations

from ops.cli.failure import CommandFailed
from ops.cli.options import DEFAULT_DATA, Data, new_app

app = new_app()


@app.command()
def url(data: Data = DEFAULT_DATA) -> None:
    """Print the address of the hub running on the --data folder.

    Example: HUB_URL=$(hub url)
    """
    from ops.cli.running_hub import running_hub

    here = running_hub(data)
    if here is None:
        raise CommandFailed(f"no hub runs on {data.absolute()}: start one with `hub dev`, or see --data")
    print(here.url)
