"""Archive all events of a channel or a tenant now, the newest too."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ops.cli.failure import EXIT_USAGE, CommandFailed
from ops.cli.options import DEFAULT_DATA, ChannelName, Data, Redis, Tenant, new_app, one_or_all, run

if TYPE_CHECKING:
    from streams.channel import Channel

app = new_app()


@app.command()
def archive(
    tenant: Tenant,
    channel: ChannelName = "",
    is_all: Annotated[bool, typer.Option("--all", help="All channels of the tenant.")] = False,
    anew: Annotated[
        str,
        typer.Option(
            "--begin-anew",
            metavar="REASON",
            help="If the channel's archive has stopped for good: begin another, in a new epoch, with this reason on record.",
        ),
    ] = "",
    save: Annotated[
        Path | None,
        typer.Option(help="With --begin-anew: where all events that can be read are saved first, as JSON lines."),
    ] = None,
    by: Annotated[str, typer.Option(help="With --begin-anew: who decides it.")] = "",
    redis: Redis = "",
    data: Data = DEFAULT_DATA,
) -> None:
    """Store the events that are in Redis alone in the archive, as before a move to another Redis (`hub restore`).

    Nothing leaves Redis: events stay there as long as HUB_RETENTION says, and the hub may run. Use the settings of the hub
    (HUB_RETENTION, HUB_AUDIT_KEY, S3_BUCKET).

    Example: hub archive --all --tenant acme
    """
    place = one_or_all(tenant, channel, is_all=is_all)
    if anew:
        if not (place and save and by):
            raise CommandFailed("--begin-anew needs a channel, --save FILE and --by NAME", EXIT_USAGE)
        print(run(_anew(redis, data, place, anew, by, save)))
        return
    count = run(_archive(redis, data, tenant, [place] if place else []))
    print(f"{count} channels are archived to their newest event")


async def _archive(redis: str, data: Path, tenant: str, places: list[Channel]) -> int:
    from ops.cli.keeping import keeper_of, own_archive
    from ops.cli.log_access import log_at, own_writer, record_of, stored_log_at
    from streams.records.listed_channels import listed_channels

    async with stored_log_at(redis, data) as stored:
        for place in places:
            await record_of(stored, place)
        places = places or [one.channel async for one in listed_channels(stored, tenant, "*")]
    if not places:
        raise CommandFailed(f"tenant {tenant} has no channels")
    own = own_writer("hub archive", tenant, is_alone=True)
    async with own_archive(data, is_needed=True) as kept, log_at(redis, data, may_begin=False, writer=own) as log:
        keeper = keeper_of(log, kept)
        for place in places:
            await keeper.archive_whole(place, trims=False)
    return len(places)


async def _anew(redis: str, data: Path, channel: Channel, reason: str, by: str, save: Path) -> str:
    from ops.cli.archiving_anew import begin_anew, fault_of
    from ops.cli.keeping import own_archive
    from ops.cli.log_access import log_at, own_writer, record_of, stored_log_at

    own = own_writer("hub archive --begin-anew", channel.tenant, is_alone=True)
    async with stored_log_at(redis, data) as stored, own_archive(data, is_needed=True) as kept:
        await record_of(stored, channel)
        async with log_at(redis, data, may_begin=False, writer=own) as log:
            fault = await fault_of(log, kept, channel)
            if fault is None or kept is None:
                return f"the archive of {channel.wire} goes on: nothing was begun anew"
            found = await begin_anew(log, stored, kept, channel, fault, reason, by, save)
            left = await fault_of(log, kept, channel)
    if left is not None:
        raise CommandFailed(f"begun anew in epoch {found.epoch}, but it does not go on either: {left}")
    told = f"it had stopped because {found.fault}; {found.saved} events are saved in {save}"
    return f"{channel.wire} is archived again in epoch {found.epoch}, from seq {found.after.seq + 1} on: {told}"
