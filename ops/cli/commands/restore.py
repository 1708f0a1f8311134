"""Restore a tenant's channels from the archive into an empty Redis."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Final

import typer

from ops.cli.failure import CommandFailed
from ops.cli.options import DEFAULT_DATA, Data, Redis, Tenant, new_app, run

app = new_app()
_NAMED_MAX: Final = 3


@app.command()
def restore(
    tenant: Tenant,
    is_dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list what the archive has.")] = False,
    accepts_loss: Annotated[
        bool,
        typer.Option(
            "--accept-loss", help="Restore channels whose newest events are not in the archive, in another epoch."
        ),
    ] = False,
    redis: Redis = "",
    data: Data = DEFAULT_DATA,
) -> None:
    """Print a JSON object for each channel. Run it before nodes and workers start; it may be repeated.

    Cursors of channels without a loss resume exactly. Runs, read marks and the command ids of the last hour are not in the
    archive: a command that is sent again is stored again.

    Example: hub restore --tenant acme --dry-run
    """
    lost = run(_restore(redis, data, tenant, is_dry_run=is_dry_run, accepts_loss=accepts_loss))
    if lost and not accepts_loss:
        named = ", ".join(lost[:_NAMED_MAX]) + (f" and {len(lost) - _NAMED_MAX} more" if lost[_NAMED_MAX:] else "")
        raise CommandFailed(f"the archive lacks events of {named}: --accept-loss restores what it has of them")


async def _restore(redis: str, data: Path, tenant: str, *, is_dry_run: bool, accepts_loss: bool) -> list[str]:
    """Restore; returns the channels with a loss."""
    from ops.cli.audit_access import evidence_at, keys_of, no_archive
    from ops.cli.log_access import log_at, own_writer
    from ops.cli.restoring import ChannelRestorer
    from streams.channel import channel_from_path

    lost = []
    async with evidence_at(data, tenant, keys_of([], data), [], is_full=False) as evidence:
        if evidence is None:
            raise no_archive(data)
        if evidence.record.faults:
            raise CommandFailed(evidence.record.faults[0])
        heads = evidence.record.heads
        if not heads:
            raise CommandFailed(f"the archive has no channel of tenant {tenant}")
        own = None if is_dry_run else own_writer("hub restore", tenant, is_alone=True)
        async with log_at(redis, data, may_begin=True, writer=own) as log:
            restorer = ChannelRestorer(log, evidence.objects, heads)
            for one in await restorer.find(channel_from_path(path) for path in heads):
                lost += [one.channel.wire] if one.lost else []
                if is_dry_run or (one.lost and not accepts_loss):
                    upto = one.manifest.upto.seq if one.manifest else 0
                    print(json.dumps({"channel": one.channel.wire, "events": upto, "lost": one.lost}))
                else:
                    print(json.dumps(await restorer.restore(one)), flush=True)
    return lost
