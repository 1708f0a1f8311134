"""A channel's settings: metadata, members, access lists; and the notices that reach its members."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest

from consumers.worker import running
from hub.auth.permissions import Lists
from streams.channel import Channel, parse_channel
from streams.errors import LogUnavailable
from streams.redis.log import Log
from support.nodes import Node, running_node, token
from support.run_rig import options
from support.socket_client import SocketClient, client

ROOM, TEAM = "conversation:1", "team:1"


async def configure(socket: SocketClient, channel: str, **changes: Any) -> dict[str, Any]:
    """The payload of the answer to `channel.configure`."""
    found: dict[str, Any] = (await socket.answer("channel.configure", changes, channel))["payload"]
    return found


async def state(socket: SocketClient, channel: str) -> dict[str, Any]:
    """The channel's state now."""
    found: dict[str, Any] = (await socket.answer("channel.state", {}, channel))["payload"]["state"]
    return found


def web(node: Node, who: str) -> httpx.AsyncClient:
    """An HTTP client with this token."""
    return node.http(who)


async def test_metadata_is_merged_and_members_are_kept_by_name(redis_url: str, tenant: str) -> None:
    """Patches add, replace and remove; a stale revision is 4021, too much is 4011, and neither changes anything."""
    async with running_node(redis_url) as node, client(node.ws_url, token("a", tenant)) as a:
        for channel in (ROOM, "document:1", "agent:helper"):
            first = await configure(
                a, channel, metadata={"topic": "x", "deep": {"a": 1, "b": 2}}, members={"add": ["zoe", "bob", "al"]}
            )
            second = await configure(
                a, channel, metadata={"topic": None, "deep": {"a": None}}, members={"remove": ["al"]}, if_revision=1
            )
            stale = await configure(a, channel, metadata={"late": True}, if_revision=1)
            large = await configure(a, channel, metadata={"big": "x" * 8_000, "more": "y" * 300})
            crowd = await configure(a, channel, members={"add": [f"u{n}" for n in range(999)]})
            shown = await state(a, channel)

            assert (first["revision"], second["revision"]) == (1, 2)
            assert (stale["code"], large["code"], crowd["code"]) == (4021, 4011, 4011)
            assert shown["metadata"] == {"deep": {"b": 2}}
            assert (shown["members"], shown["access"], shown["revision"]) == (["bob", "zoe"], {}, 2)
        refused = await configure(a, "user:a", metadata={"x": 1})
        async with client(node.ws_url, token("b", tenant, {"*": ["read", "write"]})) as b:
            forbidden = await configure(b, ROOM, metadata={"x": 1})

    assert (refused["code"], forbidden["code"]) == (4005, 4003)


async def test_an_access_list_narrows_every_way_in_and_never_widens(redis_url: str, tenant: str) -> None:
    """On two nodes: live subscriptions and streams end, and commands, reads, history, state and HTTP are 4003."""
    async with running_node(redis_url) as one, running_node(redis_url) as two:
        async with client(one.ws_url, token("a", tenant)) as a, client(two.ws_url, token("b", tenant)) as b:
            await a.subscribe(ROOM)
            await b.subscribe(ROOM)
            async with (
                web(two, token("b", tenant)) as http,
                http.stream("GET", f"/v1/channels/{ROOM}/stream") as stream,
            ):
                lines = stream.aiter_lines()
                await anext(lines)
                await configure(
                    a, ROOM, access={action: ["a", "c"] for action in ("read", "write", "invoke", "upload")}
                )
                told = await b.expect("channel.unsubscribed", channel=ROOM)
                rest = [line async for line in lines]  # it ends
                refusals = [
                    await b.answer("chat.message", {"text": "hi"}, ROOM),
                    await b.answer("chat.typing", {"state": "start"}, ROOM),
                    await b.answer("channel.history", {}, ROOM),
                    await b.answer("channel.state", {}, ROOM),
                    await b.answer("channel.subscribe", {"channels": [ROOM]}),
                    await b.answer("agent.invoke", {"agent": "x", "input": "y"}, ROOM),
                    await b.answer("file.upload.request", {"filename": "a", "size": 1, "mime": "text/plain"}, ROOM),
                ]
                pages = [
                    await http.get(f"/v1/channels/{ROOM}/{page}") for page in ("events", "stream", "state", "presence")
                ]
                body = {"type": "chat.message", "payload": {"text": "hi"}}
                pages.append(await http.post(f"/v1/channels/{ROOM}/events", json=body))
            mine = await a.say(ROOM, "still here")
            async with client(two.ws_url, token("c", tenant, {"conversation:*": ["read"]})) as c:
                listed = await c.say(ROOM, "no token for it")
                reads = await c.subscribe(ROOM)
            await configure(a, ROOM, access={"read": None, "write": None})
            back = await b.subscribe(ROOM)
            again = await b.say(ROOM, "hi")

    assert told["payload"]["reason"] == "permission_denied"
    assert any("4003" in line for line in rest)
    assert [frame["payload"].get("code") for frame in refusals] == [4003] * 7
    assert [(page.status_code, page.json()["code"]) for page in pages] == [(403, 4003)] * 5
    assert (mine["type"], listed["payload"]["code"], reads["state"]["access"]["write"]) == (
        "message.received",
        4003,
        ["a", "c"],
    )
    assert (back["state"]["access"].keys(), again["type"]) == ({"invoke", "upload"}, "message.received")


async def test_who_resumes_is_asked_too_and_a_node_that_starts_later_knows(redis_url: str, tenant: str) -> None:
    """A list outlives the node that took it."""
    async with running_node(redis_url) as node, client(node.ws_url, token("a", tenant)) as a:
        await configure(a, ROOM, access={"read": ["a"]})
    async with running_node(redis_url) as later, client(later.ws_url, token("b", tenant), channels=[ROOM]) as b:
        refused = await b.expect("connection.error", channel=ROOM)

    assert refused["payload"]["code"] == 4003


async def test_notices_and_important_activity_reach_each_members_inbox_once(redis_url: str, tenant: str) -> None:
    """Members are told in their inbox, others are not; the change is told with its revision."""
    log = await Log.open(redis_url)
    inboxes = {name: parse_channel(tenant, f"user:{name}") for name in ("al", "bob", "zoe")}
    async with running_node(redis_url) as node, client(node.ws_url, token("a", tenant)) as a:
        async with running(options(redis_url, {}), log):
            await a.subscribe(TEAM)
            await configure(a, TEAM, members={"add": ["al", "bob", "zoe"]}, metadata={"name": "Blue"})
            updated = await a.expect("channel.updated")
            await configure(a, TEAM, members={"remove": ["zoe"]})
            await a.expect("channel.updated")
            activity = {"verb": "broke", "object": {"type": "build", "id": "7"}, "summary": "Red", "importance": "high"}
            await a.answer("team.activity", activity, TEAM)
            await a.answer("team.notification", {"kind": "task", "title": "Mend it"}, TEAM)
            pages: dict[str, list[Any]] = {}
            for name in ("al", "bob"):
                async with client(node.ws_url, token(name, tenant)) as member:
                    await member.subscribe(f"user:{name}", after="0")
                    await member.events(2)
                pages[name] = await log.page(inboxes[name])
            others = await log.page(inboxes["zoe"])
    await log.close()

    assert {k: updated["payload"][k] for k in ("revision", "by")} == {"revision": 1, "by": "a"}
    assert updated["payload"]["changes"] == {"members": {"add": ["al", "bob", "zoe"]}, "metadata": {"name": "Blue"}}
    for entries in pages.values():
        found = sorted(json.loads(entry.data)["title"] for entry in entries)
        assert found == ["Mend it", "a broke"]
    assert others == []


async def test_lists_that_were_read_before_a_change_are_not_kept(redis_url: str, tenant: str) -> None:
    """A read of the lists that is answered after a change was noted may be older than it: the next command reads again."""
    channel = parse_channel(tenant, "conversation:unfollowed")
    async with running_node(redis_url) as node:
        access = node.hub.access
        reading = asyncio.create_task(access.lists(channel))
        await asyncio.sleep(0)
        access.forget(channel)
        await reading
        late = access.known(channel)
        await access.lists(channel)

    assert (late, access.known(channel)) == (None, {})


@pytest.mark.interpreted
async def test_who_was_removed_reads_no_further_although_redis_was_lost_just_then(
    redis_url: str, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first read of the changed lists fails; the subscription ends with the next."""
    async with running_node(redis_url) as node:
        failures: list[Channel] = []
        read = node.hub.access.lists

        async def lost_once(channel: Channel) -> Lists:
            found = await read(channel)
            if found and not failures:
                failures.append(channel)
                node.hub.access.forget(channel)
                raise LogUnavailable("the connection was lost")
            return found

        monkeypatch.setattr(node.hub.access, "lists", lost_once)
        async with client(node.ws_url, token("a", tenant)) as a, client(node.ws_url, token("b", tenant)) as b:
            await b.subscribe(ROOM)
            await configure(a, ROOM, access={"read": ["a"]})
            told = await b.expect("channel.unsubscribed", channel=ROOM)

    assert (told["payload"]["reason"], len(failures)) == ("permission_denied", 1)
