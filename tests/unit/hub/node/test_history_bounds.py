"""Where a page of history ends: at a time, or at the oldest event that is kept."""

from __future__ import annotations

from typing import Any

import pytest

from hub.handlers.history import HistoryQuery, Page, read_history
from streams.channel import Channel, Kind
from streams.cursor import Gap, GapReason
from streams.redis.log import Log

TRIMMED = Gap(GapReason.TRIMMED, 1, 2)


async def kept(log: Log, tenant: str, *seqs: int) -> Channel:
    """A channel that keeps these events, one a second."""
    channel = Channel(tenant, Kind.CONVERSATION, "1")
    for seq in seqs:
        fields = {"seq": seq, "type": "chat.message", "v": 1, "actor": "{}", "data": "{}", "meta": "{}"}
        await log.redis.xadd(log.keys.of(channel).stream, fields, id=f"{seq}000-0")  # type: ignore[arg-type]  # redis-py's stubs want one type of value
    return channel


def told(page: Page) -> tuple[list[int], str | None, Gap | None]:
    return [entry.seq for entry in page.events], page.next, page.gap


async def test_a_full_page_back_to_the_first_time_asked_is_the_last(log: Log, tenant: str) -> None:
    """What is older than `from_time` is no next page."""
    channel = await kept(log, tenant, 1, 2, 3, 4, 5)

    full = await read_history(log.replay, channel, HistoryQuery(before="5000-0", from_ms=2_000, limit=3))
    short = await read_history(log.replay, channel, HistoryQuery(before="5000-0", from_ms=2_000, limit=2))

    assert told(full) == ([2, 3, 4], None, None)
    assert told(short) == ([3, 4], "3000-0", None)


async def test_who_reads_from_the_beginning_is_told_that_it_is_not_there(log: Log, tenant: str) -> None:
    """The oldest event kept is not taken for the first, whichever way one reads."""
    channel = await kept(log, tenant, 3, 4, 5)

    async def page(**query: Any) -> tuple[list[int], str | None, Gap | None]:
        return told(await read_history(log.replay, channel, HistoryQuery(**query)))

    assert await page(limit=2) == ([3, 4], "4000-0", TRIMMED)
    assert await page(before="5000-0", limit=1) == ([4], "4000-0", None)
    assert await page(before="5000-0", limit=2) == ([3, 4], None, TRIMMED)
    assert await page(before="5000-0") == ([3, 4], None, TRIMMED)
    assert await page(from_ms=1_000) == ([3, 4, 5], None, None)


async def test_a_page_of_large_events_ends_early_and_goes_on(
    log: Log, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thousand of the largest events would be half a gigabyte in one answer; `next` leads through all, either way."""
    monkeypatch.setattr("hub.handlers.history.PAGE_BYTES_MAX", 4)  # the events here have two bytes each
    channel = await kept(log, tenant, 1, 2, 3, 4, 5)

    async def page(**query: Any) -> tuple[list[int], str | None, Gap | None]:
        return told(await read_history(log.replay, channel, HistoryQuery(**query)))

    assert await page(limit=1_000) == ([1, 2], "2000-0", None)
    assert await page(after="2000-0") == ([3, 4], "4000-0", None)
    assert await page(after="4000-0", types=("chat.*",)) == ([5], None, None)
    assert await page(before="5000-0") == ([3, 4], "3000-0", None)
    assert await page(before="3000-0") == ([1, 2], None, None)
