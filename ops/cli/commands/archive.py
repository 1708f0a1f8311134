"""Archive all events of a channel or a tenant now, the newest too."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ops.cli.failure import EXIT_USAGE, CommandFailed
from ops.cli.options import DEFAULT_DATA, Data, Redis, Tenant, channel_of, new_app, run

if TYPE_CHECKING:
    from streams.channel import Channel

app = new_app()


@app.command()
def archive(
    tenant: Tenant,
    channel: Annotated[str, typer.Argument(help="kind:name, such as conversation:42.")] = "",
    is_all: Annotated[bool, typer.Option("--all", help="All channels of the tenant.")] = False,
    redis: Redis = "",
    data: Data = DEFAULT_DATA,
) -> None:
    """Store the events that are in Redis alone in the archive, as before a move to another Redis (`hub restore`).

    Use the settings of the hub (HUB_RETENTION, HUB_AUDIT_KEY, S3_BUCKET).

    Example: hub archive --all --tenant acme
    """
    if is_all == bool(channel):
        raise CommandFailed("name a channel, or use --all", EXIT_USAGE)
    count = run(_archive(redis, data, tenant, [channel_of(tenant, channel)] if channel else []))
    print(f"{count} channels are archived to their newest event")


async def _archive(redis: str, data: Path, tenant: str, places: list[Channel]) -> int:
    from ops.cli.keeping import keeper_of, own_archive
    from ops.cli.log_access import log_at, record_of, stored_log_at
    from streams.records.listed_channels import listed_channels

    async with stored_log_at(redis, data) as stored:
        for place in places:
            await record_of(stored, place)
        places = places or [one.channel async for one in listed_channels(stored, tenant, "*")]
    async with own_archive(data, is_needed=True) as kept, log_at(redis, data, may_begin=False) as log:
        keeper = keeper_of(log, kept)
        for place in places:
            await keeper.archive_whole(place, trims=False)
    return len(places)
