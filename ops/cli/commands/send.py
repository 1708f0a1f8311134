"""Send a message to a conversation."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

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


@app.command()
def send(
    channel: Annotated[str, typer.Argument(help="The conversation, such as conversation:42.")],
    text: Annotated[str, typer.Argument(help="The text of the message.")],
    agent: Annotated[str, typer.Option(help="The agent to answer the message; use `hub ask` to see the answer.")] = "",
    url: Url = "",
    data: Data = DEFAULT_DATA,
    token: Token = "",
    user: User = DEFAULT_USER,
    tenant: Tenant = DEFAULT_TENANT,
) -> None:
    """Send a message and print its ID and seq once it is stored.

    Example: hub send conversation:42 'Good morning'
    """
    from ops.cli.hub_access import access_to

    run(_send(access_to(url, data, token, user, tenant), channel_of(tenant, channel).wire, text, agent))


async def _send(access: Access, channel: str, text: str, agent: str) -> None:
    async with access.connected() as hub:
        stored = await hub.send(channel, text, **({"agent": agent} if agent else {}))
    if is_terminal():
        run_id = stored.payload.get("run_id")
        print(f"stored as #{stored.seq}, id {stored.id} ({stored.durability})" + (f", run {run_id}" if run_id else ""))
    else:
        names = ("id", "seq", "durability", "run_id")
        print(json.dumps({name: stored.payload[name] for name in names if name in stored.payload}))
