"""Bounds of all that anybody can make a node keep: each table that grows with names, and the remains of who is gone.

`python -m ops.bench.memory_growth` shows the same by resident memory and objects, with 100,000 of each.
"""

from __future__ import annotations

import asyncio
import gc
import json
from typing import Any

import pytest

import hub.node.states
from hub.limits.quotas import Quota, Quotas
from hub.node.connection import Connection
from hub.node.fanout import HELD_BYTES_MAX, HELD_EVENTS_MAX, HELD_EVENTS_MIN
from projections.live import PASSING_MAX, Live
from projections.recorded import Recorded
from streams.channel import Kind, parse_channel
from streams.redis.keys import Keys
from support.nodes import NodeProcess, running_node, token
from support.socket_client import client
from support.until import until


def test_channels_that_were_once_named_are_forgotten() -> None:
    """50,000 names, parsed and with their keys: no more than 16,384 are kept of each."""
    keys = Keys(8)
    for number in range(50_000):
        keys.of(parse_channel("acme", f"conversation:{number}"))

    assert parse_channel.cache_info().currsize <= 16_384
    assert len(keys._channels) <= 16_385


async def test_folded_states_are_bounded_by_what_they_weigh(
    redis_url: str, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those asked for longest ago make room, and are folded again to the same bytes when they are asked for."""
    monkeypatch.setattr(hub.node.states, "FOLDS_BYTES_MAX", 50_000)
    channels = [f"conversation:{number}" for number in range(10)]
    async with running_node(redis_url) as node, client(node.ws_url, token("a", tenant)) as a:
        for channel in channels:
            await a.say(channel, "x" * 20_000)
        first = [await a.answer("channel.state", {}, channel) for channel in channels]
        kept, weight = len(node.hub.states._folds), node.hub.states._folds_bytes
        again = [await a.answer("channel.state", {}, channel) for channel in channels]

    assert kept == 2
    assert 40_000 < weight <= 50_000
    assert [one["payload"] for one in again] == [one["payload"] for one in first]


def test_cursors_of_made_up_clients_are_bounded() -> None:
    """The newest 200; each further one costs no more than the ones before."""
    live = Live(Kind.DOCUMENT)
    for number in range(1_000):
        payload = {"user": "rude", "client": f"c{number}", "selection": {"at": number}}
        event = Recorded(f"{number + 1}-0", 0, "document.cursor", 1, {"kind": "user", "id": "rude"}, {}, payload)
        live.apply(event)

    assert len(live.cursors) == PASSING_MAX
    assert list(live.cursors)[-1] == "rude c999"


async def test_large_events_are_held_few_and_small_ones_many(redis_url: str, tenant: str) -> None:
    """A channel's encoded events are bounded in bytes; nobody misses any of them."""
    async with running_node(redis_url) as node, client(node.ws_url, token("a", tenant)) as a:
        await a.subscribe("conversation:1", state=False)
        (fanout,) = [one for channel, one in node.hub.fanouts.items() if channel.kind is Kind.CONVERSATION]
        for _ in range(20):
            await a.say("conversation:1", "x" * 30_000)
        large = len(fanout._held)
        for _ in range(2 * HELD_EVENTS_MAX):
            await a.say("conversation:1", "x")
        small, size = len(fanout._held), fanout._held_bytes
        held_bytes = sum(len(wire) for _, wire in fanout._held)
        seqs = [frame["seq"] for frame in a.seen if "seq" in frame]
        seqs += [event["seq"] for event in await a.events(20 + 2 * HELD_EVENTS_MAX - len(seqs))]

    assert large == max(HELD_EVENTS_MIN, HELD_BYTES_MAX // 30_000)
    assert small == HELD_EVENTS_MAX
    assert size == held_bytes
    assert sorted({*seqs}) == list(range(1, 20 + 2 * HELD_EVENTS_MAX + 1))


async def test_refreshing_leaves_nothing_behind(redis_url: str, tenant: str) -> None:
    """A connection is looked at once a tick at most, however often its token was new: old entries come out and are passed over."""
    async with running_node(redis_url, heartbeat_interval_s=0.4) as node, client(node.ws_url, token("a", tenant)) as a:
        slots = node.hub.deadlines._wheel._slots
        for number in range(300):
            await a.answer("connection.refresh", {"token": token("a", tenant, jti=f"j{number}")})
        (connection,) = node.hub.connections
        at = connection.look_at
        await until(lambda: connection.look_at > at)  # the entries of now have come out
        entries = sum(len(slot) for slot in slots.values())

    assert entries <= 20


def connections_of(tenant: str) -> list[Connection]:
    """Whoever is still remembered."""
    gc.collect()
    found = [thing for thing in gc.get_objects() if type(thing) is Connection]
    return [one for one in found if one.session.caller is not None and one.session.caller.principal.tenant == tenant]


async def test_who_is_gone_leaves_no_token_and_no_task(redis_url: str, tenant: str) -> None:
    """Deadlines may hold a closed connection for a minute: of that, only the shell."""
    async with running_node(redis_url) as node:
        for number in range(30):
            async with client(node.ws_url, token(f"u{number}", tenant)) as a:
                await a.subscribe("conversation:1")
        await until(lambda: not node.hub.connections)
        left = connections_of(tenant)

    assert left == []


def test_tenants_that_stored_once_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes of tenants are remembered up to a number of tenants; what was not reported yet is never forgotten."""
    monkeypatch.setattr("hub.limits.quotas.TENANTS_MAX", 100)
    quotas = Quotas(Quota(bytes_stored=1_000))
    for number in range(1_000):
        quotas.publish(f"t{number}", 10, 0.0)
        for name, size in quotas.drain_bytes().items():
            quotas.note_total(name, size)
    quotas.publish("late", 10, 0.0)

    assert len(quotas._bytes_stored) <= 102
    assert quotas._bytes_unreported["late"] == 10


async def test_what_cannot_be_told_while_redis_is_away_is_not_kept(redis_url: str) -> None:
    """A failed round forgets what it would have told: who comes meanwhile must not fill the node."""
    async with running_node(redis_url, rate_limits={}) as node:
        store = node.hub.edge.store

        async def fails() -> None:
            raise ConnectionError("away")

        store._sync = fails  # type: ignore[method-assign]  # a Redis that is away for this store alone
        for number in range(1_000):
            node.hub.limiter.take(("t", f"u{number}"), "chat", node.hub.clock.monotonic())
        await store.wait_round()
        kept: Any = sum(len(taken) for taken in node.hub.limiter._taken.values())

    assert kept == 0


@pytest.mark.slow
@pytest.mark.long
async def test_a_process_stays_as_large_as_it_was(redis_url: str, tenant: str) -> None:
    """20,000 new channels after 20,000 others: resident memory grows by less than a fifth of what keeping them would take.

    A name of 120 letters parsed and with its keys is 2.6 KB, so keeping them is 52 MB; what is dropped and made anew moves by some.
    """
    node = NodeProcess(redis_url)
    try:
        await node.wait_ready()
        assert node._process is not None
        pid = node._process.pid
        async with client(node.ws_url, token("rude", tenant)) as rude:
            await signal_new_channels(rude, 0)
            before_mb = resident_mb(pid)
            await signal_new_channels(rude, 20_000)
            grown_mb = resident_mb(pid) - before_mb
    finally:
        node.close()

    assert grown_mb < 10


async def signal_new_channels(rude: Any, first: int) -> None:
    """A live frame into each of 20,000 channels."""
    for start in range(first, first + 20_000, 100):
        frames = [
            {"type": "chat.typing", "id": f"n{n}", "channel": f"conversation:{n:0120}", "payload": {"state": "start"}}
            for n in range(start, start + 100)
        ]
        await rude.send_raw(json.dumps(frames))
        await rude.expect("ack", re=f"n{start + 99}")
        await asyncio.sleep(0)


def resident_mb(pid: int) -> float:
    """Resident memory of a process (proc(5), statm; pages of 4 KiB)."""
    with open(f"/proc/{pid}/statm") as statm:
        return int(statm.read().split()[1]) * 4_096 / 1e6
