"""The appender's edges: back-pressure, callers that fail, Redis that goes, hangs, or is no master any more."""

from __future__ import annotations

import asyncio

import pytest

from streams.channel import Channel, Kind
from streams.envelope import Actor, Appended, Draft
from streams.errors import LogUnavailable
from streams.redis.append import EARLY_CHANNELS, PENDING_EVENTS_MAX
from streams.redis.log import Log
from support.appending import outcome, stored_at_last
from support.redis_server import RedisServer
from support.replica import command, replicated


def said(tenant: str, name: object = 1, id_: str | None = None) -> Draft:
    return Draft(Channel(tenant, Kind.CONVERSATION, str(name)), "chat.message", b"{}", Actor("user", "a"), command=id_)


async def test_too_much_at_once_is_refused_at_once(redis_url: str, tenant: str) -> None:
    """Beyond what may wait, drafts are refused in the same tick, and what was taken is stored all the same."""
    log = await Log.open(redis_url)
    answers: list[object] = []
    done = asyncio.Event()

    def take(answer: object) -> None:
        answers.append(answer)
        if len(answers) == PENDING_EVENTS_MAX + 10:
            done.set()

    for number in range(PENDING_EVENTS_MAX + 10):
        log.submit(said(tenant, number % (EARLY_CHANNELS - 1)), take)
    refused = list(answers)
    async with asyncio.timeout(45):
        await done.wait()
    await log.close()

    assert [type(answer) for answer in refused] == [LogUnavailable] * 10
    assert sum(isinstance(answer, Appended) for answer in answers) == PENDING_EVENTS_MAX


async def test_a_channel_keeps_its_order_over_batches_sent_again(redis_url: str, tenant: str) -> None:
    """Many channels, several batches on their way, and Redis forgets the script again and again: each stored as submitted."""
    log, other = [await Log.open(redis_url) for _ in range(2)]
    found: dict[int, list[int]] = {channel: [] for channel in range(3 * EARLY_CHANNELS)}

    async def write(channel: int) -> None:
        for _ in range(20):
            pair = [asyncio.ensure_future(log.append(said(tenant, channel))) for _ in range(2)]
            found[channel] += [(await answer).seq for answer in pair]

    async def forget() -> None:
        while any(len(seqs) < 40 for seqs in found.values()):
            await other.redis.script_flush()
            await other.append(said(tenant, "elsewhere"))  # brings the script back between the batches of the first

    await asyncio.gather(*map(write, found), forget())
    for opened in (log, other):
        await opened.close()

    assert all(seqs == list(range(1, 41)) for seqs in found.values())


async def test_a_node_does_not_wait_for_one_batch_to_send_the_next(own_redis: RedisServer, tenant: str) -> None:
    """While Redis hangs with a batch, other channels' drafts are sent and the same channels' wait."""
    log = await Log.open(own_redis.url)
    first = [asyncio.ensure_future(log.append(said(tenant, channel))) for channel in range(3)]
    await asyncio.gather(*first)
    sent = log.batch_count
    own_redis.stop()
    again = [asyncio.ensure_future(log.append(said(tenant, channel))) for channel in (0, 0, 1)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    more = [asyncio.ensure_future(log.append(said(tenant, channel))) for channel in (0, 2)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    on_their_way = log.batch_count - sent
    own_redis.resume()
    seqs = [answer.seq for answer in await asyncio.gather(*again, *more)]
    await log.close()

    assert seqs == [2, 3, 2, 4, 2]
    assert on_their_way == len({log.keys.of(said(tenant, channel).channel).partition for channel in (0, 1)}) + 1


async def test_a_caller_that_fails_costs_the_others_nothing(
    redis_url: str, tenant: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Its exception is logged; the next in the batch gets its answer."""
    log = await Log.open(redis_url)

    def fail(_: object) -> None:
        raise RuntimeError("a caller's fault")

    log.submit(said(tenant), fail)
    stored = await log.append(said(tenant))
    await log.close()

    assert stored.seq == 2
    assert "an append's callback failed" in caplog.text


async def test_what_waits_when_the_log_closes_is_told(redis_url: str, tenant: str) -> None:
    """Nobody waits for ever: in flight and not yet sent alike."""
    log = await Log.open(redis_url)
    sent = asyncio.ensure_future(outcome(log, said(tenant)))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    waiting = asyncio.ensure_future(outcome(log, said(tenant)))
    await asyncio.sleep(0)
    await log.close()

    answers = [await sent, await waiting, await outcome(log, said(tenant))]

    assert {type(answer) for answer in answers} <= {Appended, LogUnavailable}
    assert isinstance(answers[-1], LogUnavailable)


async def test_a_hanging_redis_is_given_up_and_the_same_id_is_safe(own_redis: RedisServer, tenant: str) -> None:
    """No reply in time: 4013. When it wakes up the event may have been stored: the same id is stored once."""
    log = await Log.open(own_redis.url)
    with own_redis.stopped():
        answer = await outcome(log, said(tenant, id_="c-1"))
    stored = await stored_at_last(log, said(tenant, id_="c-1"))
    entries = await log.page(Channel(tenant, Kind.CONVERSATION, "1"))
    await log.close()

    assert isinstance(answer, LogUnavailable)
    assert [entry.id.decode() for entry in entries] == [stored.id]


async def test_a_master_that_became_a_replica_is_left(tenant: str) -> None:
    """READONLY is unavailable, not an error of the client's; the log finds the new master."""
    async with replicated() as pair:
        log = await Log.open(pair.front.url)
        before = await log.append(said(tenant))
        await pair.catch_up()
        async with command(pair.replica) as redis:
            await redis.execute_command("REPLICAOF", "NO", "ONE")
        async with command(pair.master) as redis:  # demoted: it still answers, and refuses to write
            await redis.config_set("min-replicas-to-write", 0)
            await redis.execute_command("REPLICAOF", "127.0.0.1", pair.replica.url.rpartition(":")[2].partition("/")[0])
        pair.front.target = ("127.0.0.1", int(pair.replica.url.rpartition(":")[2].partition("/")[0]))
        refused = await outcome(log, said(tenant))
        after = await stored_at_last(log, said(tenant))
        await log.close()

    assert isinstance(refused, LogUnavailable)
    assert (before.seq, after.seq) == (1, 2)
