"""List the events that handlers gave up on, and retry them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ops.cli.failure import EXIT_USAGE, CommandFailed
from ops.cli.options import DEFAULT_DATA, Data, Redis, new_app, run

app = new_app()


@app.callback(invoke_without_command=True)
def parked(
    context: typer.Context,
    handler: Annotated[
        str, typer.Option("--handler", help="Print only events that this handler gave up on.", show_default=False)
    ] = "",
    redis: Redis = "",
    data: Data = DEFAULT_DATA,
) -> None:
    """Print one line per event: id, handler, channel, event, type, attempts, reason.

    Example: hub parked, then hub parked retry 3:1795367479511-0
    """
    if context.invoked_subcommand is None:
        run(_list(handler, redis, data))


@app.command()
def retry(
    parked_id: Annotated[
        str, typer.Argument(metavar="ID", help="An ID from `hub parked`, such as 3:1795367479511-0, or `all`.")
    ],
    handler: Annotated[
        str,
        typer.Option(
            "--handler", help="With `all`: retry only events that this handler gave up on.", show_default=False
        ),
    ] = "",
    redis: Redis = "",
    data: Data = DEFAULT_DATA,
) -> None:
    """Retry events with the handler that gave up on them; attempts are counted from 1 again.

    Example: hub parked retry all --handler teams
    """
    run(_retry(parked_id, handler, redis, data))


async def _list(handler: str, redis: str, data: Path) -> None:
    from ops.cli.log_access import stored_log_at
    from streams.redis.groups import list_parked

    async with stored_log_at(redis, data) as log:
        for row in await list_parked(log.keys, log.calls_in, handler or None):
            reason = row.reason.replace("\n", " ")
            print(f"{row.id}  {row.group}  {row.path}  {row.event}  {row.type}  {row.attempts}  {reason}")


async def _retry(parked_id: str, handler: str, redis: str, data: Path) -> None:
    from ops.cli.log_access import log_at, own_writer
    from streams.records.writers import NO_TENANT
    from streams.redis.groups import Groups, parse_parked_id

    try:
        if parked_id != "all":
            parse_parked_id(parked_id)
    except ValueError as error:
        raise CommandFailed(str(error), EXIT_USAGE) from error
    own = own_writer("hub parked retry", NO_TENANT, is_alone=False)
    async with log_at(redis, data, may_begin=False, writer=own) as log:
        groups = Groups(log)
        ids = [row.id for row in await groups.parked(handler or None)] if parked_id == "all" else [parked_id]
        for one in ids:
            if not await groups.put_back(one):
                raise CommandFailed(f"nothing is parked under {one}; `hub parked` lists what is")
            print(f"{one} will be retried")
