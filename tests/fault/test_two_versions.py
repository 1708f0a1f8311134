"""Nodes and workers of the version before beside those of this one, on one Redis: an update without a pause, and the way back."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import uuid
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from ops.torture.proxy import Proxy
from streams.channel import Channel, parse_channel
from streams.envelope import Actor, Draft
from streams.records.snapshots import Snapshots
from streams.redis.log import Log
from support.nodes import Node, running_node, token
from support.redis_server import RedisServer
from support.sdk_followers import read_all
from support.sdk_process import ROOT, SdkProcess, javascript, python, sdk_process
from support.socket_client import SocketClient, client, raw_client
from support.version_before import Version, tree_before

ROOM, ANSWERS = "conversation:1", "conversation:answers"
LONG = ("conversation:long-older", "conversation:long-newer")
EACH = 10
LONG_EVENTS, KEPT_EVENTS = 1_200, 20
"""More events than a snapshot is written after; and those that are left, from which alone nobody could tell the title."""
pytestmark = pytest.mark.slow


async def state_at(url: str, channel: str, bearer: str) -> Any:
    """The state of a channel, as a node tells it."""
    async with httpx.AsyncClient(headers={"Authorization": f"Bearer {bearer}"}, timeout=30) as http:
        answer = await http.get(f"{url}/v1/channels/{channel}/state")
    return answer.raise_for_status().json()


@pytest.fixture
async def versions(lone_redis: RedisServer, tmp_path: Path) -> AsyncIterator[tuple[Version, Version]]:
    """The version before, and this one; none of them runs yet."""
    older = Version("older", tree_before(tmp_path / "tree"), tmp_path, lone_redis.url)
    newer = Version("newer", ROOT, tmp_path, lone_redis.url)
    yield older, newer
    older.kill()
    newer.kill()


async def told_of(follower: SocketClient, user: str, status: str) -> None:
    """Wait until a follower is told that this user joined or left."""
    wanted = {"user": user, "status": status}
    while not wanted.items() <= (await follower.expect("channel.presence"))["payload"].items():
        pass


async def stored_in(follower: SocketClient, count: int) -> list[Any]:
    """All stored events of ROOM that a socket has seen, once it has seen this many."""
    while len(found := [one for one in follower.seen if "seq" in one and one["channel"] == ROOM]) < count:
        await follower.next()
    return found


async def resumed(version: Version | Node, bearer: str, last: dict[str, Any], epoch: str) -> list[int]:
    """Reconnect with the cursor of an event, as after a lost socket; returns the seqs of the events that were missed."""
    cursor = {"after": last["id"], "seq": last["seq"], "epoch": epoch}
    async with raw_client(version.ws_url) as socket:
        wish = {
            "token": bearer,
            "versions": [1],
            "session_id": "s-of-the-other",
            "channels": [ROOM],
            "cursors": {ROOM: cursor},
        }
        await socket.send("connection.reconnect", wish)
        told = (await socket.expect("channel.subscribed", channel=ROOM))["payload"]
        assert (told["recovered"], told["gap"], told["epoch"]) == (True, None, epoch)
        receipt = (await socket.expect("channel.resumed", channel=ROOM))["payload"]
        missed = [one["seq"] for one in socket.seen if "seq" in one]
        assert receipt["count"] == len(missed)
        return missed


async def test_nodes_of_two_versions(versions: tuple[Version, Version], lone_redis: RedisServer, tenant: str) -> None:
    """People at both see each other come and the same bytes; each node shows the same state, and resumes the other's clients."""
    older, _ = versions
    older.node.start()
    async with running_node(lone_redis.url) as newer:
        await older.ready()
        bearers = (token("alice", tenant), token("bob", tenant))
        async with client(older.ws_url, bearers[0]) as alice, client(newer.ws_url, bearers[1]) as bob:
            epochs = {(await one.subscribe(ROOM, presence=True))["epoch"] for one in (alice, bob)}
            await told_of(alice, "bob", "joined")
            for number in range(EACH):
                await alice.say(ROOM, f"older {number}")
                await bob.say(ROOM, f"newer {number}")
            seen, other = [await stored_in(one, 2 * EACH) for one in (alice, bob)]
            states = [
                await state_at(one.url, ROOM, bearer) for one, bearer in zip((older, newer), bearers, strict=True)
            ]
        (epoch,) = epochs
        missed = [await resumed(newer, bearers[0], seen[4], epoch), await resumed(older, bearers[1], seen[4], epoch)]

    assert seen == other
    assert [one["seq"] for one in seen] == list(range(1, 2 * EACH + 1))
    assert missed == [[one["seq"] for one in seen[5:]]] * 2
    assert states[0]["state"] == states[1]["state"]
    assert {one["user"] for one in states[0]["state"]["presence"]} == {"alice", "bob"}


class Deployment:
    """Clients of both versions and both languages, each behind a port of its own, as behind a proxy that knows the nodes."""

    def __init__(self, clients: list[SdkProcess], fronts: list[Proxy]) -> None:
        self.clients, self.fronts = clients, fronts
        self.written = 0

    async def write(self) -> None:
        """Everybody writes, and everybody sees it all."""
        for _ in range(EACH):
            texts = [f"{number}.{self.written}" for number in range(len(self.clients))]
            self.written += 1
            await asyncio.gather(*(one.send(ROOM, text) for one, text in zip(self.clients, texts, strict=True)))
        count = self.written * len(self.clients)
        await asyncio.gather(*(one.until(lambda one=one: len(one.seen) >= count) for one in self.clients))
        assert [one.others for one in self.clients] == [[]] * len(self.clients)

    def move(self, version: Version, *numbers: int) -> None:
        """The front ends of these clients, or of all, lead to this version's node from now on."""
        for number in numbers or range(len(self.fronts)):
            self.fronts[number].point_at(version.port)


@contextlib.asynccontextmanager
async def deployed(versions: tuple[Version, Version], folder: Path, tenant: str) -> AsyncIterator[Deployment]:
    """Two clients of each version, which follow ROOM from its beginning, at the older node."""
    older_tree = folder / "tree"
    ways = [(python, older_tree), (python, ROOT)]
    if shutil.which("node") is not None:
        ways += [(javascript, older_tree), (javascript, ROOT)]
    async with contextlib.AsyncExitStack() as ending:
        fronts, clients = [], []
        for number, (program, tree) in enumerate(ways):
            front = Proxy(f"front-{number}", versions[0].port)
            await front.start()
            ending.push_async_callback(front.close)
            command = program(f"http://127.0.0.1:{front.port}", token(f"user-{number}", tenant), tree)
            clients.append(await ending.enter_async_context(sdk_process(*command)))
            fronts.append(front)
            await clients[-1].do(do="follow", channel=ROOM, after="0")
        yield Deployment(clients, fronts)


async def someone_is_lost(killed: Version, other: Version, tenant: str) -> None:
    """Kill a node; who was there leaves, for those at the other one."""
    async with (
        client(other.ws_url, token("follower", tenant)) as follower,
        client(killed.ws_url, token("lost", tenant)) as lost,
    ):
        await follower.subscribe(ROOM, presence=True)
        await lost.subscribe(ROOM)
        await told_of(follower, "lost", "joined")
        killed.node.kill()
        await told_of(follower, "lost", "left")


def asker(tenant: str) -> str:
    """The token of somebody new, whose commands have no ID in common with those of others."""
    return token(f"asker-{uuid.uuid4().hex[:8]}", tenant)


async def ask(version: Version, tenant: str, agent: str, text: str) -> dict[str, Any]:
    """Ask an agent at a node; returns the end of its run."""
    async with client(version.ws_url, asker(tenant)) as socket:
        await socket.subscribe(ANSWERS)
        reply = await socket.answer("chat.message", {"text": text, "agent": agent}, ANSWERS)
        return await socket.event("agent.complete", run_id=reply["payload"]["run_id"])


async def ask_for_approval(version: Version, tenant: str, room: str) -> str:
    """Ask for what must be approved; returns the request, while the run waits."""
    async with client(version.ws_url, asker(tenant)) as socket:
        await socket.subscribe(room)
        await socket.answer("chat.message", {"text": "export everything", "agent": "demo"}, room)
        request = await socket.event("tool.call.request")
        return str(request["request_id"])


async def approve(version: Version, tenant: str, room: str, request_id: str) -> dict[str, Any]:
    """Approve it at a node; returns the end of the run."""
    async with client(version.ws_url, asker(tenant)) as socket:
        await socket.subscribe(room, after="0")
        answer = {"request_id": request_id, "decision": "approve"}
        assert (await socket.answer("tool.call.response", answer, room))["type"] == "ack"
        return await socket.event("agent.complete")


async def fill(log: Log, channel: Channel) -> None:
    """Give a channel a title and so many messages that a snapshot of it is kept."""
    actor = Actor("user", "writer")
    await log.append(Draft(channel, "chat.configure", b'{"settings":{"title":"A long one"}}', actor))
    drafts = (Draft(channel, "chat.message", b'{"text":"%d"}' % number, actor) for number in range(LONG_EVENTS))
    await asyncio.gather(*(log.append(draft) for draft in drafts))


async def hand_over_snapshot(log: Log, channel: Channel, writer: Version, reader: Version) -> None:
    """One version writes the snapshot; the other needs it, because only the newest events are left."""
    bearer = token("reader", channel.tenant)
    written = await state_at(writer.url, channel.wire, bearer)
    assert await Snapshots(log).load(channel) is not None
    await log.redis.xtrim(log.keys.of(channel).stream, maxlen=KEPT_EVENTS, approximate=False)
    read = await state_at(reader.url, channel.wire, bearer)
    assert read["state"] == written["state"]
    assert read["state"]["title"] == "A long one"


@pytest.mark.long
async def test_update_and_back(
    versions: tuple[Version, Version],
    lone_redis: RedisServer,
    tmp_path: Path,
    tenant: str,
    command_line: Callable[..., tuple[int, str, str]],
) -> None:
    """Clients of both versions write all the time and move with the nodes: to the newer version, and back to the older one."""
    older, newer = versions
    log = await Log.open(lone_redis.url)
    long = [parse_channel(tenant, name) for name in LONG]
    try:
        await asyncio.gather(older.start(), *(fill(log, channel) for channel in long))
        async with deployed(versions, tmp_path, tenant) as deployment:
            await deployment.write()
            begun = await ask_for_approval(older, tenant, "conversation:begun-before")

            # Side by side.
            await newer.start()
            await hand_over_snapshot(log, long[0], older, newer)
            deployment.move(newer, 0, len(deployment.clients) - 1)
            await deployment.write()
            for node, agent in ((older, "newer"), (newer, "older"), (older, "demo"), (newer, "demo")):
                assert (await ask(node, tenant, agent, "summary"))["outcome"] == "success", (node.name, agent)
            await someone_is_lost(older, newer, tenant)

            # The newer version alone: what waited for a person goes on with it.
            await older.worker.end()
            deployment.move(newer)
            await deployment.write()
            assert (await approve(newer, tenant, "conversation:begun-before", begun))["outcome"] == "success"
            begun = await ask_for_approval(newer, tenant, "conversation:begun-after")

            # And back.
            await older.start()
            await hand_over_snapshot(log, long[1], newer, older)
            await someone_is_lost(newer, older, tenant)
            await newer.worker.end()
            deployment.move(older)
            await deployment.write()
            assert (await approve(older, tenant, "conversation:begun-after", begun))["outcome"] == "success"

        stored = await read_all(log, parse_channel(tenant, ROOM))
    finally:
        await log.close()
    where = ("--tenant", tenant, "--redis", lone_redis.url, "--data", str(tmp_path))
    audits = [await asyncio.to_thread(command_line, "audit", "verify", room, *where) for room in (ROOM, ANSWERS)]

    events = [(seq, json.loads(raw)["payload"]["text"]) for seq, _, raw in stored]
    assert len(events) == deployment.written * len(deployment.clients) == len({text for _, text in events})
    assert [one.seen for one in deployment.clients] == [events] * len(deployment.clients)
    assert {text: seq for seq, text in events} == {
        c: seq for one in deployment.clients for c, seq in one.stored.items()
    }
    assert [code for code, *_ in audits] == [0, 0], audits
