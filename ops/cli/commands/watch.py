"""Watch all channels of a tenant as they are written."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from ops.cli.options import DEFAULT_DATA, DEFAULT_TENANT, Data, Format, Redis, new_app, run
from ops.cli.output import is_terminal, sentence

if TYPE_CHECKING:
    from ops.cli.channel_watch import Written

app = new_app()
_INTERVAL_S: Final = 0.5


@app.command()
def watch(
    pattern: Annotated[
        str,
        typer.Argument(
            help="Channels to watch: kind:name, or only a name to match it in every kind; * stands for any text."
        ),
    ] = "*",
    tenant: Annotated[str, typer.Option("--tenant", help="The tenant whose channels are watched.")] = DEFAULT_TENANT,
    count: Annotated[int, typer.Option(help="Stop after this many events; 0 means no limit.", min=0)] = 0,
    limit: Annotated[int, typer.Option(help="Maximum number of channels to watch.", min=1, max=10_000)] = 1_000,
    interval: Annotated[float, typer.Option(help="Seconds between two reads of the log.", min=0.1)] = _INTERVAL_S,
    format: Annotated[Format | None, typer.Option(help="Default: text on a terminal, else jsonl.")] = None,  # noqa: A002 - the flag's name
    redis: Redis = "",
    data: Data = DEFAULT_DATA,
) -> None:
    """Print each event that is stored from now on, one per line, until Ctrl-C.

    It reads the log, not the hub. If a channel gets more than 64 events between two reads, only the newest 64 are printed, and
    the number of skipped ones is reported on stderr. Signals, such as typing, are not stored and not printed.

    Example: hub watch 'conversation:*' --tenant acme
    """
    run(_watch(pattern, tenant, (limit, interval, count), format, redis, data))


async def _watch(
    pattern: str, tenant: str, bounds: tuple[int, float, int], form: Format | None, redis: str, data: Path
) -> None:
    from ops.cli.channel_watch import written_events
    from ops.cli.log_access import stored_log_at

    limit, interval_s, count = bounds
    printed = 0
    async with stored_log_at(redis, data, opens=True) as log:
        async for one in written_events(log, tenant, pattern, limit=limit, interval_s=interval_s):
            if one.skipped:
                print(f"skipped: {one.skipped} older events of {one.channel}", file=sys.stderr, flush=True)
            print(_line(one, form), flush=True)
            printed += 1
            if printed == count:
                return


def _line(one: Written, form: Format | None) -> str:
    if (form or (Format.TEXT if is_terminal() else Format.JSONL)) is Format.JSONL:
        return one.raw.decode()
    return f"{one.channel:<32}  {sentence(json.loads(one.raw))}"
