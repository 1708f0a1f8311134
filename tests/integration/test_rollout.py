"""The rollout on running nodes: refused with the ways that remain, changed at run time, told to the client, and permitted."""

from __future__ import annotations

import asyncio
import json
import sys
import types
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from openfeature.event import ProviderEventDetails
from openfeature.flag_evaluation import FlagResolutionDetails
from redis import Redis

from hub.node import rollouts
from hub.node.rollouts import channel_of
from hub.rollout import StoredRollouts
from projections.rollout import Rollout
from support.nodes import Node, running_node, token
from support.redis_server import RedisServer
from support.socket_client import client, raw_client
from support.until import until

WITHIN_S = 2.0
"""The time in which every node applies a change; a slower machine gets fifteen times as much."""
PATIENCE_S = 15 * WITHIN_S


@pytest.fixture
async def node(redis_url: str) -> AsyncIterator[Node]:
    async with running_node(redis_url, drain_s=0.0) as node:
        yield node


async def put(node: Node, bearer: str, body: Any) -> Any:
    """The answer to a change."""
    async with node.http(bearer) as http:
        return await http.put("/v1/rollout", json=body)


async def change(node: Node, tenant: str, **body: Any) -> None:
    """Change the rollout as its operator."""
    answer = await put(node, token("op", tenant, {}, scope="operator"), body)
    assert answer.status_code == 200, answer.text


async def greet(node: Node, tenant: str, user: str = "alice") -> tuple[dict[str, Any], int | None]:
    """The answer to a handshake, and the close code if it was refused."""
    async with raw_client(node.ws_url) as a:
        answer = await a.answer("connection.init", {"token": token(user, tenant), "versions": [1]})
        return answer, await a.closed() if answer["type"] == "connection.error" else None


async def until_greeted_as(node: Node, tenant: str, type_: str, **payload: Any) -> tuple[dict[str, Any], int | None]:
    """Connect until the handshake is answered so."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            answer, code = await greet(node, tenant)
            if answer["type"] == type_ and payload.items() <= answer["payload"].items():
                return answer, code


async def test_who_is_kept_off_is_told_the_ways_that_remain(node: Node, tenant: str) -> None:
    """4024 closes the handshake, names SSE, POST and polls, and does not count as a failure of the address; HTTP goes on."""
    await change(node, tenant, websocket_percent=0)
    refusal, code = await until_greeted_as(node, tenant, "connection.error")
    payload = refusal["payload"]
    ways = " ".join(detail["problem"] for detail in payload["details"])
    async with node.http(token("alice", tenant)) as http:
        body = {"type": "chat.message", "payload": {"text": "over HTTP"}}
        stored = await http.post("/v1/channels/conversation:1/events", json=body)

    assert (payload["code"], payload["name"], payload["retry"], code) == (4024, "feature_disabled", "backoff", 4024)
    assert "/stream" in ways
    assert "POST /v1/channels/{channel}/events" in ways
    assert "wait_ms" in ways
    assert stored.status_code == 201


async def test_every_node_moves_its_sockets_within_two_seconds(redis_url: str, tenant: str, node: Node) -> None:
    """Changed at one, applied at both; another tenant's sockets stay."""
    async with running_node(redis_url, drain_s=0.0) as other:
        async with (
            client(node.ws_url, token("alice", tenant)) as a,
            client(other.ws_url, token("bob", tenant)) as b,
            client(other.ws_url, token("carol", tenant + "x")) as c,
        ):
            await change(node, tenant, websocket_percent=0)
            async with asyncio.timeout(PATIENCE_S):
                codes = [await a.closed(), await b.closed()]
            still = await c.answer("connection.heartbeat")

    assert codes == [1012, 1012]
    assert [one.seen[-1] for one in (a, b)] == [
        {"type": "connection.drain", "payload": {"reconnect_after_ms": 0, "reason": "websocket_off"}}
    ] * 2
    assert still["type"] == "connection.heartbeat"


async def test_a_round_during_the_first_read_does_not_follow_the_channel_twice(node: Node, tenant: str) -> None:
    """The subscription of a tenant's rollout is one, also if a round begins while the tenant's first socket connects."""
    channel = channel_of(tenant)
    deciding = asyncio.create_task(node.hub.rollouts.decide(tenant, "alice"))
    await asyncio.sleep(0)
    await asyncio.gather(deciding, node.hub.rollouts.look())

    assert len(node.hub.fanouts[channel].subscribers) == 1


async def test_a_percentage_moves_those_above_it_alone(node: Node, tenant: str) -> None:
    """Half of the users: their open sockets stay, the others' are drained, as the same hash says at any time."""
    half = Rollout(50.0)
    users = [f"user-{number}" for number in range(12)]
    kept = [user for user in users if half.is_websocket_on(tenant, user)]
    open_ = {user: client(node.ws_url, token(user, tenant)) for user in users}
    sockets = {user: await one.__aenter__() for user, one in open_.items()}

    await change(node, tenant, websocket_percent=50)
    async with asyncio.timeout(PATIENCE_S):
        for user in set(users) - set(kept):
            assert await sockets[user].closed() == 1012
    for user in kept:
        assert (await sockets[user].answer("connection.heartbeat"))["type"] == "connection.heartbeat"
    for one in open_.values():
        await one.__aexit__(None, None, None)
    assert 0 < len(kept) < len(users)


async def test_a_variant_is_told_and_counted(node: Node, tenant: str) -> None:
    """In the acknowledgement, after a refresh still, and as a label of the metrics; without variants there is none."""
    plain, _ = await greet(node, tenant)
    await change(node, tenant, variants=[{"name": "blue", "percent": 100}], note="all of them")
    told, _ = await until_greeted_as(node, tenant, "connection.ack", variant="blue")
    async with client(node.ws_url, token("alice", tenant)) as a, node.http() as http:
        await a.answer("connection.refresh", {"token": token("alice", tenant)})
        await a.answer("chat.message", {"text": 7}, "conversation:1")
        metrics = (await http.get("/metrics")).text
    await until(lambda: node.hub.metrics.variants.open["blue"] == 0)

    assert "variant" not in plain["payload"]
    assert told["payload"]["variant"] == "blue"
    assert 'hub_variant_connections{variant="blue"} 1.0' in metrics
    assert 'hub_variant_errors_total{variant="blue"} 1.0' in metrics


async def test_the_setting_is_the_log(redis_url: str, tenant: str, node: Node) -> None:
    """Each change is an event with its author; absent fields stay; a node that starts later reads the same."""
    await change(node, tenant, variants=[{"name": "blue", "percent": 25}])
    await change(node, tenant, websocket_percent=10.5, note="carefully")
    async with running_node(redis_url) as later, later.http(token("eve", tenant, {}, scope="auditor")) as http:
        shown = (await http.get("/v1/rollout")).json()
        page = (await http.get("/v1/channels/system:rollout/events")).json()

    events = page["events"]
    assert shown == {
        "websocket_percent": 10.5,
        "variants": [{"name": "blue", "percent": 25.0}],
        "revision": 2,
        "changed_by": "op",
        "changed_id": events[-1]["id"],
        "provider": "system:rollout",
    }
    assert [(event["type"], event["actor"]) for event in events] == [
        ("rollout.changed", {"kind": "user", "id": "op"})
    ] * 2
    assert events[1]["payload"] == {"websocket_percent": 10.5, "note": "carefully"}


@pytest.mark.parametrize(
    "body",
    [
        {}, {"note": "nothing"}, [], {"websocket_percent": 101}, {"websocket_percent": "all"}, {"percent": 5},
        {"variants": [{"name": "a b", "percent": 1}]}, {"variants": [{"name": "a", "percent": 60}, {"name": "b", "percent": 41}]},
        {"variants": [{"name": "a", "percent": 1}, {"name": "a", "percent": 1}]},
    ],
    ids=json.dumps,
)  # fmt: skip # a case a row
async def test_what_makes_no_sense_is_refused(node: Node, tenant: str, body: Any) -> None:
    """With 4005, and nothing is stored."""
    answer = await put(node, token("op", tenant, {}, scope="operator"), body)
    async with node.http(token("eve", tenant, {}, scope="auditor")) as http:
        shown = (await http.get("/v1/rollout")).json()

    assert (answer.status_code, answer.json()["code"]) == (422, 4005)
    assert shown["revision"] == 0


async def test_the_scope_operator_changes_and_no_grant_does(node: Node, tenant: str) -> None:
    """Not even `*` on `*`, nor an operator of another tenant that names this one."""
    body = {"websocket_percent": 0}
    everything = await put(node, token("root", tenant, {"*": ["*"]}), body)
    auditor = await put(node, token("eve", tenant, {}, scope="auditor"), body)
    async with node.http(token("op", "other", {}, scope="operator", tenants=(tenant,))) as http:
        visitor = await http.put("/v1/rollout", params={"tenant": tenant}, json=body)
        seen = await http.get("/v1/rollout", params={"tenant": tenant})

    assert [one.status_code for one in (everything, auditor, visitor)] == [403, 403, 403]
    assert (seen.status_code, seen.json()["revision"]) == (200, 0)


async def test_without_redis_a_handshake_is_let_in_and_moved_later(own_redis: RedisServer, tenant: str) -> None:
    """A node that could not read the rollout does not guess against the user, and makes up for it."""
    async with running_node(own_redis.url, drain_s=0.0) as first:
        await change(first, tenant, websocket_percent=0)
    async with running_node(own_redis.url, drain_s=0.0) as node, raw_client(node.ws_url) as a:
        own_redis.stop()
        answer = await a.answer("connection.init", {"token": token("alice", tenant), "versions": [1]})
        own_redis.resume()
        code = await a.closed()

    assert answer["type"] == "connection.ack"
    assert code == 1012


async def test_a_rollout_that_cannot_be_read_holds_up_no_other_tenant(own_redis: RedisServer, tenant: str) -> None:
    """A change is applied although another tenant's log, asked for earlier, is damaged."""
    async with running_node(own_redis.url) as node:
        first, second = f"{tenant}-1", f"{tenant}-2"
        with Redis.from_url(own_redis.url) as redis:
            redis.set(node.hub.log.keys.of(channel_of(first)).stream, "no stream")
        before = [await node.hub.rollouts.decide(one, "alice") for one in (first, second)]
        await change(node, second, websocket_percent=0)
        await until_greeted_as(node, second, "connection.error")

    assert [one.is_websocket_on for one in before] == [True, True]


async def test_of_tenants_without_a_socket_few_are_followed(
    node: Node, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those asked for last; a tenant with a socket stays, however long ago it connected."""
    monkeypatch.setattr(rollouts, "IDLE_MAX", 1)
    monkeypatch.setattr(rollouts, "IDLE_S", 0.0)
    tenants = [f"{tenant}-{number}" for number in range(3)]
    async with client(node.ws_url, token("a", tenant)):
        for one in tenants:
            await node.hub.rollouts.decide(one, "a")
        await node.hub.rollouts.look()
        followed = [channel_of(one) in node.hub.fanouts for one in (tenant, *tenants)]

    assert followed == [True, False, False, True]


class Elsewhere(StoredRollouts):
    """A provider of the operator's own: one user has no WebSocket, once it is told so."""

    refused: frozenset[str] = frozenset()

    def resolve_boolean_details(self, flag_key: str, default_value: bool, evaluation_context: Any = None) -> Any:
        assert flag_key == "websocket"
        return FlagResolutionDetails(evaluation_context.attributes["user"] not in self.refused)

    def resolve_string_details(self, flag_key: str, default_value: str, evaluation_context: Any = None) -> Any:
        assert evaluation_context.targeting_key == f"{evaluation_context.attributes['tenant']}/alice"
        return FlagResolutionDetails("from-elsewhere")


async def test_another_provider_decides(redis_url: str, tenant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Named by setting; its own news move open sockets, and the stored setting cannot be changed any more."""
    module = types.ModuleType("rollout_elsewhere")
    provider = Elsewhere()
    module.provider = lambda: provider  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    async with running_node(redis_url, rollout_provider="rollout_elsewhere:provider", drain_s=0.0) as node:
        answer, _ = await greet(node, tenant)
        async with client(node.ws_url, token("alice", tenant)) as a:
            provider.refused = frozenset({"alice"})
            await asyncio.to_thread(provider.emit_provider_configuration_changed, ProviderEventDetails())
            async with asyncio.timeout(PATIENCE_S):
                code = await a.closed()
        refusal, _ = await greet(node, tenant)
        changed = await put(node, token("op", tenant, {}, scope="operator"), {"websocket_percent": 100})

    assert answer["payload"]["variant"] == "from-elsewhere"
    assert code == 1012
    assert refusal["payload"]["code"] == 4024
    assert (changed.status_code, changed.json()["code"]) == (403, 4024)


async def test_the_command(node: Node, tenant: str, command_line: Callable[..., tuple[int, str, str]]) -> None:
    """`hub rollout set` and `show`; a percentage that is none is named."""
    bearer = token("op", tenant, {}, scope="operator")
    common = ("--url", node.url, "--token", bearer)
    run = asyncio.to_thread
    set_ = await run(command_line, "rollout", "set", "--websocket", "12.5%", "--variant", "blue=50", *common)
    shown = await run(command_line, "rollout", "show", *common)
    wrong = await run(command_line, "rollout", "set", "--websocket", "some", *common)
    empty = await run(command_line, "rollout", "set", *common)

    assert set_[0] == shown[0] == 0, (set_, shown)
    assert json.loads(set_[1]) == json.loads(shown[1])
    assert json.loads(shown[1])["websocket_percent"] == 12.5
    assert (wrong[0], empty[0]) == (2, 2)
    assert "some is no percentage" in wrong[2]
    assert "nothing to change" in empty[2]
