"""Reading what is stored: one look at a channel, and its events page by page."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

import hiredis

from streams.channel import Channel
from streams.cursor import Look, Position
from streams.envelope import Entry
from streams.errors import LogUnavailable
from streams.redis.keys import Keys
from streams.redis.limits import DEFAULT_LIMITS, Limits
from streams.redis.scripts import Script, load
from streams.redis.wire import Reply, Wire

LOOK: Final = load("look")
TRIM: Final = load("trim")
PAGE_EVENTS: Final = 500
"""Events read at a time: large enough to amortise the call, small enough that Redis serves others in between."""
_AWAY: Final = ("LOADING", "READONLY", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "BUSY ", "OOM", "MISCONF", "NOREPLICAS")
"""Refusals that end by themselves or by an operator: the same call may be made again."""


def read_entry(raw: list[Reply]) -> Entry:
    """An entry of an events lane as XRANGE and XREAD return it: `[id, [name, value, …]]`, the fields in stored order."""
    f = raw[1]
    return Entry(raw[0], int(f[1]), f[3], f[5], f[7], f[9], f[11])


def read_live_entry(raw: list[Reply]) -> Entry:
    """An entry of a live lane: the same fields without seq."""
    f = raw[1]
    return Entry(raw[0], 0, f[1], f[3], f[5], f[7], f[9])


def unbroken(entries: list[Entry], after_seq: int) -> list[Entry]:
    """The entries that follow `after_seq` without a hole: all of them, or those before the first that is missing."""
    if entries and entries[0].seq == after_seq + 1 and entries[-1].seq == after_seq + len(entries):
        return entries
    count = 0
    while count < len(entries) and entries[count].seq == after_seq + 1 + count:
        count += 1
    return entries[:count]


class Replay:
    """Reads channels over one pipelined wire, so a thousand resumes share round trips."""

    def __init__(
        self, keys: Keys, wire: Callable[[], Wire | None], new_epoch: Callable[[], str], limits: Limits = DEFAULT_LIMITS
    ) -> None:
        self._keys = keys
        self._limits = limits
        self._wire_now = wire
        self._new_epoch = new_epoch

    @property
    def _wire(self) -> Wire:
        wire = self._wire_now()
        if wire is None:
            raise LogUnavailable("Redis is away")
        return wire

    async def command(self, *args: bytes | str | int) -> Reply:
        """One command of the log's own modules over the shared wire.

        Raises:
            LogUnavailable: Redis is away.
        """
        return await self._called(self._wire.call(*args))

    async def run(self, script: Script, *args: bytes | str | int) -> Reply:
        """One script likewise: the number of keys, the keys, the arguments."""
        return await self._called(self._wire.run_script(script, *args))

    @staticmethod
    async def _called(call: Awaitable[Reply]) -> Reply:
        try:
            return await call
        except hiredis.ReplyError as error:
            if not str(error).startswith(_AWAY):
                raise
            raise LogUnavailable(f"Redis cannot do this now: {error}") from error

    async def look(self, channel: Channel, after: str | None = None) -> Look:
        """Head, floor, epoch, and the events around `after`, all of one moment. Fixes the epoch of a new channel."""
        keys = self._keys.of(channel)
        r = await self.run(
            LOOK, 4, keys.stream, keys.meta, keys.live, self._keys.bell(keys.partition), self._new_epoch(), after or "",
            self._limits.bell_entries, channel.path,
        )  # fmt: skip
        head, floor = _position(r[1], r[2]), _position(r[3], r[4])
        return Look(r[0].decode(), head, floor, _maybe(r[5], r[6]), _maybe(r[7], r[8]), r[9].decode())

    async def page(self, channel: Channel, after: str = "0", limit: int = PAGE_EVENTS, upto: str = "+") -> list[Entry]:
        """Up to `limit` events after `after`, oldest first, none newer than `upto`."""
        start = "-" if after == "0" else f"({after}"
        raw = await self.command(b"XRANGE", self._keys.of(channel).stream, start, upto, b"COUNT", limit)
        return [read_entry(entry) for entry in raw]

    async def page_from(self, channel: Channel, first: str, limit: int = PAGE_EVENTS) -> list[Entry]:
        """Up to `limit` events from `first` on, itself included, oldest first."""
        raw = await self.command(b"XRANGE", self._keys.of(channel).stream, first, b"+", b"COUNT", limit)
        return [read_entry(entry) for entry in raw]

    async def page_back(self, channel: Channel, before: str = "+", limit: int = PAGE_EVENTS) -> list[Entry]:
        """Up to `limit` events before `before` (exclusive; `+` is the end), newest first."""
        if before.strip("0") in {"", "-"}:  # Redis refuses the interval before 0-0
            return []
        end = before if before == "+" else f"({before}"
        raw = await self.command(b"XREVRANGE", self._keys.of(channel).stream, end, b"-", b"COUNT", limit)
        return [read_entry(entry) for entry in raw]

    async def live_entries(self, channel: Channel, after: str = "0") -> list[Entry]:
        """What the live lane holds after `after`, oldest first; the lane itself is short."""
        start = "-" if after == "0" else f"({after}"
        raw = await self.command(b"XRANGE", self._keys.of(channel).live, start, b"+")
        return [read_live_entry(entry) for entry in raw]

    async def open_texts(self, channel: Channel) -> dict[str, str]:
        """The hash kept of answers in progress (fields as scripts/append.lua writes them)."""
        raw = await self.command(b"HGETALL", self._keys.of(channel).open)
        return {raw[i].decode(): raw[i + 1].decode() for i in range(0, len(raw), 2)}

    async def trim(self, channel: Channel, upto: str) -> int:
        """Drop every event up to and with `upto` and move the floor. Returns how many went."""
        keys = self._keys.of(channel)
        reply = await self.run(TRIM, 2, keys.stream, keys.meta, upto)
        return int(reply[0])


def _position(event_id: bytes, seq: bytes) -> Position:
    return Position(event_id.decode(), int(seq))


def _maybe(event_id: bytes, seq: bytes) -> Position | None:
    return _position(event_id, seq) if event_id else None
