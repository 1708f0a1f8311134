"""Print a channel's events as the log stores them."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from ops.cli.failure import EXIT_USAGE, CommandFailed
from ops.cli.options import (
    DEFAULT_DATA,
    Data,
    Format,
    Pace,
    Redis,
    Tenant,
    channel_of,
    event_id,
    milliseconds,
    new_app,
    pace_of,
    run,
)
from ops.cli.output import line

if TYPE_CHECKING:
    from streams.channel import Channel
    from streams.cursor import Position
    from streams.envelope import Entry
    from streams.redis.stored import StoredLog

app = new_app()

_START: Final = "0"
"""The cursor before the first event."""
_LAST_OF_MS: Final = 2**64 - 1
"""The largest sequence number of a stream ID; the next ID belongs to the next millisecond."""


@dataclass(frozen=True, slots=True)
class Selection:
    """The events to print: after a cursor, up to a stream ID (inclusive), of some types."""

    after: str
    upto: str
    types: tuple[str, ...]

    def takes(self, entry: Entry) -> bool:
        """True if the event's type is selected; `*` matches any text."""
        return not self.types or any(fnmatchcase(entry.type.decode(), pattern) for pattern in self.types)


@app.command()
def replay(
    channel: Annotated[str, typer.Argument(help="kind:name, such as conversation:42.")],
    tenant: Tenant,
    after: Annotated[str, typer.Option(help="Start after the event with this ID; 0 is the beginning.")] = _START,
    from_: Annotated[
        str, typer.Option("--from", help="Start at this time (RFC 3339), such as 2026-11-23T04:59:00Z.")
    ] = "",
    to: Annotated[str, typer.Option(help="End at this time (RFC 3339).")] = "",
    types: Annotated[
        str, typer.Option(help="Print only these types, separated by commas; chat.* selects a whole family.")
    ] = "",
    speed: Annotated[str, typer.Option(help="`max`, `1x` for the original pace, or `10x` for ten times that.")] = "max",
    format: Annotated[Format | None, typer.Option(help="Default: text on a terminal, else jsonl.")] = None,  # noqa: A002 - the flag's name
    redis: Redis = "",
    data: Data = DEFAULT_DATA,
) -> None:
    """Print the events in order, one per line; exit with 1 if some of them are missing, removed or damaged.

    Example: hub replay conversation:42 --tenant acme --types 'chat.*' --from 2026-11-23T00:00:00Z
    """
    place = channel_of(tenant, channel)
    wanted = Selection(_begin(after, from_), _end(to), tuple(filter(None, types.split(","))))
    run(_replay(redis, data, place, wanted, pace_of(speed), format))


async def _replay(redis: str, data: Path, channel: Channel, wanted: Selection, pace: Pace, form: Format | None) -> None:
    import asyncio

    from ops.cli.log_access import record_of, stored_log_at
    from streams.cursor import id_order

    name, holes = channel.wire.encode(), Holes()
    async with stored_log_at(redis, data) as log:
        holes.begin(wanted.after, log.floor_of(await record_of(log, channel)))
        first_ms: int | None = None
        begun = asyncio.get_running_loop().time()
        async for entry in _entries(log, channel, wanted, holes):
            at_ms = id_order(entry.id.decode())[0]
            first_ms = at_ms if first_ms is None else first_ms
            await pace.wait_until(begun, (at_ms - first_ms) / 1000)
            print(line(entry.wire(name), form), flush=pace.is_limited)
    if holes.told:
        raise CommandFailed(f"this is not all of {channel.wire}: {holes.told[0]}")


class Holes:
    """Finds the places where events are missing from what was printed.

    Attributes:
        told: the sentences about them, which are printed as they are found.
    """

    def __init__(self) -> None:
        self.told: list[str] = []
        self._seq: int | None = None

    def begin(self, after: str, floor: Position) -> None:
        """Start after a cursor; events up to the floor are gone."""
        from streams.archive.cold import is_before

        if floor.seq and is_before(after, floor.id):
            self._tell(f"events up to seq {floor.seq} ({floor.id}) were removed; it begins after them")
            self._seq = floor.seq
        elif after == _START:
            self._seq = 0

    def take(self, entry: Entry) -> None:
        """Look at the next event."""
        if self._seq is not None and entry.seq > self._seq + 1:
            self._tell(f"seq {self._seq + 1} to {entry.seq - 1} are missing before event {entry.id.decode()}")
        if entry.is_damaged:
            self._tell(f"skipped: event {entry.id.decode()} (seq {entry.seq}) does not match its checksum")
        self._seq = entry.seq

    def _tell(self, sentence: str) -> None:
        self.told.append(sentence)
        print(sentence, file=sys.stderr)


async def _entries(log: StoredLog, channel: Channel, wanted: Selection, holes: Holes) -> AsyncIterator[Entry]:
    after = wanted.after
    while page := await log.page(channel, after, upto=wanted.upto):
        for entry in page:
            holes.take(entry)
            if not entry.is_damaged and wanted.takes(entry):
                yield entry
        after = page[-1].id.decode()


def _begin(after: str, from_time: str) -> str:
    if not from_time:
        return event_id(after, "--after")
    if after != _START:
        raise CommandFailed("use --after or --from, not both", EXIT_USAGE)
    return f"{max(milliseconds(from_time, '--from') - 1, 0)}-{_LAST_OF_MS}"


def _end(to_time: str) -> str:
    return str(milliseconds(to_time, "--to")) if to_time else "+"
