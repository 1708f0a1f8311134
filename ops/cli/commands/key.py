"""Show a channel's Redis key, and redis-cli commands that inspect it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ops.cli.options import DEFAULT_DATA, Data, Redis, Tenant, channel_of, new_app, run

if TYPE_CHECKING:
    from streams.channel import Channel

app = new_app()


@app.command()
def key(
    channel: Annotated[str, typer.Argument(help="kind:name, such as conversation:42.")],
    tenant: Tenant,
    redis: Redis = "",
    data: Data = DEFAULT_DATA,
) -> None:
    """Print the key on the first line, then commands to paste into a shell.

    Example: hub key conversation:42 --tenant acme
    """
    run(_show(redis, data, channel_of(tenant, channel)))


async def _show(redis: str, data: Path, place: Channel) -> None:
    from ops.cli.log_access import record_of, stored_log_at
    from ops.embedded_redis.programs import cli_line
    from streams.redis.keys import questions

    async with stored_log_at(redis, data) as log:
        await record_of(log, place)
        names = log.keys.of(place)
        print(names.stream.decode())
        for question in questions(names):
            print(f"{cli_line(log.url)} {question}")
