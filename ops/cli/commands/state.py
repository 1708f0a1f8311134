"""Show a channel's current state, or its state after an event or at a time."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ops.cli.options import DEFAULT_DATA, ChannelName, Data, Redis, Tenant, channel_of, last_of, new_app, run
from ops.cli.output import is_terminal
from ops.cli.state_screen import state_lines

if TYPE_CHECKING:
    from projections.own import OwnProjections
    from streams.channel import Channel

app = new_app()


@app.command()
def state(
    channel: ChannelName,
    tenant: Tenant,
    at: Annotated[str, typer.Option(help="An event ID or an RFC 3339 time, inclusive.  [default: now]")] = "",
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON on a terminal too; in a pipe, JSON is always printed.")
    ] = False,
    redis: Redis = "",
    data: Data = DEFAULT_DATA,
) -> None:
    """Print the state as readable text; in a pipe, `epoch`, `state` and `state_at` as one JSON object.

    Example: hub state conversation:42 --tenant acme --at 2026-11-23T04:59:00Z
    """
    from hub.config import Settings
    from ops.cli.extensions import extensions_of

    place = channel_of(tenant, channel)
    own = extensions_of(Settings.from_env(os.environ)).projections
    found = run(_fold(redis, data, place, last_of(at, "--at") if at else "+", own))
    if is_terminal() and not as_json:
        print("\n".join(state_lines(place.wire, found)))
    else:
        print(json.dumps(found, ensure_ascii=False, indent=2 if is_terminal() else None))


async def _fold(redis: str, data: Path, channel: Channel, upto: str, own: OwnProjections) -> dict[str, Any]:
    from ops.cli.log_access import record_of, stored_log_at
    from projections.channel_state import ChannelState
    from projections.errors import BrokenEvent

    async with stored_log_at(redis, data, opens=True) as log:
        record = await record_of(log, channel)
        folded = ChannelState.begin(channel, own)
        while page := await log.page(channel, folded.id, upto=upto):
            for entry in page:
                try:
                    folded.advance(entry)
                except BrokenEvent as broken:
                    print(f"skipped: {broken}", file=sys.stderr)
    return {"epoch": record.epoch, "state": json.loads(folded.render()), "state_at": folded.seq}
