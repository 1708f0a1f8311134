"""Agents from the question to the end as clients see them: real sockets, a worker in the same process, the demo agent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest

from consumers.agents import Question, ToolCall
from consumers.agents.demo import DemoAgent
from consumers.worker import Worker, running
from streams.channel import parse_channel
from streams.redis.log import Log
from support import socket_client
from support.nodes import Node, running_node, token
from support.redis_server import RedisServer
from support.run_rig import POLL_S, Client, options
from support.socket_client import Json, SocketClient
from support.stream_rules import lines_of, log_violations

PLACE = "conversation:c"
READER = {"conversation:*": ["read"]}
MEMBER = {"conversation:*": ["read", "write", "invoke"]}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def redis_url(module_redis: RedisServer) -> str:
    """A Redis of this file alone."""
    return module_redis.url


@pytest.fixture(autouse=True)
async def _rules(log: Log, tenant: str) -> AsyncIterator[None]:
    """Whatever a test does here, the log keeps the rules of docs/protocol.md#stream-rules."""
    yield
    channel = parse_channel(tenant, PLACE)
    events = await Client(log, channel).events()
    assert log_violations({PLACE: lines_of(channel, events)}, tenant, is_quiet=True) == []


async def talkative(ctx: Any, given: Any) -> Any:
    """Talks until it is stopped."""
    while True:
        yield "word "
        await asyncio.sleep(POLL_S)


async def listening(ctx: Any, given: Any) -> Any:
    """Talks until somebody says something to it, and repeats that."""
    yield "listening. "
    while not (words := await ctx.steering()):  # noqa: ASYNC110 - words come by asking for them
        await asyncio.sleep(POLL_S)
    yield f"heard: {words[0]}"


async def careful(ctx: Any, given: Any) -> Any:
    """Asks alice, and nobody else, before it acts."""

    async def act(args: Any, tool: Any) -> Any:
        return args["n"]

    ask = Question("Act?", "approval", allow_edit=given.text == "edit", assignees=("alice",))
    found = yield ToolCall("act", {"n": 1}, act, approval=ask)
    yield "left alone" if found.is_denied else f"acted on {found.output}"


AGENTS = {"demo": DemoAgent(0.002), "talkative": talkative, "listening": listening, "careful": careful}


@asynccontextmanager
async def served(log: Log) -> AsyncIterator[Worker]:
    """A worker with all agents of this file."""
    async with running(options(log.url, AGENTS), log) as worker:
        yield worker


def devices(
    node: Node, tenant: str, *users: str, grants: Any = None
) -> AbstractAsyncContextManager[list[SocketClient]]:
    """A socket for each user, following the conversation from its beginning."""
    return socket_client.devices(node.ws_url, [token(user, tenant, grants) for user in users], PLACE)


async def ask(socket: SocketClient, text: str, agent: str | None = "demo", **more: Any) -> Json:
    """Send a message; the reply's payload."""
    payload = {"text": text, **({"agent": agent} if agent else {}), **more}
    return await _fine(socket, "chat.message", payload)


async def _fine(socket: SocketClient, type_: str, payload: Json) -> Json:
    reply = await socket.answer(type_, payload, PLACE)
    assert reply["type"] != "connection.error", reply
    found: Json = reply["payload"]
    return found


async def refused(socket: SocketClient, type_: str, payload: Json) -> Json:
    """Send what is refused; the error's payload."""
    reply = await socket.answer(type_, payload, PLACE)
    assert reply["type"] == "connection.error", reply
    found: Json = reply["payload"]
    return found


async def end(socket: SocketClient, run_id: str) -> Json:
    """The run's `agent.complete`."""
    return await socket.event("agent.complete", run_id=run_id)


def text(socket: SocketClient, run_id: str) -> str:
    """The text of a run, by the ends of its messages."""
    ends = [f["payload"] for f in socket.seen if f["type"] == "assistant.message.end"]
    return "|".join(end["text"] for end in ends if end["run_id"] == run_id)


async def test_a_message_to_an_agent_is_answered_on_every_device(node: Node, log: Log, tenant: str) -> None:
    """`message.received` names the run; the answer streams by the offset rule to all nodes, and ends once."""
    async with (
        running_node(log.url) as other,
        served(log),
        devices(node, tenant, "alice") as [alice],
        devices(other, tenant, "bob", grants=READER) as [bob],
    ):
        await ask(alice, "the kettle is on", agent="none")
        received = await ask(alice, "who said kettle?")
        completes = [await end(socket, received["run_id"]) for socket in (alice, bob)]

    assert received["disposition"] == "queued"
    run_id = received["run_id"]
    assert completes[0] == completes[1]
    assert completes[0]["outcome"] == "success"
    assert completes[0]["message_ids"] == [f"{run_id}.0", f"{run_id}.1"]
    assert "kettle is on" in text(alice, run_id)
    for socket in (alice, bob):
        said: dict[str, str] = {}
        for frame in socket.seen:
            if frame["type"] == "assistant.message.delta":
                delta = frame["payload"]
                held = said.setdefault(delta["message_id"], "")
                assert delta["offset"] == len(held)
                said[delta["message_id"]] = held + delta["delta"]
                assert delta["end"] == len(said[delta["message_id"]])
        assert "|".join(said.values()) == text(alice, run_id)
    stored = [[frame for frame in socket.seen if "seq" in frame] for socket in (alice, bob)]
    assert stored[0] == stored[1]
    types = [frame["type"] for frame in stored[0] if frame["payload"].get("run_id") == run_id]
    assert types == [
        "agent.status", "agent.status", "assistant.message.start", "assistant.message.end", "tool.call.start",
        "tool.call.complete", "assistant.message.start", "assistant.message.end", "agent.complete",
    ]  # fmt: skip # a table


async def test_the_settings_name_the_agent_that_answers(node: Node, log: Log, tenant: str) -> None:
    """From the reply to `chat.configure` on plain messages are answered; one to `none` is not; unknown agents are 4007."""
    async with served(log), devices(node, tenant, "alice") as [alice]:
        before = await ask(alice, "anybody?", agent=None)
        nobody = await refused(alice, "chat.configure", {"settings": {"agent": "ghost"}})
        await _fine(alice, "chat.configure", {"settings": {"agent": "demo"}})
        answered = await ask(alice, "how many messages?", agent=None)
        await end(alice, answered["run_id"])
        passed_over = await ask(alice, "just saying", agent="none")
        for agent in ("demo", None) * 20:  # the node must not go by what it knew before its own reply
            await _fine(alice, "chat.configure", {"settings": {"agent": agent}})
            after = await ask(alice, "and now?", agent=None)
            assert ("run_id" in after) == (agent is not None)
            if agent is not None:
                await end(alice, after["run_id"])

    assert nobody["code"] == 4007
    assert (before["disposition"], passed_over["disposition"], after["disposition"]) == ("stored",) * 3
    assert answered["disposition"] == "queued"
    assert "run_id" not in passed_over


async def test_a_reader_cannot_invoke(node: Node, log: Log, tenant: str) -> None:
    """Naming an agent needs `invoke`; without it nothing is stored."""
    async with served(log), devices(node, tenant, "bob", grants={"conversation:*": ["read", "write"]}) as [bob]:
        denied = await refused(bob, "chat.message", {"text": "x", "agent": "demo"})
        state = (await bob.answer("channel.state", {}, PLACE))["payload"]

    assert (denied["code"], state["state_at"]) == (4003, 0)


async def test_the_first_answer_from_any_device_wins(node: Node, log: Log, tenant: str) -> None:
    """Three devices on two nodes answer at once: one is stored, the others get 4021, and every prompt closes."""
    async with (
        running_node(log.url) as other,
        served(log),
        devices(node, tenant, "alice", "alice") as [phone, laptop],
        devices(other, tenant, "bob") as [bob],
    ):
        run_id = (await ask(phone, "export"))["run_id"]
        everybody = [phone, laptop, bob]
        prompts = [await socket.event("tool.call.request", run_id=run_id) for socket in everybody]
        for socket in everybody:
            await socket.event("agent.status", run_id=run_id, state="waiting")
        yes = {"request_id": prompts[0]["request_id"], "decision": "approve"}
        replies = await asyncio.gather(*(socket.answer("tool.call.response", yes, PLACE) for socket in everybody))
        closed = [await socket.event("tool.call.resolved", run_id=run_id) for socket in everybody]
        completes = [await end(socket, run_id) for socket in everybody]
        late = await refused(bob, "tool.call.response", yes)
        state = (await bob.answer("channel.state", {}, PLACE))["payload"]["state"]

    kinds = sorted(reply["type"] for reply in replies)
    assert kinds == ["ack", "connection.error", "connection.error"]
    losers = [reply["payload"] for reply in replies if reply["type"] == "connection.error"]
    assert {loser["code"] for loser in losers} == {late["code"]} == {4021}
    assert {loser["details"][0]["field"] for loser in losers} == {"state"}
    winner = everybody[[reply["type"] for reply in replies].index("ack")]
    by = "bob" if winner is bob else "alice"
    assert [(one["resolution"], one["by"]) for one in closed] == [("approved", by)] * 3
    assert [one["outcome"] for one in completes] == ["success"] * 3
    assert sum(frame["type"] == "tool.call.response" for frame in bob.seen if "seq" in frame) == 1
    assert (await bob.event("agent.output", run_id=run_id, kind="artifact"))["name"] == "history.csv"
    assert state["pending_requests"] == state["active_runs"] == []


async def test_no_decision_is_a_denial(node: Node, log: Log, tenant: str) -> None:
    """An answer that does not say yes means no; what was not asked for cannot be answered."""
    async with served(log), devices(node, tenant, "alice") as [alice]:
        run_id = (await ask(alice, "export"))["run_id"]
        request = await alice.event("tool.call.request", run_id=run_id)
        unknown = await refused(alice, "tool.call.response", {"request_id": f"{run_id}.q9", "decision": "approve"})
        edited = {"request_id": request["request_id"], "decision": "approve", "edited_args": {"messages": 0}}
        not_editable = await refused(alice, "tool.call.response", edited)
        await _fine(alice, "tool.call.response", {"request_id": request["request_id"]})
        complete = await end(alice, run_id)

    assert (unknown["code"], not_editable["code"]) == (4018, 4005)
    assert (await alice.event("tool.call.resolved"))["resolution"] == "denied"
    assert (await alice.event("tool.call.complete"))["outcome"] == "denied"
    assert (complete["outcome"], text(alice, run_id).endswith("Then I leave it.")) == ("success", True)


async def test_only_those_who_were_asked_may_answer(node: Node, log: Log, tenant: str) -> None:
    """`assignees` binds; edited arguments replace those of the call where that was offered."""
    async with served(log), devices(node, tenant, "alice", "bob", grants=MEMBER) as [alice, bob]:
        run_id = (await ask(bob, "edit", agent="careful"))["run_id"]
        request = await bob.event("tool.call.request", run_id=run_id)
        answer = {"request_id": request["request_id"], "decision": "approve", "edited_args": {"n": 7}}
        not_asked = await refused(bob, "tool.call.response", answer)
        await _fine(alice, "tool.call.response", answer)
        await end(alice, run_id)

    assert not_asked["code"] == 4003
    assert text(alice, run_id).endswith("acted on 7")
    assert (await bob.event("tool.call.resolved"))["edited"] is True


@pytest.mark.parametrize("command", ["chat.cancel", "agent.cancel"])
async def test_a_queued_run_is_cancelled_without_a_worker(node: Node, log: Log, tenant: str, command: str) -> None:
    """No worker is there to run it, none has to be there to end it; whoever comes later adds nothing and takes the next."""
    async with devices(node, tenant, "alice", "bob") as [alice, bob]:
        async with served(log):
            await _until_listed(alice, is_there=True)
        run_id = (await ask(alice, "how many?"))["run_id"]  # the node still knows the agent: it left a moment ago
        cancelled = await _fine(bob, command, {"run_id": run_id})
        complete = await end(alice, run_id)
        again = await refused(bob, command, {"run_id": run_id})
        async with served(log):
            await _until_listed(alice, is_there=True)
            following = await ask(alice, "how many now?")
            await end(alice, following["run_id"])

    assert (cancelled["run_id"], cancelled["state"]) == (run_id, "cancelling")
    assert (complete["outcome"], complete["message_ids"]) == ("cancelled", [])
    of_run = [
        f for f in alice.seen if "seq" in f and f["payload"].get("run_id") == run_id and f["type"] != "chat.cancel"
    ]
    told = [(f["type"], f["payload"].get("state")) for f in of_run]
    assert [one for one in told if one[0] != "agent.cancel"] == [("agent.status", "queued"), ("agent.complete", None)]
    assert again["code"] == 4021


async def test_a_running_answer_is_cancelled_from_another_device(node: Node, log: Log, tenant: str) -> None:
    """`chat.cancel` without a run stops the active one; another person's device sees the partial text as its end."""
    async with served(log), devices(node, tenant, "alice", "bob") as [alice, bob]:
        run_id = (await ask(alice, "talk", agent="talkative"))["run_id"]
        await bob.event("assistant.message.delta", run_id=run_id)
        reply = await _fine(bob, "chat.cancel", {})
        complete = await end(alice, run_id)
        final = await refused(alice, "chat.cancel", {"run_id": run_id})
        none_active = await refused(alice, "chat.cancel", {})

    assert (reply["run_id"], reply["state"]) == (run_id, "cancelling")
    assert complete["outcome"] == "cancelled"
    message = await alice.event("assistant.message.end", run_id=run_id)
    assert (message["finish_reason"], message["text"].startswith("word ")) == ("cancelled", True)
    assert (final["code"], none_active["code"]) == (4021, 4018)


async def test_regenerate_gives_a_sibling(node: Node, log: Log, tenant: str) -> None:
    """The second answer hangs below the same question, is the active leaf, and nothing is deleted."""
    async with served(log), devices(node, tenant, "alice") as [alice]:
        first = await ask(alice, "how many messages?")
        await end(alice, first["run_id"])
        again = (await _fine(alice, "chat.regenerate", {"message_id": f"{first['run_id']}.0"}))["run_id"]
        await end(alice, again)
        wrong = await refused(alice, "chat.regenerate", {"message_id": first["id"]})
        gone = await refused(alice, "chat.regenerate", {"message_id": "nothing.0"})
        state = (await alice.answer("channel.state", {}, PLACE))["payload"]["state"]

    assert again != first["run_id"]
    starts = [f["payload"] for f in alice.seen if f["type"] == "assistant.message.start"]
    assert [start["parent_id"] for start in starts] == [first["id"], first["id"]]
    assert text(alice, again) == text(alice, first["run_id"]), "what was said since is not counted"
    assert state["active_leaf"] == f"{again}.0"
    assert [message["message_id"] for message in state["messages"]] == [first["id"], f"{again}.0"]
    assert (wrong["code"], gone["code"]) == (4021, 4018)


async def test_a_busy_channel_refuses_who_will_not_wait(node: Node, log: Log, tenant: str) -> None:
    """`on_busy: reject` is 4021 and stores nothing; by default a run waits its turn."""
    async with served(log), devices(node, tenant, "alice", "bob") as [alice, bob]:
        running_id = (await ask(alice, "talk", agent="talkative"))["run_id"]
        await alice.event("assistant.message.start", run_id=running_id)
        before = (await bob.answer("channel.state", {}, PLACE))["payload"]["state_at"]
        busy = await refused(bob, "chat.message", {"text": "me!", "agent": "demo", "on_busy": "reject"})
        after = (await bob.answer("channel.state", {}, PLACE))["payload"]["state_at"]
        waiting = (await ask(bob, "how many?"))["run_id"]
        await bob.event("agent.status", run_id=waiting, state="queued")
        await _fine(alice, "agent.cancel", {"run_id": running_id, "mode": "force"})
        completes = [await end(bob, one) for one in (running_id, waiting)]

    assert (busy["code"], busy["details"][0]["field"], after) == (4021, "on_busy", before)
    assert [one["outcome"] for one in completes] == ["cancelled", "success"]


async def test_an_agent_is_listed_while_somebody_serves_it(node: Node, log: Log, tenant: str) -> None:
    """`agent.list` follows the workers; a message to an agent that nobody serves is 4007 and not stored."""
    async with devices(node, tenant, "alice") as [alice]:
        async with served(log):
            await _until_listed(alice, is_there=True)
            listed = (await alice.answer("agent.list"))["payload"]["agents"]
        await _until_listed(alice, is_there=False)
        nobody = await refused(alice, "chat.message", {"text": "hello?", "agent": "demo"})
        state = (await alice.answer("channel.state", {}, PLACE))["payload"]

    demo = next(agent for agent in listed if agent["name"] == "demo")
    assert {agent["name"] for agent in listed} == set(AGENTS)
    assert (demo["available"], demo["interactive"], bool(demo["description"])) == (True, True, True)
    assert (nobody["code"], nobody["retry"], state["state_at"]) == (4007, "backoff", 0)


async def _until_listed(socket: SocketClient, *, is_there: bool) -> None:
    async with asyncio.timeout(40):
        while bool((await socket.answer("agent.list"))["payload"]["agents"]) != is_there:  # noqa: ASYNC110 - it has no event
            await asyncio.sleep(POLL_S)


async def test_a_deadline_ends_the_run(node: Node, log: Log, tenant: str) -> None:
    """`deadline_ms` is kept, and what was said until then is the message's text."""
    async with served(log), devices(node, tenant, "alice") as [alice]:
        invoked = await _fine(
            alice, "agent.invoke", {"agent": "talkative", "input": "go", "deadline_ms": 1000, "run_id": "mine"}
        )
        in_use = await refused(alice, "agent.invoke", {"agent": "demo", "input": "go", "run_id": "mine"})
        complete = await end(alice, "mine")

    assert (invoked["run_id"], invoked["channel"], in_use["code"]) == ("mine", PLACE, 4021)
    assert complete["outcome"] == "expired"
    assert complete["duration_ms"] >= 900  # and it would talk for ever
    assert text(alice, "mine").startswith("word ")


async def test_words_reach_a_run_that_is_under_way(node: Node, log: Log, tenant: str) -> None:
    """`agent.steer` from another person: the agent hears it, and its sender is told that it was applied."""
    async with served(log), devices(node, tenant, "alice", "bob") as [alice, bob]:
        run_id = (await ask(alice, "go", agent="listening"))["run_id"]
        await bob.event("assistant.message.delta", run_id=run_id)
        steered = await _fine(bob, "agent.steer", {"run_id": run_id, "text": "left"})
        await end(bob, run_id)
        too_late = await refused(bob, "agent.steer", {"run_id": run_id, "text": "right"})

    assert steered["disposition"] == "steering"
    assert (await bob.event("message.status", run_id=run_id))["status"] == "applied"
    assert text(bob, run_id) == "listening. heard: left"
    assert too_late["code"] == 4021


async def test_a_repeated_question_is_one_run(node: Node, log: Log, tenant: str) -> None:
    """The same command id again, even from another node, names the same run; it is answered once."""
    async with (
        running_node(log.url) as other,
        served(log),
        devices(node, tenant, "alice") as [phone],
        devices(other, tenant, "alice") as [laptop],
    ):
        for socket in (phone, laptop):
            await socket.send("chat.message", {"text": "how many?", "agent": "demo"}, PLACE, "same")
        replies = [(await socket.expect("message.received", re="same"))["payload"] for socket in (phone, laptop)]
        await end(phone, replies[0]["run_id"])
        await end(laptop, replies[0]["run_id"])

    assert sorted(reply["duplicate"] for reply in replies) == [False, True]
    assert len({reply["run_id"] for reply in replies}) == 1
    assert sum(frame["type"] == "agent.complete" for frame in phone.seen) == 1
