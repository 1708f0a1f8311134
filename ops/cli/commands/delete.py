"""Delete a channel or all channels of a tenant, archived first."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from ops.cli.failure import EXIT_USAGE, CommandFailed
from ops.cli.options import (
    DEFAULT_DATA,
    ChannelName,
    Data,
    Redis,
    Tenant,
    agree,
    channel_of,
    new_app,
    one_or_all,
    operator_name,
    run,
)

if TYPE_CHECKING:
    from ops.cli.deleting import ChannelDeleter
    from streams.channel import Channel
    from streams.records.writers import Writer

app = new_app()
_ENDED_TOGETHER: Final = 100
"""Number of channels that end before one scan of Redis finds their files."""


@app.command()
def delete(
    tenant: Tenant,
    channel: ChannelName = "",
    is_all: Annotated[bool, typer.Option("--all", help="All channels of the tenant, but for `system:` ones.")] = False,
    is_dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list what would go.")] = False,
    is_sure: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    is_unarchived: Annotated[
        bool,
        typer.Option("--without-archive", help="Do not archive events first: those that are not archived are lost."),
    ] = False,
    is_purge: Annotated[
        bool,
        typer.Option(
            "--purge-archive", help="Archive nothing, and remove archived events, too; refused under legal hold."
        ),
    ] = False,
    by: Annotated[str, typer.Option(help="Who deletes, for the record.  [default: this account's name]")] = "",
    redis: Redis = "",
    data: Data = DEFAULT_DATA,
) -> None:
    """Print a JSON object for each channel. Whoever follows one is told; the deletion is an event in `system:deletions`.

    A deletion that was cut off is completed by the next one. Use the settings of the hub (HUB_RETENTION, HUB_AUDIT_KEY, S3_BUCKET).

    Example: hub delete conversation:42 --tenant acme --dry-run
    """
    place, who = one_or_all(tenant, channel, is_all=is_all), operator_name(by)
    if place is not None and place.kind.value == "system":
        raise CommandFailed("channels of the kind system are the hub's own records and stay", EXIT_USAGE)
    how = {"archives": not (is_unarchived or is_purge), "purges": is_purge}
    found = run(_plan(redis, data, tenant, [place] if place else [], how))
    for one in found:
        print(json.dumps(one))
    if is_dry_run:
        return
    agree(f"Delete {len(found)} channels of tenant {tenant}?", is_sure=is_sure)
    run(_delete(redis, data, [channel_of(tenant, str(one["channel"])) for one in found], who, how, is_all=is_all))


async def _plan(
    redis: str, data: Path, tenant: str, places: list[Channel], how: dict[str, bool]
) -> list[dict[str, object]]:
    from ops.cli.log_access import stored_log_at
    from streams.records.listed_channels import listed_channels

    is_all = not places
    if is_all:
        async with stored_log_at(redis, data) as stored:
            places = [one.channel async for one in listed_channels(stored, tenant, "*")]
    async with _deleter(redis, data, "", how, None) as deleter:
        found = []
        for place in dict.fromkeys([*places, *(await deleter.unfinished(tenant) if is_all else [])]):
            if place.kind.value == "system":
                continue
            deleter.refuse_held(place)
            if (one := await deleter.plan(place)) is not None:
                found.append(one)
    if not found:
        raise CommandFailed(
            f"tenant {tenant} has no channels" if is_all else f"no such channel: {places[0].wire} of tenant {tenant}"
        )
    return found


async def _delete(
    redis: str, data: Path, places: list[Channel], by: str, how: dict[str, bool], *, is_all: bool
) -> None:
    from ops.cli.log_access import own_writer

    own = own_writer("hub delete", places[0].tenant, is_alone=True)
    async with _deleter(redis, data, by, how, own) as deleter:
        for at in range(0, len(places), _ENDED_TOGETHER):
            async for done in deleter.delete_several(places[at : at + _ENDED_TOGETHER]):
                print(json.dumps(done | {"deleted": True}), flush=True)
        if is_all:
            await deleter.give_back(places[0].tenant)


@asynccontextmanager
async def _deleter(
    redis: str, data: Path, by: str, how: dict[str, bool], writer: Writer | None
) -> AsyncIterator[ChannelDeleter]:
    import os
    from dataclasses import replace

    from hub.config import Settings
    from hub.storage.choice import open_store
    from hub.uploads.finishing import SWEEP_AFTER_MS
    from hub.uploads.limits import limits_of
    from ops.cli.deleting import ChannelDeleter
    from ops.cli.keeping import own_archive
    from ops.cli.log_access import log_at

    settings = replace(Settings.from_env(os.environ), data_dir=str(data))
    files, sweep_after_ms = open_store(settings), limits_of(settings).url_life_s * 1_000 + SWEEP_AFTER_MS
    try:
        is_needed = how["archives"] or how["purges"]
        async with (
            own_archive(data, is_needed=is_needed) as kept,
            log_at(redis, data, may_begin=False, writer=writer) as log,
        ):
            yield ChannelDeleter(log, files, kept, by, **how, sweep_after_ms=sweep_after_ms)
    finally:
        await files.close()
