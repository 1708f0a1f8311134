"""Cancel a run."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from ops.cli.failure import CommandFailed
from ops.cli.options import (
    DEFAULT_DATA,
    DEFAULT_TENANT,
    DEFAULT_USER,
    Data,
    Tenant,
    Token,
    Url,
    User,
    channel_of,
    new_app,
    run,
)
from ops.cli.output import is_terminal

if TYPE_CHECKING:
    from ops.cli.hub_access import Access

app = new_app()


@app.command(
    epilog="Examples: hub cancel conversation:42; hub cancel conversation:42 r1; hub cancel agent:demo r1 --force"
)
def cancel(
    channel: Annotated[str, typer.Argument(help="The channel that the run is in.")],
    run_id: Annotated[str, typer.Argument(help="The run; may be omitted if only one is in progress.")] = "",
    force: Annotated[bool, typer.Option("--force", help="Do not let the agent finish what it is doing.")] = False,
    url: Url = "",
    data: Data = DEFAULT_DATA,
    token: Token = "",
    user: User = DEFAULT_USER,
    tenant: Tenant = DEFAULT_TENANT,
) -> None:
    """Cancel a run, even one that is waiting for an answer; the runs queued behind it continue."""
    from ops.cli.hub_access import access_to

    run(_cancel(access_to(url, data, token, user, tenant), channel_of(tenant, channel).wire, run_id, force))


async def _cancel(access: Access, channel: str, run_id: str, is_forced: bool) -> None:
    async with access.connected() as hub:
        runs = (await hub.state(channel)).state.get("active_runs", [])
        if not run_id and len(runs) != 1:
            shown = ", ".join(f"{one['run_id']} ({one['agent']}, {one['state']})" for one in runs)
            raise CommandFailed(
                f"several runs are under way in {channel}, name one: {shown}"
                if runs
                else f"no run is under way in {channel}"
            )
        wanted = run_id or str(runs[0]["run_id"])
        payload = {"run_id": wanted, "mode": "force" if is_forced else "graceful"}
        stored = (await hub.command("agent.cancel", channel, payload)).stored
    if is_terminal():
        print(f"cancelling {wanted}")
    else:
        print(json.dumps({"run_id": wanted, "id": stored.id, "seq": stored.seq}))
