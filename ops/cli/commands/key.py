"""Show a channel's Redis key, and redis-cli commands that inspect it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from ops.cli.options import DEFAULT_DATA, ChannelName, Data, Redis, Tenant, channel_of, new_app, run

if TYPE_CHECKING:
    from streams.channel import Channel

app = new_app()
SEALED_AMONG: Final = 64
"""Number of the newest events that are looked at."""


@app.command()
def key(
    channel: ChannelName,
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
    from streams.sealing.sealed import is_sealed

    async with stored_log_at(redis, data) as log:
        await record_of(log, place)
        names = log.keys.of(place)
        print(names.stream.decode())
        for question in questions(names):
            print(f"{cli_line(log.url)} {question}")
        if any(is_sealed(entry.data) for entry in await log.newest(place, SEALED_AMONG)):
            print("# payloads here are sealed by people's keys: Redis has ciphertext; `hub replay` opens it")
