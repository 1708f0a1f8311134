"""The lines of a running node and worker: the work that they are about, what was slow, and nothing for each event."""

from __future__ import annotations

import asyncio
import io
import json
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from hub.logs import configure_logging
from streams.slow_paths import SLOW_S
from support.logging_kept import logging_kept
from support.nodes import SECRET, running_node, token
from support.redis_server import RedisServer
from support.socket_client import client

ROOM = "conversation:1"
Lines = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def lines() -> Iterator[Callable[[str], Lines]]:
    """Sets logging up at a level; the function that it returns reads the lines."""
    stream = io.StringIO()
    with logging_kept():

        def begin(level: str) -> Lines:
            configure_logging(level, stream=stream, secrets=[SECRET], hash_key=SECRET)
            logging.getLogger("asyncio").setLevel(logging.WARNING)
            return lambda: [json.loads(line) for line in stream.getvalue().splitlines()]

        yield begin


async def test_a_refusal_is_a_debug_line_about_its_command(
    redis_url: str, tenant: str, lines: Callable[[str], Lines]
) -> None:
    """With code, node, session, tenant, channel, variant and the hash of the user; a stored event is no line at all."""
    async with running_node(redis_url) as node, node.http(token("op", tenant, {}, scope="operator")) as http:
        variants = [{"name": "blue", "percent": 100}]
        assert (await http.put("/v1/rollout", json={"variants": variants})).status_code == 200
        await node.hub.rollouts.look()
        async with client(node.ws_url, token("alice", tenant)) as a:
            read = lines("debug")
            await a.say(ROOM, "stored")
            refused = await a.answer("chat.message", {"text": 7}, ROOM)
            unknown = await a.answer("chat.delete", {"message_id": "1-0"}, ROOM)
            found = [line for line in read() if line["logger"].startswith(("hub.", "streams."))]

    assert [line["code"] for line in found] == [4005, 4018]
    assert [line["re"] for line in found] == [refused["re"], unknown["re"]]
    about = {"tenant": tenant, "channel": ROOM, "type": "chat.delete", "variant": "blue", "node": node.hub.name}
    assert about.items() <= found[1].items()
    assert found[1]["session"]
    assert found[1]["user"] != "alice"


async def test_slow_commands_and_redis_calls_are_told_with_their_place(
    own_redis: RedisServer, tenant: str, lines: Callable[[str], Lines]
) -> None:
    """Redis stands still for a moment: a line about the command, and one about the call it waited for."""
    async with running_node(own_redis.url) as node, client(node.ws_url, token("alice", tenant)) as a:
        await a.say(ROOM, "x")
        read = lines("info")
        own_redis.stop()
        asking = asyncio.create_task(a.answer("channel.history", {}, ROOM))
        await asyncio.wait([asking], timeout=2 * SLOW_S)
        own_redis.resume()
        await asking
        found = {(line["slow"], line["where"]): line for line in read() if "slow" in line}

    command = found["command", "channel.history"]
    assert command["took_ms"] >= SLOW_S * 1000
    assert command["channel"] == ROOM
    assert [where for kind, where in found if kind == "Redis call"]
