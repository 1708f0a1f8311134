"""A position before a channel's first event costs Redis what any other costs; anybody may name one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from streams.channel import Channel, parse_channel
from streams.records.archive import ArchiveRecords
from streams.redis.log import Log
from support.appending import fill

EVENTS = 10_000
TRIES = 5


@pytest.fixture
async def channel(log: Log, tenant: str) -> Channel:
    """A channel in which reading backwards past the first event would take Redis more than a millisecond."""
    channel = parse_channel(tenant, "conversation:long")
    await fill(log, channel, "hi", EVENTS)
    return channel


async def _walked_us(log: Log, ask: Callable[[], Awaitable[object]]) -> float:
    """The mean microseconds of XREVRANGE while something is asked; the least of a few, since others share the server."""
    found = []
    for _ in range(TRIES):
        before = await _spent(log)
        await ask()
        calls, us = (now - then for now, then in zip(await _spent(log), before, strict=True))
        found.append(us / calls if calls else 0.0)
    return min(found)


async def _spent(log: Log) -> tuple[int, int]:
    stats = (await log.redis.info("commandstats")).get("cmdstat_xrevrange", {"calls": 0, "usec": 0})
    return stats["calls"], stats["usec"]


@pytest.mark.parametrize("ask", ["look", "page", "page before the first", "trim", "keeper"])
async def test_nothing_walks_through_the_log(log: Log, channel: Channel, ask: str) -> None:
    """Redis itself does: XREVRANGE whose range ends before the first entry looks at every entry there is."""
    (first,) = await log.page(channel, limit=1)
    asks: dict[str, Callable[[], Awaitable[object]]] = {
        "look": lambda: log.look(channel, "5"),
        "page": lambda: log.replay.page_back(channel, "5"),
        "page before the first": lambda: log.replay.page_back(channel, first.id.decode()),
        "trim": lambda: log.replay.trim(channel, "5"),
        "keeper": lambda: ArchiveRecords(log).newest_until(channel, 5),
    }

    walked_us = await _walked_us(log, asks[ask])
    redis_walks_us = await _walked_us(log, lambda: log.redis.xrevrange(log.keys.of(channel).stream, "5", "-", count=1))

    assert walked_us < redis_walks_us / 5
