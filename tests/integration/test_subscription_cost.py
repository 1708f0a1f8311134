"""The questions that subscribing asks of Redis: few, shared by who comes at once, and none left out between look and place."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

from streams.redis.log import Log
from support.nodes import running_node, token
from support.redis_server import RedisServer
from support.socket_client import client


async def scripts(log: Log) -> int:
    stats = await log.redis.info("commandstats")
    return sum(int(stats[name]["calls"]) for name in ("cmdstat_evalsha", "cmdstat_eval") if name in stats)


async def test_sockets_that_come_at_once_share_their_questions(own_redis: RedisServer, tenant: str) -> None:
    """Fifty who subscribe in the same moment, each to a channel of its own: a few calls a partition, not three a channel."""
    log = await Log.open(own_redis.url)
    try:
        async with running_node(own_redis.url) as node, AsyncExitStack() as stack:
            names = [f"u{number}" for number in range(50)]
            sockets = [await stack.enter_async_context(client(node.ws_url, token(name, tenant))) for name in names]
            before = await scripts(log)
            await asyncio.gather(*(socket.subscribe(f"conversation:{n}") for n, socket in enumerate(sockets)))
            spent = await scripts(log) - before
    finally:
        await log.close()

    assert spent < 100, f"{spent} script calls; three for each of fifty would be 150"


async def test_no_signal_is_missed_between_the_state_and_the_first_live_one(redis_url: str, tenant: str) -> None:
    """A cursor moves while others subscribe: each sees it where it stood, then every later place in a row."""
    page, moves = "document:1", 400
    async with running_node(redis_url) as node, client(node.ws_url, token("a", tenant)) as writer:
        await writer.subscribe(page)
        await writer.answer("document.cursor", {"selection": {"at": 0}}, page)

        async def move() -> None:
            for number in range(1, moves + 1):
                await writer.answer("document.cursor", {"selection": {"at": number}}, page)

        moving = asyncio.create_task(move())
        number = 0
        while not moving.done():
            number += 1
            async with client(node.ws_url, token(f"r{number}", tenant)) as reader:
                state = (await reader.subscribe(page))["state"]
                (place,) = [cursor["selection"]["at"] for cursor in state["cursors"]]
                for later in range(place + 1, min(place + 4, moves + 1)):
                    await reader.event("document.cursor", user="a", selection={"at": later})
        await moving

    assert number > 3
