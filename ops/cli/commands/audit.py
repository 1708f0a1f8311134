"""Check that a channel's events are complete, unrepeated, undamaged and in order."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ops.cli.failure import CommandFailed
from ops.cli.options import DEFAULT_DATA, Data, Redis, Tenant, channel_of, new_app, run

if TYPE_CHECKING:
    from ops.cli.channel_audit import Audit
    from streams.channel import Channel

app = new_app()


@app.callback()
def audit() -> None:
    """Check that a channel's events are complete, unrepeated, undamaged and in order.

    Example: hub audit verify conversation:42 --tenant acme
    """


@app.command()
def verify(
    channel: Annotated[str, typer.Argument(help="kind:name, such as conversation:42.")],
    tenant: Tenant,
    redis: Redis = "",
    data: Data = DEFAULT_DATA,
) -> None:
    """Print the result as one JSON object; exit with 1 if events are missing, repeated, out of order or damaged.

    Not detected: an ID changed without changing the order, and damage to the records beside the log.

    Example: hub audit verify conversation:42 --tenant acme
    """
    found = run(_verify(redis, data, channel_of(tenant, channel)))
    print(json.dumps(found.to_json()))
    if found.faults:
        raise CommandFailed(f"{channel} is not intact from seq {found.first_bad_seq}: {found.faults[0]}")


async def _verify(redis: str, data: Path, channel: Channel) -> Audit:
    from ops.cli.channel_audit import verify_log
    from ops.cli.log_access import stored_log_at

    async with stored_log_at(redis, data) as log:
        return await verify_log(log, channel)
