"""List the channels of a tenant with their heads."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ops.cli.options import DEFAULT_DATA, DEFAULT_TENANT, Data, Redis, new_app, run
from ops.cli.output import is_terminal

if TYPE_CHECKING:
    from streams.records.directory import ListedChannel

app = new_app()


@app.command()
def channels(
    pattern: Annotated[
        str,
        typer.Argument(
            help="Channels to list: kind:name, or only a name to match it in every kind; * stands for any text."
        ),
    ] = "*",
    tenant: Annotated[str, typer.Option("--tenant", help="The tenant whose channels are listed.")] = DEFAULT_TENANT,
    limit: Annotated[int, typer.Option(help="Maximum number of channels.", min=1, max=100_000)] = 1_000,
    redis: Redis = "",
    data: Data = DEFAULT_DATA,
) -> None:
    """Print one line per channel: name, seq of the newest event, number of events kept, and time of the last activity.

    The time is accurate to the minute. In a pipe, each line is JSON.

    Example: hub channels 'conversation:*' --tenant acme
    """
    run(_list(pattern, tenant, limit, redis, data))


async def _list(pattern: str, tenant: str, limit: int, redis: str, data: Path) -> None:
    from ops.cli.log_access import stored_log_at
    from streams.records.listed_channels import listed_channels

    count = 0
    async with stored_log_at(redis, data) as log:
        async for one in listed_channels(log, tenant, pattern):
            if count == limit:
                print(f"more than {limit} channels match: raise --limit, or narrow the pattern", file=sys.stderr)
                return
            print(_line(one))
            count += 1
    if not count:
        print(f"no channel of tenant {tenant} fits {pattern}", file=sys.stderr)


def _line(one: ListedChannel) -> str:
    active = datetime.fromtimestamp(one.active_ms / 1000, UTC)
    if is_terminal():
        return f"{one.channel.wire:<40}  #{one.seq:<9}  {one.kept:>9} kept  {active:%Y-%m-%d %H:%M}"
    facts = {"channel": one.channel.wire, "head": one.seq, "kept": one.kept}
    return json.dumps({**facts, "active": active.isoformat(timespec="seconds").replace("+00:00", "Z")})
