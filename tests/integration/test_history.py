"""Pages of history: forward and back, by type and time, at their bounds, and what is said of a gap."""

from __future__ import annotations

from typing import Any

import pytest

from hub.handlers.history import HistoryQuery, Page, read_history
from streams.channel import Channel, Kind
from streams.cursor import Gap, GapReason
from streams.envelope import Actor, Draft
from streams.events.channels import ChannelHistory
from streams.redis.log import Log

TRIMMED = Gap(GapReason.TRIMMED, 1, 2)


async def fill(log: Log, tenant: str, count: int) -> tuple[Channel, list[str]]:
    """A channel of messages, every third an edit; the IDs."""
    channel = Channel(tenant, Kind.CONVERSATION, "1")
    types = ["chat.edit" if n % 3 == 0 else "chat.message" for n in range(1, count + 1)]
    return channel, [(await log.append(Draft(channel, t, b"{}", Actor("user", "a")))).id for t in types]


async def test_pages_go_forward_and_back_without_a_hole(log: Log, tenant: str) -> None:
    """Following `next` in either direction tells every event once, oldest first in each page."""
    channel, ids = await fill(log, tenant, 25)
    forward: list[int] = []
    after: str | None = "0"
    while after is not None:
        page = await read_history(log.replay, channel, HistoryQuery(after=after, limit=10))
        forward += [entry.seq for entry in page.events]
        after = page.next
    back: list[int] = []
    before: str | None = ids[-1]
    while before is not None:
        page = await read_history(log.replay, channel, HistoryQuery(before=before, limit=10))
        back = [entry.seq for entry in page.events] + back
        before = page.next

    assert forward == list(range(1, 26))
    assert back == list(range(1, 25))


async def test_types_are_chosen_exactly_or_by_their_beginning(log: Log, tenant: str) -> None:
    """A trailing `*` matches any ending; a limit counts what is wanted, and `next` continues after it."""
    channel, _ = await fill(log, tenant, 9)

    edits = await read_history(log.replay, channel, HistoryQuery(types=("chat.edit",), limit=2))
    rest = await read_history(log.replay, channel, HistoryQuery(after=edits.next, types=("chat.edit",)))
    all_chat = await read_history(log.replay, channel, HistoryQuery(types=("chat.*", "x")))
    none = await read_history(log.replay, channel, HistoryQuery(types=("file.*",)))

    assert [e.seq for e in edits.events] == [3, 6]
    assert [e.seq for e in rest.events] == [9]
    assert (len(all_chat.events), none.events, none.next) == (9, [], None)


async def test_times_bound_a_page_inclusively(log: Log, tenant: str) -> None:
    """From and to are milliseconds, both included, in either direction and together with cursors."""
    channel = Channel(tenant, Kind.CONVERSATION, "1")
    stream = log.keys.of(channel).stream
    for seq in range(1, 11):
        fields = {"seq": seq, "type": "chat.message", "v": 1, "actor": "{}", "data": "{}", "meta": "{}"}
        await log.redis.xadd(stream, fields, id=f"{seq * 1000}-0")  # type: ignore[arg-type]

    async def seqs(**query: object) -> list[int]:
        return [e.seq for e in (await read_history(log.replay, channel, HistoryQuery(**query))).events]  # type: ignore[arg-type]

    assert await seqs(from_ms=3_000, to_ms=5_000) == [3, 4, 5]
    assert await seqs(from_ms=3_001, to_ms=4_999) == [4]
    assert await seqs(after="4000-0", from_ms=2_000, to_ms=6_000) == [5, 6]
    assert await seqs(after="1000-0", from_ms=4_000, to_ms=6_000) == [4, 5, 6]
    assert await seqs(before="9000-0", from_ms=3_000, to_ms=5_000) == [3, 4, 5]
    assert await seqs(before="4000-0", from_ms=2_000) == [2, 3]


async def test_a_page_after_a_lost_cursor_names_the_gap(log: Log, tenant: str) -> None:
    """A gap before the page is named beside it."""
    channel, ids = await fill(log, tenant, 6)
    await log.replay.trim(channel, ids[2])

    lost = await read_history(log.replay, channel, HistoryQuery(after=ids[0]))
    kept = await read_history(log.replay, channel, HistoryQuery(after=ids[2]))

    assert lost.gap == Gap(GapReason.TRIMMED, None, 3)
    assert kept.gap is None
    assert [e.seq for e in lost.events] == [e.seq for e in kept.events] == [4, 5, 6]
    assert b'"gap":{"reason":"trimmed","from_seq":null,"to_seq":3}' in lost.to_json(channel)


def test_a_query_is_read_from_the_payload() -> None:
    """RFC 3339 times become milliseconds."""
    payload = ChannelHistory.model_validate(
        {
            "after": "1-0",
            "from_time": "1970-01-01T00:00:02.5Z",
            "to_time": "1970-01-01T00:00:03Z",
            "types": ["chat.*"],
        }
    )

    assert HistoryQuery.of(payload) == HistoryQuery("1-0", None, 2_500, 3_000, ("chat.*",), payload.limit)


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
    """Events older than `from_time` are no next page."""
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
