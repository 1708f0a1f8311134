"""Check a channel's events: none missing, none repeated, all in order."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from ops.auditing import Audit
from ops.cli.app import new_app, run
from ops.cli.failure import CommandFailed
from ops.cli.log_access import log_at
from ops.cli.named_channel import channel_of
from ops.cli.options import DEFAULT_DATA, Data, Redis, Tenant
from streams.channel import Channel

app = new_app()


@app.callback()
def audit() -> None:
    """Check a channel's events: none missing, none repeated, all in order."""


@app.command()
def verify(
    channel: Annotated[str, typer.Argument(help="kind:name, such as conversation:42.")],
    tenant: Tenant,
    redis: Redis = "",
    data: Data = DEFAULT_DATA,
) -> None:
    """Print what was found as one JSON object; exit with 1 if events are missing, repeated or out of order."""
    found = run(_verify(redis, data, channel_of(tenant, channel)))
    print(json.dumps(found.to_json()))
    if found.faults:
        raise CommandFailed(f"{channel} is not intact: {found.faults[0]}")


async def _verify(redis: str, data: Path, channel: Channel) -> Audit:
    async with log_at(redis, data) as log:
        look = await log.look(channel)
        found = Audit(channel.wire, look.epoch, look.floor.seq)
        after = "0"
        while page := await log.page(channel, after):
            for entry in page:
                found.take(entry.id.decode(), int(entry.seq))
            after = page[-1].id.decode()
        found.end(look.head.seq)
    return found
