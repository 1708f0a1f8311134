"""Send a message to a conversation."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from ops.cli.hub_access import Access, access_to
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

app = new_app()


@app.command()
def send(
    channel: Annotated[str, typer.Argument(help="A conversation, such as conversation:42.")],
    text: Annotated[str, typer.Argument(help="The text of the message.")],
    url: Url = "",
    data: Data = DEFAULT_DATA,
    token: Token = "",
    user: User = DEFAULT_USER,
    tenant: Tenant = DEFAULT_TENANT,
) -> None:
    """Send a `chat.message` and print its id and seq once it is stored."""
    run(_send(access_to(url, data, token, user, tenant), channel_of(tenant, channel).wire, text))


async def _send(access: Access, channel: str, text: str) -> None:
    async with access.connected() as hub:
        stored = await hub.send(channel, text)
    if is_terminal():
        print(f"stored as #{stored.seq}, id {stored.id} ({stored.durability})")
    else:
        print(json.dumps({"id": stored.id, "seq": stored.seq, "durability": stored.durability}))
