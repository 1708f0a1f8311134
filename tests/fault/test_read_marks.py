"""Read marks of a person with several devices: whatever is late, no mark moves back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from urllib.parse import urlsplit

import httpx
import pytest

from support.link import Link, linked
from support.nodes import Node, running_node, token
from support.redis_server import RedisServer
from support.socket_client import client

CHANNEL = "conversation:1"


@pytest.fixture
def server() -> Iterator[RedisServer]:
    """A server of this test alone, on a port, so that a link can lead to it."""
    started = RedisServer(on_port=True)
    yield started
    started.close()


@pytest.fixture
async def link(server: RedisServer) -> AsyncIterator[Link]:
    """The link between the second node and Redis."""
    async with linked("127.0.0.1", urlsplit(server.url).port or 0) as made:
        yield made


async def mark(node: Node, who: str, up_to: str, way: str) -> str:
    """Moves the mark from a device of its own; returns the type of the answer."""
    if way == "socket":
        async with client(node.ws_url, who) as device:
            return str((await device.answer("channel.read", {"up_to": up_to}, CHANNEL))["type"])
    async with httpx.AsyncClient(headers={"Authorization": f"Bearer {who}"}) as http:
        body = {"type": "channel.read", "payload": {"up_to": up_to}}
        answer = await http.post(f"{node.url}/v1/channels/{CHANNEL}/events", json=body)
    assert answer.status_code == 200, answer.text
    return "ack"


@pytest.mark.parametrize("way", ["socket", "http"])
async def test_an_older_mark_that_arrives_late_is_passed_over(
    server: RedisServer, link: Link, tenant: str, way: str
) -> None:
    """Two devices on two nodes mark in the same moment; the older mark is on its way to Redis when the newer one is kept."""
    who = token("a", tenant)
    async with running_node(server.url) as near, running_node(link.url) as far, client(near.ws_url, who) as device:
        said = [(await device.say(CHANNEL, "hi"))["payload"]["id"] for _ in range(3)]
        await device.subscribe(CHANNEL)
        link.holds = b"channel.read"
        older = asyncio.create_task(mark(far, who, said[0], way))
        held = await asyncio.wait_for(link.held.get(), 30)
        newer = await device.answer("channel.read", {"up_to": said[1]}, CHANNEL)
        link.holds = None
        held.let_through()
        answered = await older
        state = (await device.answer("channel.state", {}, CHANNEL))["payload"]["state"]
        last = await device.answer("channel.read", {"up_to": said[2]}, CHANNEL)
        await device.event("channel.read", up_to=said[2])
        told = [frame["payload"]["up_to"] for frame in device.seen if frame["type"] == "channel.read"]

    assert (answered, newer["type"], last["type"]) == ("ack", "ack", "ack")
    assert state["read_markers"] == {"a": said[1]}
    assert told == [said[1], said[2]]
