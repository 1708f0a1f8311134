"""The Python client against real nodes on a real Redis: exact sequences over cuts, drains, refusals and lost streams."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator

import pytest

from hub.client import (
    ConnectionRefused,
    Cursor,
    Event,
    FileCursors,
    Gap,
    GapError,
    HubClient,
    HubError,
    Receipt,
    Signal,
    Subscribed,
    Wait,
)
from streams.channel import parse_channel
from support.nodes import Node, running_node, token

CHANNEL = "conversation:42"


@pytest.fixture
async def node(redis_url: str) -> AsyncIterator[Node]:
    async with running_node(redis_url) as running:
        yield running


async def take(subscription, count: int) -> list:
    async with asyncio.timeout(50):
        return [await anext(subscription) for _ in range(count)]


async def stored(node: Node, tenant: str, channel: str = CHANNEL) -> list[tuple[int, str, bytes]]:
    """The events of the log, as the wire writes them."""
    entries = await node.hub.log.page(parse_channel(tenant, channel), after="0", limit=10_000)
    return [(entry.seq, entry.id.decode(), entry.wire(channel.encode())) for entry in entries]


def told(events: list[Event]) -> list[tuple[int, str, bytes]]:
    return [(event.seq, event.id, event.raw) for event in events]


async def test_readers_cut_at_random_hold_what_the_log_holds(redis_url, tenant):
    """Ten readers on two nodes, reset at random while four writers write: each list equals the stream, to the byte."""
    total, dice = 600, random.Random(7)
    async with running_node(redis_url) as first, running_node(redis_url) as second, asyncio.TaskGroup() as group:
        urls = [first.url, second.url]
        jitter = random.Random(8).random
        clients = [HubClient(dice.sample(urls, 2), token(f"r{n}", tenant), jitter=jitter) for n in range(10)]
        writers = [HubClient(dice.sample(urls, 2), token(f"w{n}", tenant), jitter=jitter) for n in range(4)]
        for client in clients + writers:
            await client.connect()
        readers = [group.create_task(take(client.subscribe(CHANNEL, after="0"), total)) for client in clients]

        async def write(writer: HubClient, name: str) -> None:
            for n in range(total // 4):
                await writer.send(CHANNEL, f"{name} {n} ünïcode 🎉")
                if dice.random() < 0.1:
                    dice.choice(clients + writers).cut()

        async with asyncio.TaskGroup() as writing:
            for n, writer in enumerate(writers):
                writing.create_task(write(writer, f"w{n}"))
        taken = await asyncio.gather(*readers)
        log = await stored(first, tenant)
        for client in clients + writers:
            await client.aclose()

    assert len(log) == total
    assert [told(events) == log for events in taken] == [True] * 10
    for n in range(4):
        own = [event.payload["text"] for event in taken[0] if event.actor["id"] == f"w{n}"]
        assert own == [f"w{n} {i} ünïcode 🎉" for i in range(total // 4)]


async def test_pipelined_commands_survive_cuts_once_and_in_order(node, tenant):
    """Hundreds of commands in flight while the socket is reset again and again: stored once each, in the order given."""
    async with HubClient(node.url, token("a", tenant), jitter=random.Random(1).random) as hub:
        answers = []
        for n in range(400):
            answers.append(hub.submit("chat.message", CHANNEL, {"text": str(n)}))
            if n % 40 == 20:
                await answers[-15]
                hub.cut()
        receipts = [(await answer).stored for answer in answers]
        history = await hub.history(CHANNEL, limit=1000)

    assert [receipt.seq for receipt in receipts] == list(range(1, 401))
    assert [event.payload["text"] for event in history.events] == [str(n) for n in range(400)]
    assert told(list(history.events)) == await stored(node, tenant)


async def test_a_slow_reader_gets_everything_and_holds_little(node, tenant):
    """Two thousand events for a reader with a buffer of sixteen, while its own commands are answered."""
    async with HubClient(node.url, token("a", tenant), buffer=16) as hub:
        reader = hub.subscribe(CHANNEL, after="0")
        most = 0
        await asyncio.gather(*(hub.submit("chat.message", CHANNEL, {"text": str(n)}) for n in range(2000)))
        seqs = []
        async for event in reader:
            seqs.append(event.seq)
            most = max(most, len(reader._feed.items))
            if event.seq % 500 == 0:
                await hub.send("conversation:other", "x")
            if event.seq == 2000:
                break

    assert seqs == list(range(1, 2001))
    assert most <= reader._feed.spill + 2


async def test_a_gap_is_raised_with_range_and_state_and_can_be_passed(node, tenant):
    """After a trim the reader learns which events it will never get, and goes on from the state's place."""
    async with HubClient(node.url, token("a", tenant)) as hub:
        receipts = [await hub.send(CHANNEL, f"m{n}") for n in range(1, 6)]
        async with hub.subscribe(CHANNEL, after="0") as reader:
            first = (await take(reader, 1))[0]
        await node.hub.log.replay.trim(parse_channel(tenant, CHANNEL), receipts[2].id)
        with pytest.raises(GapError) as missing:
            await anext(hub.subscribe(CHANNEL, after=first.cursor))
        reader = hub.subscribe(CHANNEL, after=missing.value.head)
        await hub.send(CHANNEL, "next")
        (event,) = await take(reader, 1)

    gap = missing.value
    assert (gap.reason, gap.from_seq, gap.to_seq, gap.head.seq) == ("trimmed", 2, 3, 5)
    assert gap.state is not None
    assert gap.state["count"] == 5
    assert event.seq == 6


async def test_a_stream_that_vanishes_under_a_reader_is_reported(node, tenant):
    """DEL of the stream is a new epoch: the gap stands where history ended, and the new stream follows."""
    channel = parse_channel(tenant, CHANNEL)
    keys = node.hub.log.keys.of(channel)
    async with HubClient(node.url, token("a", tenant)) as hub:
        reader = hub.subscribe(CHANNEL, after="0", on_gap="report")
        await hub.send(CHANNEL, "before")
        (before,) = await take(reader, 1)
        await node.hub.log.redis.delete(keys.stream, keys.meta)
        await hub.send(CHANNEL, "lost in the state")
        (gap,) = await take(reader, 1)
        await hub.send(CHANNEL, "after")
        (after,) = await take(reader, 1)

    assert before.seq == 1
    assert isinstance(gap, Gap)
    assert gap.reason == "epoch_changed"
    assert after.seq == gap.head.seq + 1
    assert after.epoch == gap.head.epoch != before.epoch


async def test_a_drained_node_hands_its_clients_to_another(redis_url, tenant):
    """SIGTERM's drain: the client goes to the other node, resumes there, and nothing is missing."""
    async with running_node(redis_url) as staying:
        async with running_node(redis_url) as leaving:
            hub = HubClient([leaving.url, staying.url], token("a", tenant), jitter=lambda: 0.1)
            await hub.connect()
            reader = hub.subscribe(CHANNEL, after="0")
            await hub.send(CHANNEL, "one")
            await take(reader, 1)
            first_node = hub.welcome["node"]
        await hub.send(CHANNEL, "two")
        (event,) = await take(reader, 1)
        second_node = hub.welcome["node"]
        await hub.aclose()

    assert event.seq == 2
    assert first_node != second_node


async def test_a_token_about_to_expire_is_refreshed_on_the_open_socket(node, tenant):
    """The hub announces the expiry, the provider is asked, and no event or session is lost by it."""
    lives = iter([20, 3600])
    refreshed = asyncio.Event()

    async def provider() -> str:
        ttl_s = next(lives)
        if ttl_s == 3600:
            refreshed.set()
        return token("a", tenant, ttl_s=ttl_s)

    async with HubClient(node.url, provider) as hub:
        session = hub.welcome["session_id"]
        reader = hub.subscribe(CHANNEL, after="0")
        async with asyncio.timeout(50):
            await refreshed.wait()
        await hub.send(CHANNEL, "x")
        await take(reader, 1)

        assert hub.welcome["session_id"] == session


async def test_a_bad_token_and_a_forbidden_channel_say_what_they_are(node, tenant):
    """4001 ends the client before it began; 4003 ends one reader or one command."""
    with pytest.raises(ConnectionRefused) as refused:
        await HubClient(node.url, "not a token").connect()
    async with HubClient(node.url, token("a", tenant, {"team:blue": ["read"]})) as hub:
        with pytest.raises(HubError) as unread:
            await anext(hub.subscribe("team:red", after="0"))
        with pytest.raises(HubError) as unwritten:
            await hub.send(CHANNEL, "x")
        answer = await hub.subscribe("team:blue").ready()

    assert refused.value.code == 4001
    assert (unread.value.code, unread.value.channel, unwritten.value.code) == (4003, "team:red", 4003)
    assert answer.head == Cursor("0", 0, answer.epoch)


async def test_cursors_in_a_file_carry_on_in_the_next_process(node, tenant, tmp_path):
    """A second client with the same file begins where the first one took its last event."""
    async with HubClient(node.url, token("a", tenant), cursors=FileCursors(tmp_path / "c")) as hub:
        for n in range(4):
            await hub.send(CHANNEL, str(n))
        async with hub.subscribe(CHANNEL, after="0") as reader:
            await take(reader, 3)
    async with HubClient(node.url, token("a", tenant), cursors=FileCursors(tmp_path / "c")) as hub:
        again = await take(hub.subscribe(CHANNEL), 2)

    assert [event.seq for event in again] == [3, 4]


async def test_signals_receipts_and_presence_come_when_asked_for(node, tenant):
    """Answer, receipt and signals are items of their own kinds between the events."""
    async with HubClient(node.url, token("a", tenant)) as hub, HubClient(node.url, token("b", tenant)) as other:
        await hub.send(CHANNEL, "one")
        reader = hub.subscribe(CHANNEL, after="0", signals=True, presence=True, with_receipts=True)
        start: list = []
        while len(start) < 3:  # who is there may be told in between
            start += [item for item in await take(reader, 1) if not isinstance(item, Signal)]
        await other.subscribe(CHANNEL).ready()
        assert other.publish_nowait("chat.typing", CHANNEL, {"state": "start"})
        kinds = set()
        async with asyncio.timeout(50):
            async for item in reader:
                kinds.add(item.type)
                if {"chat.typing", "channel.presence"} <= kinds:
                    break

    assert [type(item) for item in start] == [Subscribed, Event, Receipt]
    assert start[2].count == 1


async def test_the_own_channel_can_be_read_from_the_beginning(node, tenant):
    """A person's inbox, announced by the hub at its head, is replayed for who asks for all of it, and resumed."""
    inbox = "user:a"
    note = {"kind": "note", "title": "hello"}
    async with HubClient(node.url, token("a", tenant), jitter=lambda: 0.1) as hub:
        await node.hub.send_to_user(tenant, "a", "team.notification", note)
        reader = hub.subscribe(inbox, after="0")
        (first,) = await take(reader, 1)
        hub.cut()
        await node.hub.send_to_user(tenant, "a", "team.notification", note)
        (second,) = await take(reader, 1)

    assert (first.seq, second.seq) == (1, 2)


async def test_wishes_beyond_a_cursor_survive_a_cut(node, tenant):
    """A reader without state, with presence, is resumed as such and from its cursor: the receipt says what it missed."""
    async with (
        HubClient(node.url, token("a", tenant), jitter=lambda: 0.1) as hub,
        HubClient(node.url, token("b", tenant)) as other,
    ):
        reader = hub.subscribe(CHANNEL, after="0", state=False, presence=True, with_receipts=True)
        await other.send(CHANNEL, "one")
        while not isinstance((await take(reader, 1))[0], Event):
            continue
        hub.cut()
        await asyncio.gather(*(other.send(CHANNEL, str(n)) for n in range(50)))
        items = []
        while not items or getattr(items[-1], "seq", 0) < 51:
            items += await take(reader, 1)
        answers = [item for item in items if isinstance(item, Subscribed)]

    assert [item.seq for item in items if isinstance(item, Event)] == list(range(2, 52))
    assert all(answer.recovered and answer.state is None for answer in answers)


async def test_more_channels_than_one_frame_names_are_resumed(node, tenant):
    """More channels than one first frame may name are resumed all the same."""
    async with HubClient(node.url, token("a", tenant), jitter=lambda: 0.1) as hub:
        readers = [hub.subscribe(f"conversation:{n}") for n in range(180)]
        for reader in readers:
            await reader.ready()
        hub.cut()
        for n in (0, 99, 100, 179):
            await hub.send(f"conversation:{n}", "x")
            assert (await take(readers[n], 1))[0].seq == 1


async def test_a_client_that_waits_for_its_rate_says_so(
    redis_url: str, tenant: str, caplog: pytest.LogCaptureFixture
) -> None:
    """`send` took as long as the rate made it, and looked as if the hub hung. A callback that fails costs nothing."""
    waits: list[Wait] = []

    def on_wait(wait: Wait) -> None:
        waits.append(wait)
        raise RuntimeError("a fault of the user's")

    async with (
        running_node(redis_url, rate_limits={"chat": (20.0, 2.0)}) as node,
        HubClient(node.url, token("alice", tenant), on_wait=on_wait) as hub,
    ):
        stored = await asyncio.gather(*(hub.send(CHANNEL, str(number)) for number in range(8)))

    assert [each.seq for each in stored] == list(range(1, 9))
    assert {(wait.error.code, wait.channel, wait.wait_s > 0) for wait in waits} == {(4004, CHANNEL, True)}
    told = [line for line in caplog.messages if "then sent again automatically" in line]
    assert CHANNEL in told[0]
    assert len(told) <= len(waits)
