"""Show a channel's Redis key, and redis-cli commands to look at it."""

from __future__ import annotations

import asyncio
import os
from typing import Annotated

import typer

from hub.config import Settings
from ops.cli.log_access import keys_at, redis_at
from ops.cli.options import DEFAULT_DATA, Data, Redis, Tenant, channel_of, new_app
from ops.embedded_redis.binary import cli_line
from streams.redis.keys import Keys, questions

app = new_app()


@app.command()
def key(
    channel: Annotated[str, typer.Argument(help="kind:name, such as conversation:42.")],
    tenant: Tenant,
    redis: Redis = "",
    data: Data = DEFAULT_DATA,
) -> None:
    """Print the key alone on the first line, then commands to paste into a shell."""
    place = channel_of(tenant, channel)
    with redis_at(redis, data) as url:
        keys = asyncio.run(keys_at(url)) or Keys(Settings.from_env(os.environ).partitions)
    names = keys.of(place)
    stream = names.stream.decode()
    print(stream)
    for question in questions(names):
        print(f"{cli_line(url)} {question}")
