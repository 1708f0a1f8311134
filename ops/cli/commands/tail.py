"""Follow a channel live, from a cursor on, as any client would."""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer

from hub.client import Event, Gap, HubClient, Signal
from ops.cli.app import new_app, run
from ops.cli.identity import token_of
from ops.cli.options import DEFAULT_TENANT, DEFAULT_URL, DEFAULT_USER, Tenant, Token, Url, User
from ops.cli.output import Format, line

app = new_app()


@app.command()
def tail(
    channel: Annotated[str, typer.Argument(help="kind:name, such as conversation:42.")],
    after: Annotated[str, typer.Option(help="Begin after this event id; 0 is the start, $ is now.")] = "$",
    signals: Annotated[bool, typer.Option(help="Also what is not stored: typing, presence, deltas.")] = False,
    format: Annotated[Format | None, typer.Option(help="Default: text on a terminal, else jsonl.")] = None,  # noqa: A002 - the flag's name
    url: Url = DEFAULT_URL,
    token: Token = "",
    user: User = DEFAULT_USER,
    tenant: Tenant = DEFAULT_TENANT,
) -> None:
    """Print events as they come, until Ctrl-C. Lost connections are resumed; a gap is told on stderr."""
    run(_tail(url, token_of(token, user, tenant), channel, after, signals, format))


async def _tail(url: str, token: str, channel: str, after: str, signals: bool, form: Format | None) -> None:
    async with HubClient(url, token) as hub:
        feed = hub.subscribe(channel, after=after, state=False, presence=signals, signals=signals, on_gap="report")
        async for item in feed:
            if isinstance(item, Event | Signal):
                print(line(item.raw, form), flush=True)
            elif isinstance(item, Gap):
                lost = {"gap": item.reason, "from_seq": item.from_seq, "to_seq": item.to_seq, "head": item.head.after}
                print(json.dumps(lost), file=sys.stderr, flush=True)
