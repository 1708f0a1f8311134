"""Check a channel's events: none missing, none repeated, all in order."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from ops.cli.failure import CommandFailed
from ops.cli.log_access import log_at
from ops.cli.options import DEFAULT_DATA, Data, Redis, Tenant, channel_of, new_app, run
from streams.channel import Channel
from streams.ids import id_order

app = new_app()
FAULTS_TOLD_MAX: Final = 100
"""A broken stream may be broken at every event; the first errors say where to look."""


@app.callback()
def audit() -> None:
    """Check a channel's events: none missing, none repeated, all in order."""


@app.command()
def verify(
    channel: Annotated[str, typer.Argument(help="kind:name, such as conversation:42.")],
    tenant: Tenant,
    redis: Redis = "",
    data: Data = DEFAULT_DATA,
) -> None:
    """Print the result as one JSON object; exit with 1 if events are missing, repeated or out of order."""
    found = run(_verify(redis, data, channel_of(tenant, channel)))
    print(json.dumps(found.to_json()))
    if found.faults:
        raise CommandFailed(f"{channel} is not intact: {found.faults[0]}")


async def _verify(redis: str, data: Path, channel: Channel) -> Audit:
    async with log_at(redis, data) as log:
        look = await log.look(channel)
        found = Audit(channel.wire, look.epoch, look.floor.seq)
        after = "0"
        while page := await log.page(channel, after):
            for entry in page:
                found.take(entry.id.decode(), int(entry.seq))
            after = page[-1].id.decode()
        found.end(look.head.seq)
    return found


class Audit:
    """Checks a channel's events by their ids and sequence numbers; takes them in the order of the stream.

    Args:
        channel: as on the wire.
        epoch: the stream's epoch.
        floor_seq: the last event that was trimmed; 0 when none was.

    Attributes:
        faults: the errors found, as sentences.
    """

    def __init__(self, channel: str, epoch: str, floor_seq: int) -> None:
        self.faults: list[str] = []
        self._channel, self._epoch = channel, epoch
        self._first_seq = self._seq = floor_seq
        self._id = "0"
        self._count = 0

    def take(self, event_id: str, seq: int) -> None:
        """The next event."""
        if id_order(event_id) <= id_order(self._id):
            self._add_fault(f"event {event_id} stands behind {self._id}")
        if seq != self._seq + 1:
            self._add_fault(f"seq {seq} ({event_id}) follows {self._seq}")
        self._id, self._seq, self._count = event_id, seq, self._count + 1

    def end(self, head_seq: int) -> None:
        """Ends the check; `head_seq` was the channel's last event when it began."""
        if self._seq < head_seq:
            self._add_fault(f"the head is {head_seq}, the last event {self._seq}")

    def to_json(self) -> dict[str, Any]:
        """The report: number of events, range, errors."""
        return {
            "channel": self._channel, "epoch": self._epoch, "events": self._count, "from_seq": self._first_seq + 1,
            "to_seq": self._seq, "whole": not self.faults, "faults": self.faults,
        }  # fmt: skip

    def _add_fault(self, fault: str) -> None:
        if len(self.faults) < FAULTS_TOLD_MAX:
            self.faults.append(fault)
