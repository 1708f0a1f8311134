"""Somebody adds entries to the hub's streams by hand: they are passed over and told, and everything goes on."""

from __future__ import annotations

from typing import Any

import pytest

from consumers.worker import running
from streams.audit.channel_check import verify_log
from streams.channel import Channel, parse_channel
from streams.envelope import Actor, Draft
from streams.redis.groups import list_parked
from streams.redis.log import Log
from streams.redis.stored import StoredLog
from support.nodes import running_node, token
from support.redis_server import RedisServer
from support.run_rig import Client, conversation, options
from support.socket_client import client

pytestmark = pytest.mark.slow

FOREIGN = [{"note": "by hand"}, {"seq": "x", "type": "y"}, {f"f{number}": "1" for number in range(8)}]


async def add_by_hand(log: Log, key: bytes) -> None:
    for fields in FOREIGN:
        await log.redis.xadd(key, fields)


async def streams_of(log: Log) -> list[bytes]:
    return [key async for key in log.redis.scan_iter(_type="stream")]


def said(place: Channel, number: int) -> Draft:
    return Draft(place, "chat.message", b'{"text":"%d"}' % number, Actor("user", "alice"), command=f"c-{number}")


async def test_readers_pass_over_them_and_the_audit_names_them(own_redis: RedisServer, tenant: str) -> None:
    log = await Log.open(own_redis.url)
    place = parse_channel(tenant, "conversation:touched")
    key = log.keys.of(place).stream
    await add_by_hand(log, key)  # also as the very first, before the channel has a record
    for number in range(3):
        await log.append(said(place, number))
        await add_by_hand(log, key)
    newest = (await log.page(place))[-1].id.decode()
    found, look = await log.page(place), await log.look(place, newest)
    before = await log.replay.page_back(place)
    stored = await StoredLog.open(own_redis.url)
    audit = await verify_log(stored, place)
    stored.close()
    await log.close()

    assert [entry.seq for entry in found] == [1, 2, 3]
    assert [entry.seq for entry in before] == [3, 2, 1]
    assert (look.head.seq, look.head.id, look.prev, look.next) == (3, newest, look.head, None)
    assert len(audit.faults) == 12
    assert all("was not written by the hub" in fault for fault in audit.faults)
    assert audit.first_bad_seq == 1


async def test_node_and_worker_go_on(own_redis: RedisServer, tenant: str) -> None:
    """Entries in every stream there is, while a socket follows a channel and an agent is asked."""

    async def agent(ctx: Any, given: Any) -> Any:
        yield given.text

    log = await Log.open(own_redis.url)
    asking = Client(log, conversation(tenant))
    async with running_node(own_redis.url) as node, running(options(own_redis.url, {"a": agent}), log):
        async with (
            client(node.ws_url, token("alice", tenant)) as alice,
            client(node.ws_url, token("bob", tenant)) as bob,
        ):
            for one in (alice, bob):
                await one.subscribe("conversation:talk", presence=True)
            await alice.say("conversation:talk", "one")
            await bob.event("chat.message")
            await alice.answer("chat.typing", {"state": "start"}, "conversation:talk")
            await bob.expect("chat.typing")
            await asking.end(await asking.ask("one"))
            touched = await streams_of(log)
            for key in touched:
                await add_by_hand(log, key)
            await alice.say("conversation:talk", "two")
            await bob.event("chat.message", text="two")
            await alice.answer("chat.typing", {"state": "start"}, "conversation:talk")
            await bob.expect("chat.typing")
            await asking.end(await asking.ask("two"))
        async with client(node.ws_url, token("carol", tenant)) as carol:
            subscribed = await carol.subscribe("conversation:talk", after="0", presence=True)
            caught_up = await carol.events(2)
        await add_by_hand(log, log.keys.parked(0))
        parked = await list_parked(log.keys, log.calls_in)
    await log.close()

    assert not subscribed.get("gap")
    assert [event["payload"]["text"] for event in caught_up] == ["one", "two"]
    assert len(touched) > 6
    assert ["by hand" in row.reason for row in parked] == [True] * len(FOREIGN)
