"""The tail on a real Redis: everything after the place, once, in order, whatever bells, wires and watchers do."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Iterator

import pytest

from streams.channel import Channel, Kind
from streams.envelope import Actor, Appended, Draft, Lane
from streams.errors import StreamsError
from streams.redis.keys import Limits
from streams.redis.log import Log
from support.appending import stored_at_last
from support.link import Wire, linked
from support.redis_server import RedisServer
from support.replica import port_of
from support.tail_recorder import TailRecorder, deaf

ALICE = Actor("user", "alice")


def place(tenant: str, name: object = 1) -> Channel:
    return Channel(tenant, Kind.CONVERSATION, str(name))


def said(channel: Channel, text: object = "hi", lane: Lane = Lane.EVENTS) -> Draft:
    return Draft(channel, "chat.message", f'{{"text":"{text}"}}'.encode(), ALICE, lane=lane)


async def stored(log: Log, *drafts: Draft) -> list[Appended]:
    return await asyncio.gather(*(log.append(draft) for draft in drafts))


@pytest.fixture
async def other(redis_url: str) -> AsyncIterator[Log]:
    """A second node's log on the same Redis."""
    log = await Log.open(redis_url)
    yield log
    await log.close()


@pytest.fixture
def port_server() -> Iterator[RedisServer]:
    server = RedisServer(on_port=True)
    yield server
    server.close()


async def test_events_and_signals_of_another_node_are_told_in_order(log: Log, other: Log, tenant: str) -> None:
    """Both lanes, from the place where watching began; what was before is not told."""
    await stored(other, said(place(tenant), "before"))
    seen = TailRecorder(log, place(tenant))
    await seen.watch()

    await stored(other, *(said(place(tenant), n, Lane.LIVE if n % 3 == 0 else Lane.EVENTS) for n in range(30)))
    await seen.until(events=20, signals=10)

    assert seen.seqs == list(range(2, 22))
    assert [entry.payload["text"] for entry in seen.signals] == [str(n) for n in range(0, 30, 3)]


async def test_a_thousand_channels_are_told_completely(log: Log, other: Log, tenant: str) -> None:
    """Two thousand events over a thousand watched channels: each channel gets its own, with few reads."""
    watchers = [TailRecorder(log, place(tenant, n)) for n in range(1_000)]
    for watcher in watchers:
        await watcher.watch()
    reads = log.read_count

    await stored(other, *(said(watcher.channel) for watcher in watchers))
    await stored(other, *(said(watcher.channel) for watcher in watchers))
    for watcher in watchers:
        await watcher.until(events=2)

    assert {tuple(watcher.seqs) for watcher in watchers} == {(1, 2)}
    assert log.read_count - reads < 400


async def test_a_burst_larger_than_a_read_is_told_whole(log: Log, other: Log, tenant: str) -> None:
    """Reads are bounded; the rest follows in the next."""
    seen = TailRecorder(log, place(tenant))
    await seen.watch()

    await stored(other, *(said(place(tenant), n) for n in range(3_000)))
    await seen.until(events=3_000)

    assert seen.seqs == list(range(1, 3_001))


async def test_a_bell_that_was_trimmed_past_the_tail_loses_nothing(redis_url: str, tenant: str) -> None:
    """While the tail is stopped more bells ring than are kept: it reads every channel of that partition."""
    log, other = [await Log.open(redis_url, limits=Limits(bell_entries=20)) for _ in range(2)]
    try:
        loud, quiet = TailRecorder(log, place(tenant, "loud")), None
        await loud.watch()
        partition = log.keys.of(loud.channel).partition
        names = (place(tenant, n) for n in range(1_000))
        quiet = TailRecorder(log, next(c for c in names if log.keys.of(c).partition == partition))
        await quiet.watch()
        with deaf(log):
            await stored(other, said(loud.channel, "answers the read that is under way"))
            await stored(other, said(quiet.channel))
            for number in range(400):  # one bell each
                await stored(other, said(loud.channel, number))
            bell = await other.redis.xrange(log.keys.bell(partition))
        await loud.until(events=401)
        await quiet.until(events=1)
    finally:
        await other.close()
        await log.close()

    rung = b" ".join(fields[b"events"] for _, fields in bell)
    assert quiet.channel.path.encode() not in rung.split()  # its bell is gone
    assert (quiet.seqs, loud.seqs) == ([1], list(range(1, 402)))


async def test_cut_connections_lose_nothing(port_server: RedisServer, tenant: str) -> None:
    """The wires are reset again and again under appends: each event is told once, in order."""
    async with linked("127.0.0.1", port_of(port_server)) as link:
        log, other = await Log.open(link.url), await Log.open(port_server.url)
        seen = TailRecorder(log, place(tenant))
        await seen.watch()
        for round_ in range(5):
            for number in range(20):
                await stored(other, said(place(tenant), f"{round_}-{number}"))
                if number == 7:
                    link.cut()
        await seen.until(events=100)
        await other.close()
        await log.close()

    assert seen.seqs == list(range(1, 101))
    assert seen.break_count >= 1


@pytest.mark.parametrize("name", [b"hub-bell", b"hub-tail", b"hub-append", b"hub-query"])
async def test_a_half_open_wire_is_noticed_and_replaced(port_server: RedisServer, tenant: str, name: bytes) -> None:
    """One of the four sockets swallows everything without an error: within seconds all is well again, nothing lost."""
    async with linked("127.0.0.1", port_of(port_server)) as link:
        log, other = await Log.open(link.url), await Log.open(port_server.url)
        seen = TailRecorder(log, place(tenant))
        await seen.watch()
        await stored(other, said(place(tenant), "before"))
        await seen.until(events=1)

        def is_it(wire: Wire) -> bool:
            return name in wire.said

        with link.dropped(is_it):
            assert [is_it(wire) for wire in link.wires].count(True) == 1
            await stored(other, said(place(tenant), "during"))
            await stored_at_last(log, said(place(tenant), "own"))
            await looked_at_last(log, tenant)
            await seen.until(events=3)
        await stored(other, said(place(tenant), "after"))
        await seen.until(events=4)
        await other.close()
        await log.close()

    assert seen.seqs == [1, 2, 3, 4]


async def looked_at_last(log: Log, tenant: str) -> None:
    """A look, as a client would ask for it: again until it is answered."""
    while True:
        try:
            await log.look(place(tenant))
        except StreamsError:
            await asyncio.sleep(0)
        else:
            return


async def test_a_slow_link_is_only_slow(port_server: RedisServer, tenant: str) -> None:
    """Tens of milliseconds of delay break nothing: no reconnect, no break, no loss."""
    async with linked("127.0.0.1", port_of(port_server)) as link:
        log = await Log.open(link.url)
        seen = TailRecorder(log, place(tenant))
        await seen.watch()
        with link.delayed(0.05):
            await stored(log, *(said(place(tenant), n) for n in range(50)))
            await seen.until(events=50)
        breaks, wires = seen.break_count, log.servers.by_partition[0]._wires._wires
        await log.close()

    assert seen.seqs == list(range(1, 51))
    assert breaks == 0
    assert len(wires) == 4


async def test_a_flush_is_noticed_while_bells_never_cease(own_redis: RedisServer, tenant: str) -> None:
    """A channel that is quiet learns of the flush although others ring all the time, and of the next flush too."""
    log, other = await Log.open(own_redis.url), await Log.open(own_redis.url)
    quiet = TailRecorder(log, place(tenant, "quiet"), is_mending=False)
    await quiet.watch()

    async def noise() -> None:
        while True:
            await stored_at_last(other, said(place(tenant, "loud")))

    loud = asyncio.create_task(noise())
    await log.redis.flushall()
    await quiet.until(breaks=1, timeout_s=60)
    partitions = await log.redis.hget("hub:config", "partitions")
    await log.redis.flushall()
    await quiet.until(breaks=2, timeout_s=60)
    loud.cancel()
    await asyncio.gather(loud, return_exceptions=True)
    await other.close()
    await log.close()

    assert partitions == b"8"


@pytest.mark.parametrize("seed", range(6))
async def test_random_watching_and_appending_loses_nothing(log: Log, other: Log, tenant: str, seed: int) -> None:
    """Whoever watches is told every event from its look on, dense, however often others begin and stop."""
    chance = random.Random(seed)
    channels = [place(tenant, n) for n in range(6)]
    active: list[tuple[TailRecorder, int]] = []
    ended: list[tuple[TailRecorder, int]] = []
    appends: list[asyncio.Task[Appended]] = []
    for _ in range(300):
        step = chance.choice(["append", "append", "append", "live", "watch", "unwatch", "yield"])
        if step in {"append", "live"}:
            lane = Lane.LIVE if step == "live" else Lane.EVENTS
            appends.append(
                asyncio.create_task(chance.choice([log, other]).append(said(chance.choice(channels), lane=lane)))
            )
        elif step == "watch":
            channel = chance.choice([c for c in channels if c not in {w.channel for w, _ in active}] or [None])  # type: ignore[list-item]
            if channel is not None:
                watcher = TailRecorder(log, channel)
                active.append((watcher, (await watcher.watch()).head.seq))
        elif step == "unwatch" and active:
            watcher, start = active.pop(chance.randrange(len(active)))
            watcher.unwatch()
            ended.append((watcher, start))
        else:
            await asyncio.sleep(0)
    await asyncio.gather(*appends)

    for watcher, start in active:
        head = (await log.look(watcher.channel)).head.seq
        await watcher.until(events=head - start)
        assert watcher.seqs == list(range(start + 1, head + 1))
    for watcher, start in ended:
        assert watcher.seqs == list(range(start + 1, start + 1 + len(watcher.seqs)))
    for watcher, _ in active + ended:
        signals = [entry.id for entry in watcher.signals]
        assert len(set(signals)) == len(signals)


async def test_a_listener_that_fails_stops_nobody_else(
    log: Log, other: Log, tenant: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Its error is logged with its channel; the other channels are told."""

    class Failing(TailRecorder):
        def events(self, entries: object) -> None:
            raise RuntimeError("a listener's fault")

    await Failing(log, place(tenant, "bad")).watch()
    good = TailRecorder(log, place(tenant, "good"))
    await good.watch()

    await stored(other, said(place(tenant, "bad")), said(place(tenant, "good")))
    await good.until(events=1)
    await stored(other, said(place(tenant, "bad")), said(place(tenant, "good")))
    await good.until(events=2)

    assert good.seqs == [1, 2]
    assert "a tail listener failed" in caplog.text


async def test_a_hole_in_the_stream_is_never_told_as_if_it_were_whole(log: Log, other: Log, tenant: str) -> None:
    """An entry deleted out of the middle: what is before it is told, and then the tail breaks instead of skipping it."""
    seen = TailRecorder(log, place(tenant), is_mending=False)
    await seen.watch()
    with deaf(log):
        answers = await stored(other, *(said(place(tenant), n) for n in range(3)))
        await log.redis.xdel(log.keys.of(place(tenant)).stream, answers[1].id)
    await seen.until(breaks=1)

    assert seen.seqs == [1]


async def test_what_is_appended_here_needs_no_bell(log: Log, other: Log, tenant: str) -> None:
    """Events and live entries of this process are read back behind their batch; their bells cause no second read."""
    here, there = TailRecorder(log, place(tenant)), TailRecorder(log, place(tenant, "elsewhere"))
    await here.watch()
    await there.watch()
    with deaf(log):
        await stored(log, *(said(place(tenant), n) for n in range(3)), said(place(tenant), lane=Lane.LIVE))
        await here.until(events=3, signals=1)
        reads = log.read_count
    await stored(other, said(place(tenant, "elsewhere")))
    await there.until(events=1)

    assert (here.seqs, len(here.signals), there.seqs) == ([1, 2, 3], 1, [1])
    assert log.read_count == reads + 1


async def test_an_answer_and_its_event_come_in_one_tick(log: Log, tenant: str) -> None:
    """A follower that appends hears both before anything else runs, so a node writes them to a socket at once."""
    seen = TailRecorder(log, place(tenant))
    await seen.watch()
    told: list[int] = []

    def done(_: object) -> None:
        asyncio.get_running_loop().call_soon(lambda: told.append(len(seen.seqs)))

    log.submit(said(place(tenant)), done)
    await seen.until(events=1)
    await asyncio.sleep(0)

    assert told == [1]


async def test_no_event_is_told_before_its_answer(log: Log, other: Log, tenant: str) -> None:
    """Another node writes into the same channel without pause, so the tail reads it all the time on its other wire."""
    seen = TailRecorder(log, place(tenant))
    await seen.watch()
    overtaken: list[int] = []

    async def write_elsewhere() -> None:
        while len(seen.seqs) < 2_000:
            await stored(other, *(said(place(tenant), "there") for _ in range(5)))

    async def write_here() -> None:
        while len(seen.seqs) < 2_000:
            answer = await asyncio.gather(*(answered(said(place(tenant), n)) for n in range(3)))
            await seen.until(events=max(answer))

    async def answered(draft: Draft) -> int:
        came: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        def done(result: object) -> None:
            assert isinstance(result, Appended)
            if seen.seqs and seen.seqs[-1] >= result.seq:
                overtaken.append(result.seq)
            came.set_result(result.seq)

        log.submit(draft, done)
        return await came

    await asyncio.gather(write_elsewhere(), write_here(), write_here())
    await seen.until(events=(await log.look(place(tenant))).head.seq)

    assert overtaken == []
    assert seen.seqs == list(range(1, len(seen.seqs) + 1))


async def test_a_forgotten_script_costs_no_event(log: Log, tenant: str) -> None:
    """Redis restarts without its scripts: the batch is sent again after it was read back, so its bells are news."""
    seen = TailRecorder(log, place(tenant))
    await seen.watch()
    await log.redis.script_flush()
    await stored(log, *(said(place(tenant), n) for n in range(3)))
    await seen.until(events=3)

    assert seen.seqs == [1, 2, 3]


@pytest.mark.interpreted
async def test_who_watches_while_a_batch_is_on_its_way_gets_its_events(
    log: Log, other: Log, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch is sent, a channel of it is watched and read, and only then the batch comes to Redis: its bell is news."""
    label = log.tail_of(place(tenant)).begin_batch()
    seen = TailRecorder(log, place(tenant))
    await seen.watch()
    monkeypatch.setattr(
        other.tail_of(place(tenant)), "begin_batch", lambda: label
    )  # the batch, over a wire that took its time
    await stored(other, said(place(tenant)))
    await seen.until(events=1)

    assert seen.seqs == [1]


async def test_who_is_watched_no_more_hides_no_event_of_the_next(log: Log, other: Log, tenant: str) -> None:
    """A break is looked into, meanwhile the channel is followed anew from an older look, and then the former place moves on."""
    channel = place(tenant)
    await stored(other, said(channel))
    former, seen = TailRecorder(log, channel), TailRecorder(log, channel)
    look = await former.watch()
    await stored(other, said(channel))
    await former.until(events=1)  # the bell has been heard: nothing rings for this event again
    tail, watched = log.tail_of(channel), former.watched
    assert watched is not None

    former.unwatch()
    seen.epoch = look.epoch
    seen.watched = tail.watch(channel, look.head, look.live_id, seen)
    tail.move(watched, watched.position, look.live_id)
    await seen.until(events=1)

    assert seen.seqs == [2]


@pytest.mark.parametrize("found_by", ["look", "append"])
async def test_another_life_with_equal_ids_and_seqs_is_told(log: Log, other: Log, tenant: str, found_by: str) -> None:
    """Deleted and written again within a millisecond the first event may bear the same ID and seq: the bell tells of the life."""
    seen = TailRecorder(log, place(tenant), is_mending=False)
    await stored(log, said(place(tenant)))
    before = await seen.watch()
    keys = log.keys.of(place(tenant))
    fields = {"seq": 1, "type": "chat.message", "v": 1, "actor": "{}", "data": "{}", "meta": "{}"}

    await log.redis.delete(keys.stream, keys.meta)
    await log.redis.xadd(keys.stream, fields, id=before.head.id)  # type: ignore[arg-type]
    after = await other.look(place(tenant)) if found_by == "look" else (await stored(other, said(place(tenant))))[0]
    await seen.until(breaks=1)

    assert seen.break_count == 1
    assert seen.seqs == []
    assert (await log.look(place(tenant))).epoch != before.epoch
    assert after is not None
