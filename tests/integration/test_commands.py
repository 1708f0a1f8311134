"""Each family's commands at the edge, over a real socket."""

from __future__ import annotations

from typing import Any

from streams.channel import parse_channel
from streams.envelope import Actor
from streams.events import CATALOGUE
from support.nodes import running_node, token
from support.socket_client import SocketClient, client


def code_of(frame: dict[str, Any]) -> int:
    """The code of an error."""
    assert frame["type"] == "connection.error", frame
    code: int = frame["payload"]["code"]
    return code


async def patch(socket: SocketClient, base: int, value: object) -> dict[str, Any]:
    """Send a patch made for version `base`."""
    operation = {"op": "add", "path": "/a", "value": value}
    return await socket.answer("document.update", {"base_version": base, "patch": [operation]}, "document:1")


async def test_document_patches_apply_to_the_version_they_were_made_for(redis_url: str, tenant: str) -> None:
    """Two writers on one version: one wins, the other is told the present version; the log grows by one."""
    async with running_node(redis_url) as node, client(node.ws_url, token("a", tenant)) as a:
        assert (await patch(a, 0, 1))["payload"]["version"] == 1
        assert (await patch(a, 1, 2))["payload"]["version"] == 2
        stale = await patch(a, 1, 3)
        opaque = await a.answer("document.update", {"update": "AAAA"}, "document:1")
        subscribed = await a.subscribe("document:1")

    assert code_of(stale) == 4021
    assert stale["payload"]["details"] == [{"field": "version", "problem": "is 2"}]
    assert code_of(opaque) == 4021
    assert (subscribed["state"]["version"], subscribed["state"]["content"]) == (2, {"a": 2})
    assert subscribed["head"]["seq"] == 2


async def test_settings_have_a_revision_that_a_late_writer_is_told(redis_url: str, tenant: str) -> None:
    """`expected_revision` is compared in the script that stores the change."""
    async with running_node(redis_url) as node, client(node.ws_url, token("a", tenant)) as a:
        first = await a.answer("chat.configure", {"settings": {"title": "One"}}, "conversation:1")
        again = {"settings": {"title": "Two"}, "expected_revision": 1}
        second = await a.answer("chat.configure", again, "conversation:1")
        late = await a.answer("chat.configure", again, "conversation:1")
        state = await a.answer("channel.state", {}, "conversation:1")

    assert (first["payload"]["revision"], second["payload"]["revision"]) == (1, 2)
    assert (code_of(late), late["payload"]["details"][0]["problem"]) == (4021, "is 2")
    assert (state["payload"]["state"]["title"], state["payload"]["state"]["revision"]) == ("Two", 2)


async def test_a_person_edits_and_deletes_only_their_own_messages(redis_url: str, tenant: str) -> None:
    """Others' messages need `manage`; a message that is not there is 4018."""
    plain = {"conversation:*": ["read", "write"]}
    async with (
        running_node(redis_url) as node,
        client(node.ws_url, token("a", tenant, plain)) as a,
        client(node.ws_url, token("b", tenant, plain)) as b,
    ):
        mine = (await a.say("conversation:1", "draft"))["payload"]["id"]
        foreign = await b.answer("chat.edit", {"message_id": mine, "text": "stolen"}, "conversation:1")
        edited = await a.answer("chat.edit", {"message_id": mine, "text": "final", "mode": "replace"}, "conversation:1")
        liked = await b.answer("chat.react", {"message_id": mine, "reaction": "+1", "op": "add"}, "conversation:1")
        missing = await b.answer("chat.delete", {"message_id": "1-1"}, "conversation:1")
        state = (await b.answer("channel.state", {}, "conversation:1"))["payload"]["state"]

    assert (code_of(foreign), code_of(missing)) == (4003, 4018)
    assert (edited["type"], liked["type"]) == ("ack", "ack")
    assert [message["text"] for message in state["messages"]] == ["final"]
    assert "+1" in str(state["messages"][0]["reactions"])


async def test_a_person_of_an_agents_name_may_not_change_what_the_agent_said(redis_url: str, tenant: str) -> None:
    """User `demo` edited the words of agent `demo`, which its model then read as its own."""
    plain = {"conversation:*": ["read", "write"]}
    channel = parse_channel(tenant, "conversation:1")
    async with running_node(redis_url) as node, client(node.ws_url, token("demo", tenant, plain)) as demo:
        said = await node.hub.broadcast(channel, "chat.message", {"text": "I am sure"}, Actor("agent", "demo"))
        edited = await demo.answer("chat.edit", {"message_id": said.id, "text": "I am not"}, "conversation:1")
        deleted = await demo.answer("chat.delete", {"message_id": said.id}, "conversation:1")

    assert (code_of(edited), code_of(deleted)) == (4003, 4003)


async def test_ways_to_handle_a_busy_channel_that_are_not_offered_are_4024_everywhere(
    redis_url: str, tenant: str
) -> None:
    """As a setting, or where no agent answers, they were accepted without effect. The catalogue names the code."""
    commands: dict[str, list[dict[str, Any]]] = {
        "chat.configure": [{"settings": {}}],
        "chat.message": [{"text": "hi"}, {"text": "hi", "agent": "none"}, {"text": "hi", "agent": "nobody-serves-it"}],
        "agent.invoke": [{"agent": "nobody-serves-it", "input": "hi"}],
    }
    codes = set()
    async with running_node(redis_url) as node, client(node.ws_url, token("a", tenant)) as a:
        for type_, payloads in commands.items():
            for payload in payloads:
                for way in ("interrupt", "steer"):
                    asked = {"settings": {"on_busy": way}} if "settings" in payload else payload | {"on_busy": way}
                    codes.add(code_of(await a.answer(type_, asked, "conversation:1")))
        kept = await a.answer("chat.configure", {"settings": {"on_busy": "reject"}}, "conversation:1")

    assert (codes, kept["type"], kept["payload"]["seq"]) == ({4024}, "ack", 1)
    assert all(4024 in CATALOGUE[type_].errors for type_ in commands)


async def test_an_inbox_is_read_by_its_owner_alone(redis_url: str, tenant: str) -> None:
    """Notices arrive on the own channel without subscribing; reading them is told back as what is left."""
    async with (
        running_node(redis_url) as node,
        client(node.ws_url, token("boss", tenant)) as boss,
        client(node.ws_url, token("a", tenant, {})) as a,
    ):
        notice = {"kind": "task", "title": "Do it"}
        ids = [(await boss.answer("team.notification", notice, "user:a"))["payload"]["id"] for _ in range(2)]
        received = await a.events(2)
        foreign = await boss.answer("team.notification.read", {"ids": ids}, "user:a")
        read = await a.answer("team.notification.read", {"ids": ids[:1]}, "user:a")

    assert [event["id"] for event in received] == ids
    assert code_of(foreign) == 4003
    assert read["payload"]["unread"] == 1


async def test_nobody_serves_the_agent(redis_url: str, tenant: str) -> None:
    """An agent without a worker is 4007 and nothing is stored; asking without `invoke` is 4003."""
    async with running_node(redis_url) as node, client(node.ws_url, token("a", tenant)) as a:
        named = await a.answer("chat.message", {"text": "hi", "agent": "ghost"}, "conversation:1")
        invoked = await a.answer("agent.invoke", {"agent": "ghost", "input": "x"}, "conversation:1")
        unnamed = await a.answer("agent.invoke", {"input": "x"}, "conversation:1")
        listed = await a.answer("agent.list")
        cancelled = await a.answer("agent.cancel", {"run_id": "r1"}, "conversation:1")
        answered = await a.answer(
            "tool.call.response", {"request_id": "r1.q0", "decision": "approve"}, "conversation:1"
        )
        subscribed = await a.subscribe("conversation:1")
        async with client(node.ws_url, token("b", tenant, {"conversation:*": ["read", "write"]})) as b:
            refused = await b.answer("chat.message", {"text": "hi", "agent": "ghost"}, "conversation:1")

    codes = [code_of(frame) for frame in (named, invoked, unnamed, cancelled, answered, refused)]
    assert codes == [4007, 4007, 4005, 4018, 4018, 4003]
    assert (listed["payload"], subscribed["head"]["seq"]) == ({"agents": []}, 0)


async def test_typing_cursors_and_read_marks_are_signals(redis_url: str, tenant: str) -> None:
    """Live events reach who follows now, with who sent them; they have no id, no seq, and are never replayed."""
    async with running_node(redis_url) as node, client(node.ws_url, token("a", tenant)) as a:
        await a.subscribe("conversation:1")
        await a.subscribe("document:1")
        await a.subscribe("team:1")
        async with client(node.ws_url, token("b", tenant)) as b:
            await b.send("chat.typing", {"state": "start"}, "conversation:1", id_=None)
            typing = await a.expect("chat.typing")
            await b.subscribe("document:1")
            await b.answer("document.cursor", {"selection": [1, 2]}, "document:1")
            cursor = await a.expect("document.cursor")
            await b.subscribe("team:1")
            await b.answer("team.presence.update", {"status": "invisible"}, "team:1")
            presence = await a.expect("team.presence.update")
            said = (await b.say("conversation:1", "hi"))["payload"]["id"]
            await b.answer("channel.read", {"up_to": said}, "conversation:1")
            read = await a.expect("channel.read")

    assert typing["payload"] == {"state": "start", "ttl_ms": 6000, "user": "b"}
    assert (cursor["payload"]["user"], cursor["payload"]["selection"]) == ("b", [1, 2])
    assert presence["payload"] == {"status": "offline", "user": "b", "devices": 0}
    assert read["payload"] == {"up_to": said, "user": "b"}
    assert not any("seq" in signal or "id" in signal for signal in (typing, cursor, presence, read))


async def test_what_is_passing_now_is_in_the_state_of_who_joins(redis_url: str, tenant: str) -> None:
    """Typing, members, cursors and read marks: the last value of each, and a mark never moves back."""
    async with running_node(redis_url) as node, client(node.ws_url, token("a", tenant)) as a:
        await a.answer("chat.typing", {"state": "start"}, "conversation:1")
        marks = [(await a.say("conversation:1", "hi"))["payload"]["id"] for _ in range(3)]
        for mark in (marks[0], marks[2], marks[1]):
            await a.answer("channel.read", {"up_to": mark}, "conversation:1")
        await a.subscribe("team:1")
        await a.answer("team.presence.update", {"status": "busy", "message": "lunch"}, "team:1")
        await a.subscribe("document:1")
        await a.answer("document.cursor", {"selection": [3]}, "document:1")
        async with client(node.ws_url, token("b", tenant)) as b:
            conversation = (await b.subscribe("conversation:1"))["state"]
            team = (await b.subscribe("team:1"))["state"]
            document = (await b.subscribe("document:1"))["state"]

    assert (conversation["typing"], conversation["read_markers"]) == (["a"], {"a": marks[2]})
    assert [(m["user"], m["status"], m["message"]) for m in team["members"]] == [("a", "busy", "lunch")]
    assert [(c["user"], c["selection"]) for c in document["cursors"]] == [("a", [3])]
