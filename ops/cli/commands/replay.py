"""Print a channel's events as the log stores them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from ops.cli.failure import CommandFailed
from ops.cli.options import (
    DEFAULT_DATA,
    ChannelName,
    Data,
    Format,
    From,
    Pace,
    Redis,
    Tenant,
    To,
    Types,
    channel_of,
    new_app,
    pace_of,
    run,
)
from ops.cli.output import line

if TYPE_CHECKING:
    from ops.cli.selection import Selection
    from streams.channel import Channel

app = new_app()
_START: Final = "0"
"""The cursor before the first event."""


@app.command()
def replay(
    channel: ChannelName,
    tenant: Tenant,
    after: Annotated[str, typer.Option(help="Start after the event with this ID; 0 is the beginning.")] = _START,
    from_: From = "",
    to: To = "",
    types: Types = "",
    speed: Annotated[str, typer.Option(help="`max`, `1x` for the original pace, or `10x` for ten times that.")] = "max",
    format: Annotated[Format | None, typer.Option(help="Default: text on a terminal, else jsonl.")] = None,  # noqa: A002 - the flag's name
    redis: Redis = "",
    data: Data = DEFAULT_DATA,
) -> None:
    """Print the events in order, one per line; exit with 1 if some are missing or damaged, or the channel was deleted.

    Example: hub replay conversation:42 --tenant acme --types 'chat.*' --from 2026-11-23T00:00:00Z
    """
    from ops.cli.selection import selection_of

    place = channel_of(tenant, channel)
    wanted = selection_of(after, from_, to, types)
    run(_replay(redis, data, place, wanted, pace_of(speed), format))


async def _replay(redis: str, data: Path, channel: Channel, wanted: Selection, pace: Pace, form: Format | None) -> None:
    import asyncio

    from ops.cli.log_access import stored_log_at
    from ops.cli.selection import Holes, selected
    from streams.audit.sources import LoggedHistories
    from streams.cursor import id_order

    name, holes = channel.wire.encode(), Holes()
    async with stored_log_at(redis, data, opens=True) as log:
        source = LoggedHistories(log)
        first_ms: int | None = None
        begun = asyncio.get_running_loop().time()
        async for entry in selected(source, channel, wanted, holes):
            at_ms = id_order(entry.id.decode())[0]
            first_ms = at_ms if first_ms is None else first_ms
            await pace.wait_until(begun, (at_ms - first_ms) / 1000)
            print(line(entry.wire(name), form), flush=pace.is_limited)
    if holes.deleted or holes.told:
        raise CommandFailed((holes.deleted or [f"this is not all: {told}" for told in holes.told])[0])
