"""Requests of people to agents over sockets: cancels that name nobody, edits of arguments, messages while one answers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from consumers.agents import INVOKER, Question, ToolCall
from consumers.worker import running
from streams.channel import parse_channel
from streams.records.run_slots import RunSlots, SlotAnswer
from streams.redis.keys import run_slots
from streams.redis.log import Log
from support import socket_client
from support.nodes import Node, running_node, token
from support.redis_server import RedisServer
from support.run_rig import POLL_S, options
from support.socket_client import Json, SocketClient

PLACE = "conversation:c"
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def redis_url(module_redis: RedisServer) -> str:
    """A Redis of this file alone."""
    return module_redis.url


async def talk(ctx: Any, given: Any) -> Any:
    """Talks until it is stopped."""
    while True:
        yield "word "
        await asyncio.sleep(POLL_S)


async def act(ctx: Any, given: Any) -> Any:
    """Asks before it acts, and takes other arguments."""

    async def tool(args: Any, context: Any) -> Any:
        return args

    found = yield ToolCall("act", {"n": 1}, tool, approval=Question("Act?", "approval", allow_edit=True))
    yield f"acted on {found.output}"


async def repeat(ctx: Any, given: Any) -> Any:
    """Says its settings, asks, and says them again."""
    yield json.dumps(given.settings)
    await ctx.ask("Again?")
    yield json.dumps(given.settings)


async def pay(ctx: Any, given: Any) -> Any:
    """Asks whoever asked it, then calls a sensitive tool."""

    async def tool(args: Any, context: Any) -> Any:
        return "paid"

    answer = await ctx.ask("How much?", assignees=INVOKER)
    found = yield ToolCall("pay", {}, tool, is_sensitive=True)
    yield f"{answer.by}: {found.output}"


AGENTS = {"pay": pay, "talk": talk, "act": act, "repeat": repeat}


@asynccontextmanager
async def devices(node: Node, tenant: str, count: int = 1) -> AsyncIterator[list[SocketClient]]:
    """Sockets of one person that follow the conversation, and a worker behind them."""
    log = node.hub.log
    async with (
        running(options(log.url, AGENTS), log),
        socket_client.devices(node.ws_url, [token("alice", tenant)] * count, PLACE) as found,
    ):
        yield found


async def ask(socket: SocketClient, agent: str, **more: Any) -> Json:
    """The reply to a message that an agent is to answer."""
    return await socket.answer("chat.message", {"text": "go", "agent": agent, **more}, PLACE)


async def again(socket: SocketClient, channel: str = PLACE) -> Json:
    """The reply to the same command, sent once more."""
    await socket.socket.send(json.dumps(socket.sent[-1]))
    return await socket.expect("ack", re=socket.sent[-1]["id"])


async def test_a_cancel_that_names_no_run_is_answered_again_as_it_was(node: Node, tenant: str) -> None:
    """Also when its run is over, and when another run has its turn by then: which goes on."""
    async with devices(node, tenant, 2) as (asking, stopping):
        first = (await ask(asking, "talk"))["payload"]["run_id"]
        await asking.event("agent.status", run_id=first, state="running")
        cancelled = await stopping.answer("chat.cancel", {}, PLACE)
        await asking.event("agent.complete", run_id=first)
        after_its_end = await again(stopping)
        second = (await ask(asking, "talk"))["payload"]["run_id"]
        await asking.event("agent.status", run_id=second, state="running")
        beside_another = await again(stopping)
        last = await asking.answer("chat.cancel", {}, PLACE)
        await asking.event("agent.complete", run_id=second)
        refused = await asking.answer("chat.cancel", {}, PLACE)

    repeated = {**cancelled, "payload": {**cancelled["payload"], "duplicate": True}}
    assert cancelled["payload"]["run_id"] == first
    assert [json.dumps(frame) for frame in (after_its_end, beside_another)] == [json.dumps(repeated)] * 2
    assert last["payload"]["run_id"] == second
    assert refused["payload"]["code"] == 4018


async def test_what_to_do_while_busy_may_be_a_setting(node: Node, tenant: str) -> None:
    """`on_busy` of the conversation is what a message does that says nothing of it; reset, messages wait again."""
    async with devices(node, tenant) as (socket,):
        await socket.answer("chat.configure", {"settings": {"on_busy": "reject"}}, PLACE)
        first = (await ask(socket, "talk"))["payload"]["run_id"]
        by_setting = await ask(socket, "talk")
        waiting = await ask(socket, "talk", on_busy="enqueue")
        await socket.answer("chat.configure", {"settings": {"on_busy": None}}, PLACE)
        by_default = await ask(socket, "talk")
        for run_id in (by_default["payload"]["run_id"], waiting["payload"]["run_id"], first):
            await socket.answer("agent.cancel", {"run_id": run_id, "mode": "force"}, PLACE)
            await socket.event("agent.complete", run_id=run_id)

    assert (by_setting["type"], by_setting["payload"]["code"]) == ("connection.error", 4021)
    assert [frame["payload"]["disposition"] for frame in (waiting, by_default)] == ["queued", "queued"]


@pytest.mark.parametrize("edited", [[], [1], "n", 0, False])
async def test_edited_arguments_are_an_object(node: Node, tenant: str, edited: Any) -> None:
    """Anything else is refused and not stored: an approval of other arguments never runs the first ones."""
    async with devices(node, tenant) as (socket,):
        run_id = (await ask(socket, "act"))["payload"]["run_id"]
        request_id = (await socket.event("tool.call.request", run_id=run_id))["request_id"]
        answer = {"request_id": request_id, "decision": "approve"}
        refused = await socket.answer("tool.call.response", {**answer, "edited_args": edited}, PLACE)
        await socket.answer("tool.call.response", {**answer, "edited_args": {}}, PLACE)
        done = await socket.event("tool.call.complete", run_id=run_id)
        await socket.event("agent.complete", run_id=run_id)

    assert refused["payload"]["code"] == 4005
    assert [problem["field"] for problem in refused["payload"]["details"]] == ["edited_args"]
    assert done["output"] == {}


async def test_what_is_denied_was_not_edited(node: Node, tenant: str) -> None:
    """`edited` says that the tool ran with other arguments."""
    async with devices(node, tenant) as (socket,):
        run_id = (await ask(socket, "act"))["payload"]["run_id"]
        request_id = (await socket.event("tool.call.request", run_id=run_id))["request_id"]
        answer = {"request_id": request_id, "decision": "deny", "edited_args": {"n": 2}}
        await socket.answer("tool.call.response", answer, PLACE)
        resolved = await socket.event("tool.call.resolved", run_id=run_id)
        await socket.event("agent.complete", run_id=run_id)

    assert (resolved["resolution"], resolved["edited"]) == ("denied", False)


async def test_an_agent_is_given_the_settings_of_its_conversation(node: Node, tenant: str) -> None:
    """As they were when the run began, also after it waited; what the command says itself comes first; null resets one."""
    async with devices(node, tenant) as (socket,):

        async def said(run_id: str) -> list[Json]:
            request = await socket.event("tool.call.request", run_id=run_id)
            await socket.answer("chat.configure", {"settings": {"model": "another"}}, PLACE)
            await socket.answer("tool.call.response", {"request_id": request["request_id"], "result": 1}, PLACE)
            ends = [await socket.event("assistant.message.end", message_id=f"{run_id}.{n}") for n in (0, 1)]
            await socket.event("agent.complete", run_id=run_id)
            return [json.loads(end["text"]) for end in ends]

        settings = {"model": "m", "instructions": "be “brief”", "temperature": 0.5, "title": "T", "tools": ["a"]}
        await socket.answer("chat.configure", {"settings": settings}, PLACE)
        await socket.answer("chat.configure", {"settings": {"temperature": None}}, PLACE)
        by_message = await said((await ask(socket, "repeat"))["payload"]["run_id"])
        own = {"agent": "repeat", "input": "go", "settings": {"model": "mine"}}
        by_invoke = await said((await socket.answer("agent.invoke", own, PLACE))["payload"]["run_id"])

    expected = {"model": "m", "instructions": "be “brief”", "tools": ["a"]}
    assert by_message == [expected, expected]
    assert by_invoke == [{**expected, "model": "mine"}] * 2


async def test_a_sensitive_call_is_approved_by_its_invoker_alone(node: Node, tenant: str) -> None:
    """Neither a question to the invoker nor a sensitive call can be answered by somebody else who may invoke."""
    async with devices(node, tenant) as (alice,), socket_client.client(node.ws_url, token("bob", tenant)) as bob:
        await bob.subscribe(PLACE)
        await ask(alice, "pay")
        refused, assignees = [], []
        for kind, answer in (("input", {"result": 5}), ("approval", {"decision": "approve"})):
            asked = await alice.event("tool.call.request", kind=kind)
            response = {"request_id": asked["request_id"], **answer}
            assignees.append(asked["assignees"])
            refused.append((await bob.answer("tool.call.response", response, PLACE))["payload"]["code"])
            assert (await alice.answer("tool.call.response", response, PLACE))["type"] == "ack"
        end = await alice.event("assistant.message.end", finish_reason="stop")

    assert refused == [4003, 4003]
    assert assignees == [["alice"], ["alice"]]
    assert end["text"] == "alice: paid"


async def test_runs_at_once_are_limited_by_user_and_tenant(redis_url: str, tenant: str) -> None:
    """The one too many is told to wait; what ended, and what was refused for another reason, makes room."""

    async def asked(socket: SocketClient, place: str, **more: Any) -> Any:
        answer = await socket.answer("chat.message", {"text": "go", "agent": "talk", **more}, f"conversation:{place}")
        return answer["payload"].get("code", answer["payload"].get("run_id"))

    async with (
        running_node(redis_url, runs_per_user=2, runs_per_tenant=3) as node,
        devices(node, tenant) as (alice,),
        socket_client.client(node.ws_url, token("bob", tenant)) as bob,
        socket_client.client(node.ws_url, token("alice", f"{tenant}2")) as other,
    ):
        first = await asked(alice, "c")
        busy = [await asked(alice, "c", on_busy="reject") for _ in range(3)]
        second, full = await asked(alice, "2"), await asked(alice, "3")
        sentence = alice.seen[-1]["payload"]["message"]
        third, tenant_full, elsewhere = await asked(bob, "4"), await asked(bob, "5"), await asked(other, "1")
        await alice.answer("chat.cancel", {"run_id": first}, PLACE)
        await alice.event("agent.complete", run_id=first)
        again = 4004
        while again == 4004:  # the place is given back right after the end is told
            again = await asked(alice, "3")

    assert busy == [4021] * 3
    assert (full, tenant_full) == (4004, 4004)
    assert all(isinstance(run, str) for run in (first, second, third, elsewhere, again))
    assert "2 runs in progress" in sentence


async def test_a_slot_lapses_unless_its_run_goes_on(log: Log, tenant: str) -> None:
    """A command that was never stored gives its place back by itself; the reaper holds that of a run."""
    slots, place = RunSlots(log), parse_channel(tenant, PLACE)
    taken = [await slots.take(place, "alice", name, 2, 0) for name in ("lost", "kept", "more", "kept")]
    of_tenant, of_user = run_slots(tenant, "alice")
    for key in (of_tenant, of_user):
        for member in await log.redis.zrange(key, 0, -1):
            await log.redis.zadd(key, {member: 1})  # as their time does
    await slots.renew(place, "alice", "kept")
    again = [await slots.take(place, "alice", name, 2, 0) for name in ("more", "most")]
    await slots.give_back(place, "alice", "kept")
    last = await slots.take(place, "alice", "most", 2, 2)

    assert taken == [SlotAnswer.TAKEN, SlotAnswer.TAKEN, SlotAnswer.USER_IS_FULL, SlotAnswer.TAKEN]
    assert again == [SlotAnswer.TAKEN, SlotAnswer.USER_IS_FULL]
    assert last is SlotAnswer.TAKEN
    assert await slots.take(place, "bob", "one", 2, 2) is SlotAnswer.TENANT_IS_FULL
