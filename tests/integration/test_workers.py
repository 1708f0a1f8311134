"""`hub serve --workers 2`: two processes on one port are one hub to its users, and one target to monitoring."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from ops.bench.processes import tree_of
from ops.children import NodeProcess
from support.nodes import SECRET, token
from support.socket_client import SocketClient, client, raw_client

PEOPLE = 24
"""So many that both processes have some of them: the kernel spreads connections over the sockets of a port by their hash."""
ASKED_AT_ONCE = 20
"""So many that one of them reaches the other process: all but one in a million times."""
CHANNEL = "team:1"
pytestmark = pytest.mark.slow


@pytest.fixture
async def hub(redis_url: str, tmp_path: Path) -> AsyncIterator[NodeProcess]:
    """Two processes that share a port, with room for PEOPLE sockets of a tenant."""
    node = NodeProcess(redis_url, SECRET, workers=2, HUB_DATA=str(tmp_path), HUB_QUOTA_CONNECTIONS=str(PEOPLE))
    node.start()
    try:
        await node.ready()
        up = 0
        async with asyncio.timeout(60):
            while up < 2:  # a process reports to the other one a moment after it serves
                up = (await samples(node, "hub_worker_up")).total()
        yield node
    finally:
        node.kill()


async def samples(hub: NodeProcess, name: str) -> Counter[str]:
    """A metric's value by worker, read over a connection of its own: any process may answer."""
    async with httpx.AsyncClient() as http:
        text = (await http.get(f"{hub.url}/metrics")).text
    found = [one for family in text_string_to_metric_families(text) for one in family.samples if one.name == name]
    return Counter({one.labels["worker"]: int(one.value) for one in found})


async def test_each_process_collects_its_garbage_in_a_loop_that_is_watched(hub: NodeProcess) -> None:
    """A loop that died would leave cycles for ever: Python's own full collections are off in a node."""
    async with httpx.AsyncClient() as http:
        text = (await http.get(f"{hub.url}/metrics")).text
    found = [
        one for family in text_string_to_metric_families(text) for one in family.samples if one.name == "hub_loop_up"
    ]

    assert {one.labels["worker"]: one.value for one in found if one.labels["loop"] == "garbage"} == {"0": 1, "1": 1}


async def test_people_of_both_processes_are_present_counted_and_limited_together(hub: NodeProcess, tenant: str) -> None:
    url = hub.url.replace("http", "ws")
    async with AsyncExitStack() as opened:

        async def enter(user: str) -> SocketClient:
            return await opened.enter_async_context(client(f"{url}/ws", token(user, tenant)))

        people = [await enter("alice") for _ in range(PEOPLE - 1)]
        watcher = await enter("watcher")
        await watcher.subscribe(CHANNEL, presence=True)
        for one in people:
            await one.subscribe(CHANNEL)
        devices = 0
        while devices < len(people):
            told = (await watcher.expect("channel.presence"))["payload"]
            devices = told["devices"] if told["user"] == "alice" else devices
        connections = await samples(hub, "hub_connections")
        activity = {"verb": "closed", "object": {"type": "issue", "id": "7", "title": "t"}, "summary": "one for all"}
        await people[0].answer("team.activity", activity, CHANNEL)
        for one in people:
            assert (await one.expect("team.activity"))["seq"] == 1
        refused = 0
        async with asyncio.timeout(60):  # the processes tell each other in rounds, and either may answer
            while refused < 6:
                refused = refused + 1 if await is_refused(f"{url}/ws", token("one-more", tenant)) else 0

    assert connections.keys() == {"0", "1"}
    assert min(connections.values()) > 0
    assert connections.total() == PEOPLE


async def is_refused(url: str, text: str) -> bool:
    """True if the tenant has as many sockets as it may. One that is let in is closed again."""
    async with raw_client(url) as one:
        answer = await one.answer("connection.init", {"token": text, "versions": [1]})
        return answer["type"] == "connection.error" and await one.closed() == 4010


async def test_whichever_process_answers_reports_both_and_one_that_is_gone(hub: NodeProcess) -> None:
    before = [await samples(hub, "hub_worker_up") for _ in range(10)]
    victim = worker_of(hub.pid)
    os.kill(victim, signal.SIGSTOP)
    try:
        stopped = await answered_by_the_other(hub)
    finally:
        os.kill(victim, signal.SIGCONT)

    assert before == [Counter({"0": 1, "1": 1})] * 10
    assert stopped.total() == 1


def worker_of(pid: int) -> int:
    """One of the processes that `hub serve` started."""
    return next(one for one in tree_of(pid)[1:] if b"spawn_main" in Path(f"/proc/{one}/cmdline").read_bytes())


async def answered_by_the_other(hub: NodeProcess) -> Counter[str]:
    """The metric, asked over several connections, because the kernel gives half of them to the process that stands still."""
    asked = [asyncio.create_task(samples(hub, "hub_worker_up")) for _ in range(ASKED_AT_ONCE)]
    answered, waiting = await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    return answered.pop().result()
