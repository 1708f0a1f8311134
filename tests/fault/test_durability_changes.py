"""The set-up of Redis is changed while the hub runs: an ack names what holds within 2 s, metric and readiness tell it."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from streams.channel import Channel, Kind
from streams.envelope import Actor, Appended, Draft, Durability
from streams.errors import LogUnavailable
from streams.redis.log import Log
from support.appending import outcome
from support.asking import question, until_ready, until_told
from support.lived_time import lived_time
from support.nodes import running_node
from support.redis_server import RedisServer
from support.replica import command


def said(number: int) -> Draft:
    return Draft(
        Channel("t", Kind.CONVERSATION, "1"), "chat.message", b'{"text":"hi"}', Actor("user", "a"), command=f"c{number}"
    )


async def until_named(log: Log, wanted: object) -> float:
    """Append until an ack names this level, or is refused for None; the seconds it took."""
    number = 0
    async with asyncio.timeout(30), lived_time() as since:
        while True:
            number += 1
            found = await outcome(log, said(number))
            named = found.durability if isinstance(found, Appended) else None
            if named is wanted:
                break
            await asyncio.sleep(0)
    return since.passed_s


@pytest.mark.parametrize(("name", "value", "back"), [
    ("appendfsync", "no", "always"), ("appendfsync", "everysec", "always"), ("appendonly", "no", "yes"),
    ("no-appendfsync-on-rewrite", "yes", "no"),
])  # fmt: skip # a case a row
async def test_an_ack_names_what_holds_within_two_seconds(
    own_redis: RedisServer, name: str, value: str, back: str
) -> None:
    """`fsync` becomes `memory` when the server no longer syncs, and `fsync` again when it does."""
    log = await Log.open(own_redis.url)
    try:
        async with command(own_redis) as redis:
            before = (await log.append(said(0))).durability
            await redis.config_set(name, value)
            weaker_after_s = await until_named(log, Durability.MEMORY)
            await redis.config_set(name, back)
            await until_named(log, Durability.FSYNC)
    finally:
        await log.close()

    assert before is Durability.FSYNC
    assert weaker_after_s < 2.0


async def test_a_node_tells_the_level_it_names(own_redis: RedisServer) -> None:
    """By its metric, and by readiness where it is not the one of the start."""
    async with running_node(own_redis.url) as node, command(own_redis) as redis:
        steady = json.loads((await asyncio.to_thread(question, node, "/readyz"))[1])
        await redis.config_set("appendfsync", "no")
        await until_named(node.hub.log, Durability.MEMORY)
        told = json.loads((await asyncio.to_thread(question, node, "/readyz"))[1])
        metrics = (await asyncio.to_thread(question, node, "/metrics"))[1]

    assert steady == {"status": "ready"}
    assert told["durability"]["conversation"] == "memory"
    assert 'hub_durability{kind="conversation",level="memory"} 1.0' in metrics


async def test_a_server_that_may_evict_takes_nothing_until_it_may_not(own_redis: RedisServer) -> None:
    """An evicting policy set at run time is what a start refuses: appends are refused, readiness names the setting."""
    async with running_node(own_redis.url) as node, command(own_redis) as redis:
        await redis.config_set("maxmemory-policy", "allkeys-lru")
        refused_after_s = await until_named(node.hub.log, None)
        missing = await until_told(node, "maxmemory-policy")
        await redis.config_set("maxmemory-policy", "noeviction")
        await until_named(node.hub.log, Durability.FSYNC)
        await until_ready(node)

    assert refused_after_s < 2.0
    assert any("allkeys-lru" in text for text in missing)


async def test_a_level_that_was_asked_for_is_never_named_without_being_reached(own_redis: RedisServer) -> None:
    """`fsync` by setting, and the append-only file is switched off: refused, not acknowledged as less."""
    try:
        log = await Log.open(own_redis.url, durability={Kind.CONVERSATION: Durability.FSYNC})
        async with command(own_redis) as redis:
            await redis.config_set("appendonly", "no")
            refused: Any = None
            async with asyncio.timeout(30):
                number = 0
                while not isinstance(refused, LogUnavailable):
                    number += 1
                    refused = await outcome(log, said(number))
                    await asyncio.sleep(0)
    finally:
        await log.close()

    assert "fsync" in str(refused)
