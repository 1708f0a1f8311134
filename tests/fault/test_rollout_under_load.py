"""WebSocket switched off for a tenant and on again while writers write: clients move to HTTP and back, nothing lost or doubled."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import shutil
from collections.abc import AsyncIterator

import pytest

from hub.client import HubClient
from streams.channel import parse_channel
from support.nodes import Node, running_node, token
from support.sdk_followers import Follower, compare, read_all
from support.sdk_process import SdkProcess, javascript, sdk_process
from support.until import until

pytestmark = pytest.mark.slow
ROOM = "conversation:1"
RETRY_S = 0.3
FOLLOWERS, WRITERS, EACH_WAY = 6, 3, 10


@contextlib.asynccontextmanager
async def two_nodes(redis_url: str) -> AsyncIterator[list[Node]]:
    """Two nodes on one Redis."""
    async with running_node(redis_url, drain_s=0.2) as one, running_node(redis_url, drain_s=0.2) as two:
        yield [one, two]


async def switch(node: Node, tenant: str, percent: float) -> None:
    """Change the tenant's rollout at one node."""
    async with node.http(token("operator", tenant, {}, scope="operator")) as http:
        answer = await http.put("/v1/rollout", json={"websocket_percent": percent})
    assert answer.status_code == 200, answer.text


class Writer:
    """A user who writes one message after the other through the SDK, whichever way it takes.

    Attributes:
        stored: text → the id that the hub answered.
    """

    def __init__(self, number: int, nodes: list[Node], tenant: str) -> None:
        urls = [node.url for node in nodes[number % 2 :] + nodes[: number % 2]]
        self.stored: dict[str, str] = {}
        self.client = HubClient(urls, token(f"writer-{number}", tenant), websocket_retry_s=RETRY_S)
        self._number = number

    async def run(self) -> None:
        """Write until cancelled; what was begun is ended."""
        async with self.client as hub:
            for count in itertools.count():
                text = f"{self._number}:{count}"
                reply = await hub.send(ROOM, text)
                self.stored[text] = reply.id


async def test_python_clients_move_to_http_and_back(redis_url: str, tenant: str) -> None:
    """Every follower's list equals the stream, and each answered message is in it once; each writer wrote on every way."""
    async with two_nodes(redis_url) as nodes:
        urls = [node.url for node in nodes]
        bearer = token("reader", tenant)
        followers = [Follower(n, urls, bearer, ROOM, n, RETRY_S) for n in range(FOLLOWERS)]
        writers = [Writer(n, nodes, tenant) for n in range(WRITERS)]
        calm = asyncio.Event()
        calm.set()  # no cuts but those of the rollout
        tasks = [asyncio.create_task(one.run(1.0, calm)) for one in followers]
        tasks += [asyncio.create_task(one.run()) for one in writers]
        everybody = [*followers, *(writer.client for writer in writers)]

        async def all_on(transport: str) -> None:
            """Wait until everybody is on this way and has written some messages on it."""
            await until(lambda: all(one.transport == transport for one in everybody) or any(t.done() for t in tasks))
            aims = [len(writer.stored) + EACH_WAY for writer in writers]
            await until(lambda: all(len(w.stored) >= aim for w, aim in zip(writers, aims, strict=True)))

        try:
            for _ in range(2):
                await all_on("websocket")
                await switch(nodes[0], tenant, 0)
                await all_on("http-stream")
                await switch(nodes[1], tenant, 100)
            await all_on("websocket")
            for task in tasks[FOLLOWERS:]:
                task.cancel()
            await asyncio.gather(*tasks[FOLLOWERS:], return_exceptions=True)
            stored = await read_all(nodes[0].hub.log, parse_channel(tenant, ROOM))
            async with asyncio.timeout(60):
                await asyncio.gather(*(follower.reached(len(stored)) for follower in followers))
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    ids = [id_ for _, id_, _ in stored]
    texts = [json.loads(raw)["payload"]["text"] for _, _, raw in stored]
    answered = {text: id_ for writer in writers for text, id_ in writer.stored.items()}
    assert [compare(follower.number, ROOM, follower.seen, stored) for follower in followers] == [[]] * FOLLOWERS
    assert [follower.hub_faults for follower in followers] == [(0, 0)] * FOLLOWERS
    assert len(texts) == len(set(texts)), "a message was stored twice"
    assert answered.items() <= dict(zip(texts, ids, strict=True)).items()
    assert len(answered) >= 5 * EACH_WAY * WRITERS


async def test_javascript_clients_move_to_http_and_back(redis_url: str, tenant: str) -> None:
    """The same for hub.js, each in a Node of its own; each sends on as soon as the message before was answered."""
    if shutil.which("node") is None:
        pytest.skip("no Node here")
    async with two_nodes(redis_url) as nodes, contextlib.AsyncExitStack() as ending:
        clients = []
        for number, node in enumerate(nodes):
            program = javascript(node.url, token(f"js-{number}", tenant))
            client = await ending.enter_async_context(sdk_process(*program))
            clients.append(client)
            await client.do(do="follow", channel=ROOM, after="0")
        stop = asyncio.Event()

        async def write(number: int, client: SdkProcess) -> None:
            for count in itertools.count():
                await client.send(ROOM, f"{number}.{count}")
                if stop.is_set() or client.others:
                    return

        writing = [asyncio.create_task(write(number, client)) for number, client in enumerate(clients)]

        async def all_on(way: str) -> None:
            aims = [client.ways.count(way) + EACH_WAY for client in clients]
            await until(
                lambda: (
                    all(client.ways.count(way) >= aim for client, aim in zip(clients, aims, strict=True))
                    or any(client.others for client in clients)
                )
            )

        await all_on("websocket")
        await switch(nodes[0], tenant, 0)
        await all_on("http-stream")
        await switch(nodes[1], tenant, 100)
        await all_on("websocket")
        stop.set()
        await asyncio.gather(*writing)
        stored = await read_all(nodes[0].hub.log, parse_channel(tenant, ROOM))
        await until(lambda: all(len(client.seen) >= len(stored) for client in clients))

    log = [(seq, json.loads(raw)["payload"]["text"]) for seq, _, raw in stored]
    assert [client.others for client in clients] == [[], []]
    assert [client.seen for client in clients] == [log, log]
    assert {text: seq for seq, text in log} == {c: seq for client in clients for c, seq in client.stored.items()}
