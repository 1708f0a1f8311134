"""Import chat logs into a channel: `hub import irc FILE`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ops.cli.failure import CommandFailed
from ops.cli.options import DEFAULT_DATA, Data, Pace, Redis, Tenant, channel_of, new_app, pace_of, run
from ops.cli.output import ProgressBar

if TYPE_CHECKING:
    from ops.importing.irc import IrcEvent
    from streams.channel import Channel

app = new_app()


@app.callback()
def import_() -> None:
    """Import chat logs into a channel.

    Example: hub import irc ubuntu.txt --channel conversation:ubuntu --tenant acme
    """


@app.command()
def irc(
    file: Annotated[Path, typer.Argument(help="A log in irssi's format.", exists=True, dir_okay=False, readable=True)],
    channel: Annotated[str, typer.Option(help="kind:name, such as conversation:ubuntu.")],
    tenant: Tenant,
    speed: Annotated[str, typer.Option(help="`max`, `1x` for the original pace, or `10x` for ten times that.")] = "max",
    redis: Redis = "",
    data: Data = DEFAULT_DATA,
) -> None:
    """Append messages, joins and leaves. Importing a log again adds only what is missing.

    Example: hub import irc ubuntu.txt --channel conversation:ubuntu --tenant acme
    """
    from ops.importing.irc import date_in, parse, source_id

    place = channel_of(tenant, channel)
    text = file.read_text(encoding="utf-8", errors="replace")
    lines = text.splitlines()
    events = list(parse(lines, date_in(file.name)))
    if not events:
        raise CommandFailed(f"{file} is not an IRC log: it has no line like `[04:59] <ra> hello`")
    run(_import(redis, data, place, events, source_id(file.name, lines[0]), pace_of(speed)))


async def _import(redis: str, data: Path, channel: Channel, events: list[IrcEvent], source: str, pace: Pace) -> None:
    import asyncio

    from ops.cli.log_access import log_at, own_writer
    from ops.importing.importer import Import
    from ops.importing.irc import drafts, offsets_s

    due_s = offsets_s(events)
    begun = time.monotonic()
    own = own_writer("hub import", channel.tenant, is_alone=False)
    async with log_at(redis, data, may_begin=True, writer=own) as log:
        job = Import(log, list(drafts(events, channel, source)), f"import:{channel.path}:{source}")
        loop_begun = asyncio.get_running_loop().time()
        due = (lambda number: pace.due(loop_begun, due_s[number])) if pace.is_limited else None
        with ProgressBar("import", len(events)) as progress:
            await job.run(due, progress.show)
    took_s = time.monotonic() - begun
    progress.finish(
        {
            "channel": channel.wire,
            "events": len(events),
            "added": job.added,
            "present": len(events) - job.added,
            "seconds": round(took_s, 3),
            "events_per_s": round(job.added / took_s),
        }
    )
