"""A page far from the head is read by XRANGE but for its beginning: the same events, bounds and holes as by the script."""

from __future__ import annotations

import asyncio

import pytest

from streams.channel import Channel, parse_channel
from streams.cursor import START
from streams.envelope import Actor, Draft, Entry
from streams.redis.log import Log
from streams.redis.replay import LONG_EVENTS, PAGE_BYTES, PAGE_EVENTS, PLAIN_EVENTS
from streams.redis.server_check import count_commands

BEFORE_LONG = 16  # as in scripts/page.lua
EVENTS = LONG_EVENTS + 2 * PAGE_EVENTS


@pytest.fixture
def channel(tenant: str) -> Channel:
    return parse_channel(tenant, "conversation:long")


async def fill(log: Log, channel: Channel, sizes: list[int]) -> None:
    """Messages of so many bytes."""
    for first in range(0, len(sizes), 500):
        drafts = (
            Draft(channel, "chat.message", b'{"text":"%b"}' % (b"x" * size), Actor("user", "alice"))
            for size in sizes[first : first + 500]
        )
        await asyncio.gather(*map(log.append, drafts))


async def pages_of(log: Log, channel: Channel) -> list[list[Entry]]:
    """All pages of the channel, from its beginning."""
    found: list[list[Entry]] = []
    while page := await log.page(channel, found[-1][-1].id.decode() if found else START):
        found.append(page)
    return found


async def test_all_events_arrive_once_and_what_was_added_by_hand_does_not(log: Log, channel: Channel) -> None:
    """In full pages, until the head is near; foreign entries are passed over in every part of a page."""
    await fill(log, channel, [20] * 300)
    stream, calls = log.keys.of(channel).stream, log.calls_of(channel)
    for fields in (("note", "by hand"), ("seq", "7"), ("seq", "x", *("y",) * 12)):
        await calls.call("XADD", stream, "*", *fields)
    for _ in range(PLAIN_EVENTS + 1):
        await calls.call("XADD", stream, "*", "more", "of them")
    await fill(log, channel, [20] * (EVENTS - 300))

    pages = await pages_of(log, channel)

    seqs = [entry.seq for page in pages for entry in page if not entry.is_damaged]
    assert seqs == list(range(1, EVENTS + 1))
    assert [entry.seq for page in pages for entry in page if entry.is_damaged] == [0]  # the third looks like an event
    assert max(map(len, pages)) == PAGE_EVENTS
    assert len(pages) < EVENTS / PAGE_EVENTS + 4


async def range_calls(log: Log, channel: Channel) -> int:
    """Number of XRANGE calls that the server has seen, scripts' included."""
    return (await count_commands(log.calls_of(channel))).get("xrange", 0)


async def test_only_far_from_the_head_it_is_read_plainly(log: Log, channel: Channel) -> None:
    """The script reads 32 events at a time; two pages of the four are read 64 at a time but for their beginnings."""
    await fill(log, channel, [20] * EVENTS)
    before = await range_calls(log, channel)

    assert len(await pages_of(log, channel)) == 4

    calls = await range_calls(log, channel) - before
    script = -(-PAGE_EVENTS // 32)
    assert calls <= 2 * (-(-PAGE_EVENTS // PLAIN_EVENTS) + 1) + 2 * (script + 1) + 1


async def test_one_page_at_a_time_is_read_plainly(log: Log, channel: Channel) -> None:
    """Also of those that begin together, as after an outage: nothing bounds the bytes of such a read but the number of events."""
    await fill(log, channel, [20] * EVENTS)
    before = await range_calls(log, channel)

    pages = await asyncio.gather(*(log.page(channel) for _ in range(8)))

    assert await range_calls(log, channel) - before <= 8 + -(-PAGE_EVENTS // PLAIN_EVENTS)
    assert sorted(map(len, pages))[-2:] == [BEFORE_LONG, PAGE_EVENTS]
    assert all(page == max(pages, key=len)[: len(page)] for page in pages)


async def test_a_page_ends_at_a_hole(log: Log, channel: Channel) -> None:
    """The reader meets the hole at the beginning of the next page, and sees that nothing joins it to the last."""
    await fill(log, channel, [20] * EVENTS)
    (first, *_) = await pages_of(log, channel)
    await log.calls_of(channel).call("XDEL", log.keys.of(channel).stream, first[99].id)

    before, after, *_ = await pages_of(log, channel)

    assert [entry.seq for entry in before] == list(range(1, 100))
    assert after[0].seq == 101


async def test_a_flipped_bit_is_found_in_every_part_of_a_page(log: Log, channel: Channel) -> None:
    """The event is returned as damaged, with its seq."""
    await fill(log, channel, [20] * 40)
    names = log.keys.of(channel)
    crossed = Channel(channel.tenant, channel.kind, "other")
    await fill(log, crossed, [20])
    (foreign,) = await log.calls_of(crossed).call("XRANGE", log.keys.of(crossed).stream, "-", "+")
    fields = list(foreign[1])
    fields[1] = b"41"  # the checksum is of another channel
    await log.calls_of(channel).call("XADD", names.stream, "*", *fields)
    await log.calls_of(channel).call("HSET", names.meta, "seq", 41)
    await fill(log, channel, [20] * (EVENTS - 41))

    (first, *_) = await pages_of(log, channel)

    assert [entry.seq for entry in first if entry.is_damaged] == [41]
    assert len(first) == PAGE_EVENTS


async def test_bytes_are_bounded_where_events_suddenly_are_large(log: Log, channel: Channel) -> None:
    """A page ends at 256 KiB, however small the events before were."""
    await fill(log, channel, [20] * 100 + [60_000] * 30 + [20] * EVENTS)

    pages = await pages_of(log, channel)

    assert [entry.seq for page in pages for entry in page] == list(range(1, EVENTS + 131))
    assert max(sum(len(entry.data) for entry in page) for page in pages) <= PAGE_BYTES


async def test_pages_on_the_wire_are_the_same_events(log: Log, channel: Channel) -> None:
    """Line by line, in the same pages."""
    await fill(log, channel, [20] * EVENTS)
    after, lines = START, list[bytes]()
    while (page := await log.replay.wire_page(channel, after)).read_count:
        assert page.first_seq == len(lines) + 1
        lines += page.lines
        assert page.last_seq == len(lines)
        after = page.last_id

    entries = [entry for page in await pages_of(log, channel) for entry in page]
    assert lines == [entry.wire(channel.wire.encode()) for entry in entries]
