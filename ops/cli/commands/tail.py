"""Follow a channel live, as a client does."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Final

import typer

from ops.cli.options import (
    DEFAULT_DATA,
    DEFAULT_TENANT,
    DEFAULT_USER,
    ChannelName,
    Data,
    Format,
    Tenant,
    Token,
    Url,
    User,
    channel_of,
    event_id,
    new_app,
    run,
)
from ops.cli.output import line

if TYPE_CHECKING:
    from hub.client import Event, Signal
    from ops.cli.hub_access import Access

app = new_app()
_LIVE: Final = "$"
"""The cursor after the last event."""


@app.command()
def tail(
    channel: ChannelName,
    after: Annotated[
        str, typer.Option(help="Start after the event with this ID; 0 is the beginning, $ is now.")
    ] = _LIVE,
    signals: Annotated[
        bool, typer.Option(help="Include events that are not stored: typing, presence and deltas.")
    ] = False,
    format: Annotated[Format | None, typer.Option(help="Default: text on a terminal, else jsonl.")] = None,  # noqa: A002 - the flag's name
    count: Annotated[int, typer.Option(help="Stop after this many events; 0 means no limit.", min=0)] = 0,
    url: Url = "",
    data: Data = DEFAULT_DATA,
    token: Token = "",
    user: User = DEFAULT_USER,
    tenant: Tenant = DEFAULT_TENANT,
) -> None:
    """Print events as they arrive, until Ctrl-C. Lost connections are resumed; gaps are reported on stderr.

    Example: hub tail conversation:42 --after 0
    """
    from ops.cli.hub_access import access_to

    output, start = TailFormat(format, count), after if after == _LIVE else event_id(after, "--after")
    run(_tail(access_to(url, data, token, user, tenant), channel_of(tenant, channel).wire, start, signals, output))


async def _tail(access: Access, channel: str, after: str, signals: bool, output: TailFormat) -> None:
    from hub.client import Event, Gap, Signal

    async with access.connected() as hub:
        feed = hub.subscribe(channel, after=after, state=False, presence=signals, signals=signals, on_gap="report")
        async for item in feed:
            if isinstance(item, Gap):
                lost = {"gap": item.reason, "from_seq": item.from_seq, "to_seq": item.to_seq, "head": item.head.after}
                print(json.dumps(lost), file=sys.stderr, flush=True)
            elif isinstance(item, Event | Signal) and output.is_last(item):
                return


@dataclass(slots=True)
class TailFormat:
    """Prints events, up to a maximum number."""

    form: Format | None
    count: int
    printed: int = 0

    def is_last(self, item: Event | Signal) -> bool:
        """Print one event; true if it was the last one to print."""
        print(line(item.raw, self.form), flush=True)
        self.printed += 1
        return self.printed == self.count
