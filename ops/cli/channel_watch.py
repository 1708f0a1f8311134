"""Finds the events written to a tenant's channels, by reading the heads of all of them at an interval."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from typing import NamedTuple

from streams.records.directory import ListedChannel
from streams.records.listed_channels import listed_channels
from streams.redis.stored import StoredLog


class Written(NamedTuple):
    """An event that was written.

    Attributes:
        channel: its channel in wire form.
        raw: the event in its wire form.
        skipped: number of events before it that were not read.
    """

    channel: str
    raw: bytes
    skipped: int


async def written_events(
    log: StoredLog, tenant: str, pattern: str, *, limit: int, interval_s: float
) -> AsyncIterator[Written]:
    """Yields the events stored from now on, without an end; those of one channel are in the order of the log.

    Args:
        log: the log.
        tenant: the tenant.
        pattern: the channels to watch, as for `listed_channels`.
        limit: maximum number of channels.
        interval_s: seconds between two reads; each costs one small read per channel.
    """
    seen: dict[str, int] | None = None
    is_told = False
    while True:
        listed = [one async for one in _first(log, tenant, pattern, limit + 1)]
        if seen is None:
            print(f"watching {min(len(listed), limit)} channels and new ones", file=sys.stderr, flush=True)
        if len(listed) > limit and not is_told:
            print(f"more than {limit} channels match; only the first {limit} are watched: see --limit", file=sys.stderr)
            is_told = True
        heads = {one.channel.wire: one.seq for one in listed[:limit]}
        for one in listed[:limit] if seen is not None else ():
            before = (seen or {}).get(one.channel.wire, 0)
            if one.seq != before:
                async for written in _new(log, one, before):
                    yield written
        seen = heads
        await asyncio.sleep(interval_s)


async def _first(log: StoredLog, tenant: str, pattern: str, count: int) -> AsyncIterator[ListedChannel]:
    async for one in listed_channels(log, tenant, pattern):
        yield one
        count -= 1
        if not count:
            return


async def _new(log: StoredLog, one: ListedChannel, before: int) -> AsyncIterator[Written]:
    """The channel's events above `before`, up to the listed head; a log that has started over has only new ones."""
    since = before if before < one.seq else 0
    entries = await log.newest(one.channel, one.seq - since)
    skipped = one.seq - since
    for entry in entries:
        skipped = min(skipped, int(entry.seq) - since - 1)
    name = one.channel.wire.encode()
    for entry in entries:
        if since < int(entry.seq) <= one.seq:
            yield Written(one.channel.wire, entry.wire(name), max(0, skipped))
            skipped = 0
