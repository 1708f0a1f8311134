"""What a node counts, and which pages of history it answers with."""

from __future__ import annotations

import pytest

from hub.handlers.history import HistoryQuery, read_history
from hub.metrics import LATENCY_BOUNDS_MS, NodeMetrics
from streams.channel import Channel, Kind
from streams.cursor import Gap, GapReason
from streams.envelope import Actor, Draft
from streams.events.channels import ChannelHistory
from streams.redis.log import Log


@pytest.mark.parametrize(("latency_ms", "bucket"), [(0, 0), (1, 0), (1.5, 1), (5_000, 10), (5_001, 11), (-40, 0)])
def test_a_latency_falls_into_the_bucket_that_bounds_it(latency_ms: float, bucket: int) -> None:
    """Bounds are inclusive, beyond the last is +Inf, and a clock that is behind counts as nothing."""
    meters = NodeMetrics()

    meters.delivered(3, 1_000_000, (1_000_000 + latency_ms) / 1000)

    assert meters.latency_counts.index(1) == bucket
    assert sum(meters.latency_counts) == 1
    assert len(meters.latency_counts) == len(LATENCY_BOUNDS_MS) + 1
    assert meters.events_out == 3
    assert meters.latency_sum_ms >= 0


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
    """What was trimmed before the page is said beside it."""
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
