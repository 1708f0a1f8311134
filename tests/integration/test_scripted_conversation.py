"""One story with every event of the first version: two people, three devices, two nodes, workers, all in their own processes.

Its log, as `hub replay` prints it, is the golden file; ids, times and random names are put out of the way. To accept a
change on purpose: `UPDATE_GOLDEN=1 pytest tests/integration/test_scripted_conversation.py`, and read the difference.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import connect

from ops.cli import main
from streams.events import CATALOGUE
from support import story_worker
from support.documented_keys import keys_in, undocumented, unseen
from support.golden_log import normalised
from support.hub_frames import frames_of
from support.nodes import NodeProcess, token
from support.redis_server import RedisServer
from support.socket_client import SocketClient
from support.socket_rules import socket_violations
from support.stream_rules import log_violations

Json = dict[str, Any]
GOLDEN = Path(__file__).parents[1] / "golden" / "scripted_conversation.jsonl"
TALK, TEAM, NOTES, ACTOR = "conversation:plan", "team:blue", "document:notes", "agent:actor"
CHANNELS = (TALK, TEAM, NOTES, ACTOR, "user:alice", "user:bob")
LATER = frozenset({
    "message.status", "channel.read", "channel.configure", "channel.updated",
    "tool.call.args", "chat.edit", "chat.delete", "chat.react", "chat.feedback",
    "chat.branch", "agent.steer", "agent.subagent", "operator.call", "operator.delete", "operator.erasure",
    "rollout.changed",
})  # fmt: skip # a table
"""Events that the first version need not have. Everything else is in the story."""
SELDOM = (
    "arq:", "hub:jobs:<agent>", "hub:{edge}:rates", "hub:{edge}:revocations", "hub:{edge}:sessions", "hub:writers",
    ":idem:<who>:<actor>:old", ":parked", ":snapshot", ":status-ends", ":deleted", ":deleted:meta",
    "hub:{p01-71m}:config", ":guard:marks:", ":guard:members:", ":guard:upload-key:",
)  # fmt: skip # a list of words
"""Of the keys of docs/redis-keys.md, those that the story does not come to, or that are there for a moment or in a Cluster only."""
FOLLOWED = [{"channel": name, "after": "0", "presence": True} for name in (TALK, TEAM, NOTES, ACTOR)]


@dataclass(slots=True)
class Story:
    """The connected people and devices, and everything they saw."""

    nodes: tuple[NodeProcess, NodeProcess]
    tenant: str
    sockets: list[SocketClient] = field(default_factory=list)
    open: set[int] = field(default_factory=set)
    keys: dict[str, str] = field(default_factory=dict)
    stack: contextlib.AsyncExitStack = field(default_factory=contextlib.AsyncExitStack)
    _starts: Any = field(default_factory=lambda: itertools.count(100, 100))

    async def device(
        self, user: str, name: str, node: int, *, greeting: Json | None = None, ttl_s: float = 3600
    ) -> Any:
        """A device of somebody, on a node; it follows everything, from the beginning unless it comes back."""
        socket = await self.stack.enter_async_context(connect(self.nodes[node].ws_url, compression=None))
        found = SocketClient(socket)
        found._ids = itertools.count(next(self._starts))  # command ids are a person's, whatever the device
        self.sockets.append(found)
        self.open.add(len(self.sockets) - 1)
        given = {"token": token(user, self.tenant, ttl_s=ttl_s), "versions": [1], "client_id": name}
        type_ = "connection.init" if greeting is None else "connection.reconnect"
        ack = await found.answer(type_, given | (greeting or {"channels": FOLLOWED}))
        assert ack["type"] == "connection.ack", ack
        return found

    def look_into(self, redis_url: str) -> None:
        """Note the keys that are in Redis now."""
        self.keys |= keys_in(redis_url)

    def gone(self, socket: SocketClient) -> None:
        """It saw only a part."""
        self.open.discard(self.sockets.index(socket))


async def accepted(socket: SocketClient, type_: str, payload: Json, channel: str | None = None) -> Json:
    """The payload of the reply to a command."""
    frame = await socket.answer(type_, payload, channel)
    assert frame["type"] != "connection.error", (type_, frame)
    found: Json = frame["payload"]
    return found


async def until(socket: SocketClient, type_: str, **payload: Any) -> Json:
    """The next frame of this type with these in its payload."""
    while True:
        frame = await socket.expect(type_)
        if all(frame["payload"].get(name) == value for name, value in payload.items()):
            return frame


async def ask(socket: SocketClient, text: str, agent: str) -> str:
    """A message to an agent; the run."""
    return str((await accepted(socket, "chat.message", {"text": text, "agent": agent}, TALK))["run_id"])


async def play(story: Story, redis_url: str, files: str, workers: list[Any]) -> None:
    """The story, step after step, each waited for: so the order within a channel is always the same."""
    laptop = await story.device("alice", "laptop", 0)
    phone = await story.device("alice", "phone", 1)
    bob = await story.device("bob", "desk", 0, ttl_s=50)
    await meet(story, laptop, phone, bob)
    await settle_things(laptop, phone, bob)
    await talk_to_agents(laptop, phone, bob)
    await bring_files(story, laptop, phone, redis_url)
    await work_as_a_team(laptop, phone, bob)
    await write_together(laptop, phone, bob)
    await look_back(bob)
    await lose_a_worker(story, phone, redis_url, files, workers)
    await lose_a_socket(story, laptop, bob)
    await restart_a_node(story, bob, phone)


async def meet(story: Story, laptop: SocketClient, phone: SocketClient, bob: SocketClient) -> None:
    """Heartbeats, an expiring token and a fresh one, who is there."""
    await accepted(laptop, "connection.heartbeat", {})
    await bob.expect("connection.expiring")
    refreshed = await bob.answer("connection.refresh", {"token": token("bob", story.tenant)})
    assert refreshed["type"] == "connection.refreshed"
    await accepted(bob, "channel.presence", {"status": "away"}, TALK)
    await until(phone, "channel.presence", user="bob", status="away")
    listed = await accepted(phone, "agent.list", {})
    assert [agent["name"] for agent in listed["agents"]] == ["actor", "demo"]


async def settle_things(laptop: SocketClient, phone: SocketClient, bob: SocketClient) -> None:
    """Settings, typing, messages, a mention."""
    await accepted(laptop, "chat.configure", {"settings": {"title": "The plan", "language": "en"}}, TALK)
    await until(phone, "conversation.updated", revision=1)
    await bob.send("chat.typing", {"state": "start"}, TALK, None)
    await until(laptop, "chat.typing", user="bob")
    await accepted(bob, "chat.message", {"text": "Shall we use redis streams?"}, TALK)
    mention = {"text": "Yes, bob.", "parts": [{"type": "mention", "kind": "user", "id": "bob"}]}
    await accepted(laptop, "chat.message", mention, TALK)
    await until(bob, "team.notification", kind="mention")


async def talk_to_agents(laptop: SocketClient, phone: SocketClient, bob: SocketClient) -> None:
    """A search, an export that is approved on another device, once more, stopped; a run of its own."""
    found = await ask(laptop, "who said redis?", "demo")
    await until(laptop, "agent.complete", run_id=found)
    await ask(laptop, "export", "demo")
    request = await until(bob, "tool.call.request", kind="approval")
    await until(bob, "agent.status", state="waiting")
    answer = {"request_id": request["payload"]["request_id"], "decision": "approve"}
    await accepted(bob, "tool.call.response", answer, TALK)
    await until(phone, "tool.call.resolved", by="bob")
    await until(laptop, "agent.complete", outcome="success")
    again = await accepted(phone, "chat.regenerate", {"message_id": f"{found}.1"}, TALK)
    await until(laptop, "agent.complete", run_id=again["run_id"])
    stopped = await ask(laptop, "hang", "actor")
    await until(phone, "assistant.message.delta", run_id=stopped)
    await accepted(bob, "chat.cancel", {}, TALK)
    await until(laptop, "agent.complete", outcome="cancelled")

    await accepted(laptop, "agent.invoke", {"input": "work", "run_id": "job-1"}, ACTOR)
    await until(phone, "agent.complete", run_id="job-1")
    await accepted(laptop, "agent.invoke", {"input": "hang", "run_id": "job-2"}, ACTOR)
    await until(phone, "assistant.message.delta", run_id="job-2")
    await accepted(phone, "agent.cancel", {"run_id": "job-2", "reason": "enough"}, ACTOR)
    await until(phone, "agent.complete", run_id="job-2")


async def bring_files(story: Story, laptop: SocketClient, phone: SocketClient, redis_url: str) -> None:
    """A small file over the socket, read by the other device; a large one that is given up."""
    wish = {"filename": "three.bin", "size": 3, "mime": "application/octet-stream", "strategy": "socket"}
    upload = (await accepted(laptop, "file.upload.request", wish, TALK))["upload_id"]
    await accepted(laptop, "file.chunk", {"upload_id": upload, "offset": 0, "data": "AAEC"}, TALK)
    await accepted(laptop, "file.upload.complete", {"upload_id": upload}, TALK)
    await until(phone, "file.ready", file_id=upload)
    await accepted(phone, "file.url", {"file_id": upload}, TALK)
    large = {"filename": "film.mp4", "size": 9 * 2**20, "mime": "video/mp4", "strategy": "multipart"}
    upload = (await accepted(laptop, "file.upload.request", large, TALK))["upload_id"]
    await accepted(laptop, "file.upload.sign", {"upload_id": upload, "parts": [{"n": 2}]}, TALK)
    await accepted(laptop, "file.upload.progress", {"upload_id": upload, "sent": 4096}, TALK)
    await until(phone, "file.upload.progress", sent=4096)
    await accepted(laptop, "file.upload.status", {"upload_id": upload}, TALK)
    story.look_into(redis_url)
    await accepted(laptop, "file.upload.cancel", {"upload_id": upload, "reason": "too large"}, TALK)
    await until(phone, "file.upload.failed", upload_id=upload)


async def work_as_a_team(laptop: SocketClient, phone: SocketClient, bob: SocketClient) -> None:
    """Important activity, how one is, notices and reading them."""
    issue = {"type": "issue", "id": "7", "title": "Ship it"}
    activity = {"verb": "closed", "object": issue, "summary": "Closed issue 7", "importance": "high"}
    await accepted(bob, "team.activity", activity, TEAM)
    await until(phone, "team.notification", kind="team.activity")
    await accepted(laptop, "team.presence.update", {"status": "busy", "message": "shipping"}, TEAM)
    await until(bob, "team.presence.update", user="alice", status="busy")
    notice = {"kind": "task", "title": "Write the report", "link": "/reports/7", "priority": "high"}
    sent = await accepted(laptop, "team.notification", notice, "user:bob")
    await until(bob, "team.notification", kind="task")
    read = await accepted(bob, "team.notification.read", {"up_to": sent["id"]}, "user:bob")
    assert read["unread"] == 0


async def write_together(laptop: SocketClient, phone: SocketClient, bob: SocketClient) -> None:
    """Two patches, one that came too late."""
    add = [{"op": "add", "path": "/lines", "value": ["one"]}]
    await accepted(laptop, "document.update", {"base_version": 0, "patch": add}, NOTES)
    more = {"base_version": 1, "patch": [{"op": "add", "path": "/lines/-", "value": "two"}]}
    await accepted(bob, "document.update", more, NOTES)
    late = await laptop.answer("document.update", more, NOTES)
    assert late["payload"]["code"] == 4021


async def look_back(bob: SocketClient) -> None:
    """A page, the state, a channel followed again from a place, a cursor in it, and left."""
    page = await accepted(bob, "channel.history", {"types": ["chat.*"], "limit": 3}, TALK)
    state = await accepted(bob, "channel.state", {}, NOTES)
    assert (len(page["events"]), state["state"]["content"]) == (3, {"lines": ["one", "two"]})
    await bob.subscribe(NOTES, rewind=1)
    resumed = await until(bob, "channel.resumed", count=1)
    await bob.send("document.cursor", {"selection": {"line": 2}}, NOTES, None)
    await until(bob, "document.cursor", user="bob")
    left = await bob.answer("channel.unsubscribe", {"channels": [NOTES]})
    assert (resumed["channel"], left["type"]) == (NOTES, "channel.unsubscribed")


async def lose_a_worker(story: Story, phone: SocketClient, redis_url: str, files: str, workers: list[Any]) -> None:
    """Killed in the middle of an answer; another one takes it over and ends it."""
    run_id = await ask(phone, "a long answer", "actor")
    await until(phone, "assistant.message.delta", run_id=run_id)
    story.look_into(redis_url)
    await asyncio.to_thread(story_worker.kill, workers[0])
    workers.append(story_worker.start(redis_url, files, is_lost=False))
    await until(phone, "assistant.message.reset", run_id=run_id)
    end = await until(phone, "assistant.message.end", run_id=run_id)
    await until(phone, "agent.complete", run_id=run_id)
    assert end["payload"]["text"] == "The first half. The second half."


async def lose_a_socket(story: Story, laptop: SocketClient, bob: SocketClient) -> None:
    """The laptop falls asleep, misses a message, and comes back to the other node with its cursors."""
    last = [frame for frame in laptop.seen if frame.get("channel") == TALK and "seq" in frame][-1]
    session = laptop.seen[0]["payload"]["session_id"]
    laptop.reset()
    story.gone(laptop)
    await accepted(bob, "chat.message", {"text": "Are you there?"}, TALK)
    cursors = {TALK: {"after": last["id"], "seq": last["seq"]}}
    back = await story.device("alice", "laptop", 1, greeting={"session_id": session, "cursors": cursors})
    await until(back, "chat.message", text="Are you there?")
    await until(back, "channel.resumed", gap=None)
    await accepted(back, "chat.message", {"text": "I am back."}, TALK)


async def restart_a_node(story: Story, bob: SocketClient, phone: SocketClient) -> None:
    """Whoever is on it is told when to come back."""
    stopping = asyncio.create_task(asyncio.to_thread(story.nodes[0].terminate))
    await bob.expect("connection.drain")
    assert await bob.closed() == 1012
    story.gone(bob)
    await stopping
    await until(phone, "chat.message", text="I am back.")


@contextlib.asynccontextmanager
async def staged(redis_url: str, tenant: str, files: str) -> AsyncIterator[tuple[Story, list[Any]]]:
    """Two nodes and a worker, started at the same time, and killed in the end whatever happened."""
    workers = [story_worker.start(redis_url, files, is_lost=True)]
    environment = {"HUB_DATA": files, "HUB_DRAIN_SECONDS": "0.2"}
    nodes = NodeProcess(redis_url, **environment), NodeProcess(redis_url, **environment)
    try:
        await asyncio.gather(
            *(node.wait_ready() for node in nodes), asyncio.to_thread(story_worker.wait_up, workers[0])
        )
        story = Story(nodes, tenant)
        async with story.stack:
            yield story, workers
    finally:
        for node in nodes:
            node.close()
        for worker in workers:
            story_worker.kill(worker)


async def told(redis_url: str, tenant: str, files: str) -> Story:
    """The story from beginning to end; every device that is still there has read all there is."""
    async with staged(redis_url, tenant, files) as (story, workers):
        await play(story, redis_url, files, workers)
        for at in story.open:
            await accepted(story.sockets[at], "connection.heartbeat", {})
        story.look_into(redis_url)
    return story


def types_of(story: Story) -> set[str]:
    """Every type that was sent or received."""
    received = {frame["type"] for socket in story.sockets for frame in socket.seen}
    return received | {frame["type"] for socket in story.sockets for frame in socket.sent}


def test_the_story_with_every_event(
    own_redis: RedisServer, tenant: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every event of the first version occurs, every stream rule holds on every device, and the log is the golden one."""
    story = asyncio.run(told(own_redis.url, tenant, str(tmp_path)))

    logs = {name: replayed(name, tenant, own_redis.url, capsys) for name in CHANNELS}
    assert set(CATALOGUE) - LATER - types_of(story) == set()
    assert log_violations(logs, tenant) == []
    for at, socket in enumerate(story.sockets):
        found = socket_violations(socket.raw, socket.sent, logs, tenant, is_quiet=at in story.open)
        assert found == [], f"device {at}"
    assert sum(len(list(frames_of(text))) for socket in story.sockets for text in socket.raw) > 200
    assert undocumented(story.keys.items()) == []
    assert [key for key in unseen(story.keys) if not any(part in key for part in SELDOM)] == []
    compare(normalised(logs))


def replayed(channel: str, tenant: str, redis_url: str, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """The output of `hub replay`; nothing of a channel that nobody wrote."""
    with pytest.raises(SystemExit) as ended:
        main(["replay", channel, "--tenant", tenant, "--redis", redis_url, "--format", "jsonl"])
    out, err = capsys.readouterr()
    if ended.value.code == 1:
        assert "no such channel" in err.replace("\n", " "), err
        return []
    assert (ended.value.code, err) == (0, "")
    return out.splitlines()


def compare(lines: list[str]) -> None:
    """Against the golden file, which is written when that is asked for."""
    if "UPDATE_GOLDEN" in os.environ:
        GOLDEN.write_text("\n".join(lines) + "\n")
    expected = [json.loads(line) for line in GOLDEN.read_text().splitlines()]
    assert [json.loads(line) for line in lines] == expected
