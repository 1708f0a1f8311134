"""New channels and a full Redis: a user begins only so many channels, and no tenant fills Redis for the others."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from hub.limits.admission import RESERVE_FROM, TENANT_PART
from hub.limits.quotas import CHANNEL_BYTES, EVENT_BYTES
from streams.channel import parse_channel
from support.nodes import running_node, token
from support.redis_server import RedisServer
from support.socket_client import SocketClient, client
from support.until import until

OLD = "conversation:old"
NEW_MAX = 5


async def code(socket: SocketClient, type_: str, payload: dict[str, Any], channel: str | None) -> int | None:
    """The code of the refusal; None when it was taken."""
    frame = await socket.answer(type_, payload, channel)
    return frame["payload"].get("code") if frame["type"] == "connection.error" else None


async def test_a_user_begins_only_so_many_channels(redis_url: str, tenant: str) -> None:
    """Messages, signals, subscriptions and HTTP pay alike; what was written before, and everybody else, goes on."""
    limits = {"channel": (0.01, NEW_MAX)}
    async with (
        running_node(redis_url, rate_limits=limits) as node,
        client(node.ws_url, token("alice", tenant)) as alice,
        client(node.ws_url, token("bob", tenant)) as bob,
        httpx.AsyncClient(base_url=node.url, headers={"Authorization": f"Bearer {token('alice', tenant)}"}) as http,
    ):
        await bob.say(OLD, "here")
        begun = [await code(alice, "chat.message", {"text": "x"}, f"conversation:{n}") for n in range(2 * NEW_MAX)]
        elsewhere = [
            await code(alice, "chat.typing", {"state": "start"}, "conversation:typed"),
            await code(alice, "channel.subscribe", {"channels": [{"channel": "conversation:followed"}]}, None),
            (await http.post("/v1/channels/team:http/events", json=activity())).json()["code"],
        ]
        allowed = [
            await code(alice, "chat.message", {"text": "y"}, "conversation:0"),
            await code(alice, "chat.message", {"text": "y"}, OLD),
            await code(alice, "channel.subscribe", {"channels": [{"channel": OLD}]}, None),
            await code(bob, "chat.message", {"text": "y"}, "conversation:of-bob"),
        ]
        http_allowed = await http.post(
            f"/v1/channels/{OLD}/events", json={"type": "chat.message", "payload": {"text": "z"}}
        )
        names = ("typed", "followed", str(2 * NEW_MAX - 1))
        keys = [node.hub.log.keys.of(parse_channel(tenant, f"conversation:{name}")) for name in names]
        left = [await node.hub.log.redis.exists(key.stream, key.meta, key.live) for key in keys]

    assert begun[:NEW_MAX] == [None] * NEW_MAX
    assert begun[NEW_MAX + 1 :] == [4004] * (NEW_MAX - 1)
    assert elsewhere == [4004] * 3
    assert allowed == [None] * 4
    assert http_allowed.status_code == 201
    assert left == [0, 0, 0]


async def test_signals_in_made_up_channels_are_paid_for(redis_url: str, tenant: str) -> None:
    """Typing where nobody wrote costs a key each time: it is bounded like messages."""
    async with (
        running_node(redis_url, rate_limits={"channel": (0.01, NEW_MAX)}) as node,
        client(node.ws_url, token("alice", tenant)) as alice,
    ):
        typed = [await code(alice, "chat.typing", {"state": "start"}, f"conversation:{n}") for n in range(2 * NEW_MAX)]
        again = await code(alice, "chat.message", {"text": "hi"}, "conversation:0")
        lanes = [node.hub.log.keys.of(parse_channel(tenant, f"conversation:{n}")).live for n in range(2 * NEW_MAX)]
        there = await node.hub.log.redis.exists(*lanes)

    assert typed == [None] * there + [4004] * (2 * NEW_MAX - there)
    assert NEW_MAX <= there <= NEW_MAX + 1
    assert again == 4004


async def test_quotas_count_what_a_channel_and_an_event_cost(redis_url: str, tenant: str) -> None:
    """Twelve bytes in a new channel are five thousand in Redis: a quota of bytes sees them."""
    quota = 3 * (CHANNEL_BYTES + EVENT_BYTES)
    async with (
        running_node(redis_url, quota_bytes_stored=quota) as node,
        client(node.ws_url, token("alice", tenant)) as alice,
    ):
        codes = [await code(alice, "chat.message", {"text": "x"}, f"conversation:{n}") for n in range(6)]

    assert codes.index(4011) == 3
    assert codes[3:] == [4011] * 3


async def test_a_command_stored_before_is_answered_where_there_is_no_room(redis_url: str, tenant: str) -> None:
    """The store is full: what is sent again gets its first answer by socket and by HTTP, what is new is 4011 and not stored."""
    body = {"type": "chat.message", "payload": {"text": "x"}}
    bearer = {"Authorization": f"Bearer {token('alice', tenant)}"}
    async with (
        running_node(redis_url, quota_bytes_stored=CHANNEL_BYTES + 3 * EVENT_BYTES) as node,
        client(node.ws_url, token("alice", tenant)) as alice,
        node.http(token("alice", tenant)) as http,
    ):
        first, codes = await alice.say(OLD, "x"), list[int | None]()
        while 4011 not in codes:
            codes.append(await code(alice, "chat.message", {"text": "x"}, OLD))
        await alice.send("chat.message", {"text": "x"}, OLD, id_=first["re"])
        again = await alice.next()
        posted = [
            (await http.post(f"/v1/channels/{OLD}/events", json=body, headers=bearer | {"Idempotency-Key": key})).json()
            for key in (first["re"], "new")
        ]
        codes.append(await code(alice, "chat.message", {"text": "x"}, OLD))
        head = (await node.hub.log.look(parse_channel(tenant, OLD))).head.seq

    assert again["payload"] == first["payload"] | {"duplicate": True}
    assert (posted[0]["id"], posted[0]["duplicate"]) == (first["payload"]["id"], True)
    assert (posted[1]["code"], codes[-1]) == (4011, 4011)
    assert head == len(codes) - 1


@pytest.mark.slow
async def test_no_tenant_fills_redis_for_the_others(own_redis: RedisServer, tenant: str) -> None:
    """Nearly full, who fills it is told 4011 before it is full; the others write on, and everybody does when there is room."""
    text = "x" * 30_000
    async with (
        running_node(own_redis.url) as node,
        client(node.ws_url, token("filler", tenant)) as filler,
        client(node.ws_url, token("other", f"{tenant}2")) as other,
    ):
        redis = node.hub.log.redis
        used, ballast = int((await redis.info("memory"))["used_memory"]), 50 * 2**20
        # SET would fill a query buffer as well, which counts until it shrinks.
        await redis.setrange("ballast", ballast - 1, "x")
        max_bytes = int((used + ballast) / (RESERVE_FROM + 0.01))
        await redis.config_set("maxmemory", max_bytes)
        await until(lambda: node.hub.admission.is_reserve_open)
        codes: list[int | None] = []
        while 4011 not in codes:
            codes.append(await code(filler, "chat.message", {"text": text}, OLD))
        others = [await code(other, "chat.message", {"text": text}, OLD) for _ in range(5)]
        still = await code(filler, "chat.message", {"text": text}, OLD)
        share = int((await redis.info("memory"))["used_memory"]) / max_bytes
        await redis.delete("ballast")
        await until(lambda: not node.hub.admission.is_reserve_open)
        again = await code(filler, "chat.message", {"text": text}, OLD)

    assert codes[:-1] == [None] * (len(codes) - 1)
    assert len(codes) - 1 == pytest.approx(max_bytes * TENANT_PART / len(text), rel=0.1)
    assert others == [None] * 5
    assert (still, again) == (4011, None)
    assert share < 1


async def test_a_flood_that_fills_a_small_redis_between_two_looks_is_stopped_before_it_is_full(
    own_redis: RedisServer, tenant: str
) -> None:
    """Six megabytes are written in half a second: the flood meets 4011 and never 4013, and nor does another tenant."""
    text = "x" * 30_000
    async with (
        running_node(own_redis.url) as node,
        client(node.ws_url, token("filler", tenant)) as filler,
        client(node.ws_url, token("other", f"{tenant}2")) as other,
    ):
        redis = node.hub.log.redis
        max_bytes = int((await redis.info("memory"))["used_memory"]) + 6 * 2**20
        await redis.config_set("maxmemory", max_bytes)
        await until(lambda: node.hub.log.memory[1] == max_bytes)
        codes: list[int | None] = []
        others: list[int | None] = []
        for _ in range(30):
            ids = [await filler.send("chat.message", {"text": text}, OLD) for _ in range(10)]
            answers = [await filler.next() for _ in ids]
            codes += [answer["payload"].get("code") for answer in answers]
            others.append(await code(other, "chat.message", {"text": "hi"}, OLD))

    assert set(codes) <= {None, 4011, 4004}
    assert 4011 in codes
    assert set(others) == {None}


def activity() -> dict[str, Any]:
    """An event of a team."""
    payload = {"verb": "did", "object": {"type": "build", "id": "7"}, "summary": "Green"}
    return {"type": "team.activity", "payload": payload}
