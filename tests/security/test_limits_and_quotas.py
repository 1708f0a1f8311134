"""Limits and quotas over the wire: exact advice, the same on every node, and an end for who does not listen."""

from __future__ import annotations

import asyncio
import secrets
from contextlib import AsyncExitStack
from typing import Any

import httpx

from hub.limits.quotas import CHANNEL_BYTES, EVENT_BYTES
from support.lived_time import lived_time
from support.node_clock import NodeClock
from support.nodes import Node, running_node, token
from support.socket_client import SocketClient, client, raw_client

CHANNEL = "conversation:1"


def code_of(frame: dict[str, Any]) -> int:
    """The code of an error."""
    assert frame["type"] == "connection.error", frame
    code: int = frame["payload"]["code"]
    return code


async def news_shared(*nodes: Node) -> None:
    """Until every node has told what it knew and read what the others told."""
    for _ in range(2):
        await asyncio.gather(*(node.hub.edge.store.wait_round() for node in nodes))


async def test_waiting_exactly_as_told_is_enough_and_not_waiting_doubles(redis_url: str, tenant: str) -> None:
    """`retry_after_ms` is the wait itself; what was refused was not stored."""
    limits = {"chat": (2.0, 1)}
    async with running_node(redis_url, rate_limits=limits) as node, client(node.ws_url, token("a", tenant)) as a:
        clock = NodeClock(node)
        first = await a.say(CHANNEL, "one")
        refused = await a.say(CHANNEL, "two")
        again = await a.say(CHANNEL, "two")
        told, told_again = (frame["payload"]["retry_after_ms"] for frame in (refused, again))
        clock.pass_s(told_again / 1000)
        second = await a.say(CHANNEL, "two")

    assert (first["payload"]["seq"], second["payload"]["seq"]) == (1, 2)
    assert code_of(refused) == 4004
    assert 0 < told <= 500
    assert told_again >= min(2 * told, 500)


async def test_twenty_refusals_in_ten_seconds_close_the_socket(redis_url: str, tenant: str) -> None:
    """Commands accepted before are answered first; then 4004 as the close code."""
    async with running_node(redis_url, rate_limits={"chat": (0.01, 3)}) as node:
        NodeClock(node)  # ten seconds do not pass
        async with client(node.ws_url, token("a", tenant)) as a:
            for number in range(40):
                await a.send("chat.message", {"text": str(number)}, CHANNEL)
            code = await a.closed()
        errors = [frame for frame in a.seen if frame["type"] == "connection.error"]
        async with client(node.ws_url, token("b", tenant)) as b:
            polite = await b.say(CHANNEL, "hi")

    assert code == 4004
    assert len([frame for frame in a.seen if frame["type"] == "message.received"]) == 3
    assert [code_of(frame) for frame in errors] == [4004] * 20
    assert polite["payload"]["seq"] == 4


async def test_who_comes_back_only_to_be_closed_again_must_wait(redis_url: str, tenant: str) -> None:
    """The penalty grows: each such close takes from what the user may connect, and nobody else waits."""
    limits = {"chat": (0.01, 1), "connect": (1, 1_500)}
    async with running_node(redis_url, rate_limits=limits) as node:
        NodeClock(node)
        for _ in range(2):
            async with client(node.ws_url, token("a", tenant)) as a:
                for number in range(25):
                    await a.send("chat.message", {"text": str(number)}, CHANNEL)
                assert await a.closed() == 4004
        async with raw_client(node.ws_url) as a:
            refused = await a.answer("connection.init", {"token": token("a", tenant), "versions": [1]})
            assert await a.closed() == 4004
        async with client(node.ws_url, token("b", tenant)) as b:
            served = await b.say(CHANNEL, "hi")

    assert refused["payload"]["retry_after_ms"] > 100_000
    assert served["type"] == "message.received"


async def test_two_devices_on_two_nodes_share_one_limit_within_a_second(redis_url: str, tenant: str) -> None:
    """A command that one node let through is counted by the other."""
    limits = {"chat": (0.01, 4)}
    async with AsyncExitStack() as stack:
        here, there = [await stack.enter_async_context(running_node(redis_url, rate_limits=limits)) for _ in "ab"]
        a = await stack.enter_async_context(client(here.ws_url, token("a", tenant)))
        b = await stack.enter_async_context(client(there.ws_url, token("a", tenant)))
        spent = [await a.say(CHANNEL, "x") for _ in range(4)]
        async with lived_time() as since:
            await news_shared(here, there)
        refused = await b.say(CHANNEL, "x")

    assert [frame["type"] for frame in spent] == ["message.received"] * 4
    assert code_of(refused) == 4004
    assert since.passed_s < 2.5  # two rounds are waited for; one is enough and takes 0.4 s


async def test_http_and_socket_empty_the_same_bucket(redis_url: str, tenant: str) -> None:
    """Changing the transport is no second allowance."""
    limits = {"chat": (0.01, 1)}
    async with running_node(redis_url, rate_limits=limits) as node, client(node.ws_url, token("a", tenant)) as a:
        await a.say(CHANNEL, "one")
        headers = {"Authorization": f"Bearer {token('a', tenant)}"}
        async with httpx.AsyncClient(base_url=node.url, headers=headers, timeout=30) as http:
            body = {"type": "chat.message", "payload": {"text": "two"}}
            refused = await http.post(f"/v1/channels/{CHANNEL}/events", json=body)

    assert refused.status_code == 429
    told = refused.json()
    assert int(refused.headers["retry-after"]) * 1000 >= told["retry_after_ms"] > 90_000


def an_address() -> dict[str, str]:
    """The header of a client behind a proxy on this machine, at an address no other test uses."""
    return {"X-Forwarded-For": f"10.{'.'.join(str(secrets.randbelow(250) + 1) for _ in range(3))}"}


async def failed_handshake(node: Node, address: dict[str, str]) -> int:
    """The close code of a handshake with a bad token."""
    async with raw_client(node.ws_url, additional_headers=address) as a:
        await a.send("connection.init", {"token": "a.b.c", "versions": [1]})
        return await a.closed()


async def test_ten_failed_handshakes_a_minute_and_address_then_4004(redis_url: str, tenant: str) -> None:
    """Sockets and HTTP count together; whoever has a good token is let in all the same."""
    address = an_address()
    async with running_node(redis_url, rate_limits={}) as node:
        NodeClock(node)  # the minute does not pass
        codes = [await failed_handshake(node, address) for _ in range(6)]
        async with httpx.AsyncClient(base_url=node.url, headers=address, timeout=30) as http:
            path = f"/v1/channels/{CHANNEL}/events"
            statuses = [(await http.get(path)).status_code for _ in range(4)]
            over = await http.get(path)
        late, elsewhere = await failed_handshake(node, address), await failed_handshake(node, an_address())
        async with raw_client(node.ws_url, additional_headers=address) as a:
            await a.answer("connection.init", {"token": token("a", tenant), "versions": [1]})
            served = await a.say(CHANNEL, "hi")

    assert codes == [4001] * 6
    assert statuses == [401] * 4
    assert (over.status_code, over.json()["code"]) == (429, 4004)
    assert (late, elsewhere) == (4004, 4001)
    assert served["type"] == "message.received"


async def test_an_expired_token_is_told_so_behind_a_proxy_that_forges(redis_url: str, tenant: str) -> None:
    """By socket and HTTP: who holds one must refresh it, and is not told to wait for what a neighbour did."""
    address, old = an_address(), token("a", tenant, ttl_s=-600)
    async with running_node(redis_url, rate_limits={}) as node:
        NodeClock(node)
        forged = [await failed_handshake(node, address) for _ in range(11)]
        async with raw_client(node.ws_url, additional_headers=address) as a:
            await a.send("connection.init", {"token": old, "versions": [1]})
            by_socket = await a.closed()
        async with httpx.AsyncClient(base_url=node.url, headers=address, timeout=30) as http:
            by_http = await http.get(f"/v1/channels/{CHANNEL}/events", headers={"Authorization": f"Bearer {old}"})

    assert forged[-1] == 4004
    assert (by_socket, by_http.json()["code"]) == (4002, 4002)


async def test_refreshing_is_free_and_failing_to_is_not(redis_url: str, tenant: str) -> None:
    """Only failures take from `auth`; an address that goes on failing loses the socket."""
    async with (
        running_node(redis_url, rate_limits={}) as node,
        raw_client(node.ws_url, additional_headers=an_address()) as a,
    ):
        NodeClock(node)
        await a.answer("connection.init", {"token": token("a", tenant), "versions": [1]})
        good = [await a.answer("connection.refresh", {"token": token("a", tenant)}) for _ in range(15)]
        bad = [await a.answer("connection.refresh", {"token": "a.b.c"}) for _ in range(11)]
        code = await a.closed()

    assert {frame["type"] for frame in good} == {"connection.refreshed"}
    assert [code_of(frame) for frame in bad] == [4001] * 10 + [4004]
    assert code == 4004


async def test_live_frames_over_the_rate_are_dropped_and_said_so(redis_url: str, tenant: str) -> None:
    """No error and no close: they are superseded anyway."""
    async with running_node(redis_url, rate_limits={}) as node, client(node.ws_url, token("a", tenant)) as a:
        NodeClock(node)  # no second passes, and so nothing is given back
        answers = [await a.answer("chat.typing", {"state": "start"}, CHANNEL) for _ in range(12)]

    assert [frame["type"] for frame in answers] == ["ack"] * 12
    assert [frame["payload"].get("dropped", False) for frame in answers] == [False] * 10 + [True] * 2


async def flood_of_names(a: SocketClient, names: list[str]) -> list[dict[str, Any]]:
    """A live frame for each name, and every answer."""
    for number, name in enumerate(names):
        await a.send("chat.typing", {"state": "start"}, name, f"n{number}")
    answers = []
    while len(answers) < len(names):
        frame = await a.next()
        if str(frame.get("re", "")).startswith("n"):
            answers.append(frame)
    return answers


async def test_made_up_channel_names_fill_no_table(redis_url: str, tenant: str) -> None:
    """Names outside the grammar share one bucket; names within it are bounded by what a user may signal at all."""
    async with running_node(redis_url, rate_limits={"signals": (0.01, 50)}) as node:
        NodeClock(node)
        async with client(node.ws_url, token("a", tenant)) as a:
            before = node.hub.limiter.bucket_count()
            garbage = await flood_of_names(a, [f"nonsense {number}" for number in range(15)])
            after_garbage = node.hub.limiter.bucket_count()
            made_up = await flood_of_names(a, [f"conversation:n{number}" for number in range(200)])
        after = node.hub.limiter.bucket_count()

    assert [frame["type"] for frame in garbage] == ["connection.error"] * 10 + ["ack"] * 5
    assert after_garbage - before <= 4  # live, signals, their tenant, the pace
    assert sum(frame["payload"].get("dropped", False) for frame in made_up) == 200 - 35
    assert after - before <= 50


async def test_subscribing_costs_by_channel_and_ten_to_the_five_are_refused(redis_url: str, tenant: str) -> None:
    """A bomb of 100,000 channels: 200 and the inbox are followed, the rest refused, the socket closed for not listening."""
    async with running_node(redis_url, rate_limits={}) as node, client(node.ws_url, token("a", tenant)) as a:
        NodeClock(node)
        for start in range(0, 100_000, 100):
            channels = [f"conversation:b{number}" for number in range(start, start + 100)]
            try:
                await a.send("channel.subscribe", {"channels": channels})
            except OSError:
                break
            except Exception as error:  # websockets tells of the close while sending
                assert "close" in type(error).__name__.lower()  # noqa: PT017
                break
        code = await a.closed()
        followed, bytes_kept = len(node.hub.fanouts), node.hub.limiter.bucket_count()

    codes = {code_of(frame) for frame in a.seen if frame["type"] == "connection.error"}
    assert code == 4004
    assert codes == {4004, 4015}
    assert followed <= 202  # with the rollout, which the node follows
    assert bytes_kept < 100


async def test_a_tenant_has_its_connections_over_all_nodes(redis_url: str, tenant: str) -> None:
    """The quota counts other nodes, and a closed connection makes room; another tenant is not concerned."""
    async with AsyncExitStack() as stack:
        here, there = [await stack.enter_async_context(running_node(redis_url, quota_connections=2)) for _ in "ab"]
        async with client(here.ws_url, token("a", tenant)), client(here.ws_url, token("b", tenant)):
            await news_shared(here, there)
            async with raw_client(there.ws_url) as late:
                refused = await late.answer("connection.init", {"token": token("c", tenant), "versions": [1]})
                assert await late.closed() == 4010
            async with client(there.ws_url, token("a", tenant + "x")) as other:
                assert (await other.say(CHANNEL, "hi"))["type"] == "message.received"
        await news_shared(here, there)
        async with client(there.ws_url, token("c", tenant)) as now:
            served = await now.say(CHANNEL, "hi")

    assert code_of(refused) == 4010
    assert served["type"] == "message.received"


async def test_a_tenant_follows_and_stores_what_it_may(redis_url: str, tenant: str) -> None:
    """Channels: 4015. Publish rate: 4004. Leaving a channel makes room."""
    quotas = {"quota_channels": 2, "quota_publishes_per_s": 1}
    async with running_node(redis_url, **quotas) as node, client(node.ws_url, token("a", tenant)) as a:
        NodeClock(node)
        await a.subscribe("team:1")  # beside the own inbox
        full = await a.answer("channel.subscribe", {"channels": ["team:2"]})
        await a.answer("channel.unsubscribe", {"channels": ["team:1"]})
        room = await a.answer("channel.subscribe", {"channels": ["team:2"]})
        said = [await a.say(CHANNEL, "x") for _ in range(11)]

    assert code_of(full) == 4015
    assert room["type"] == "channel.subscribed"
    assert [frame["type"] for frame in said[:10]] == ["message.received"] * 10
    assert code_of(said[10]) == 4004
    assert 0 < said[10]["payload"]["retry_after_ms"] <= 1_000


async def test_a_repeated_command_uses_no_more_of_the_store(redis_url: str, tenant: str) -> None:
    """Bytes are charged once for what is stored once."""
    room_bytes = CHANNEL_BYTES + 3 * EVENT_BYTES + 100
    async with (
        running_node(redis_url, quota_bytes_stored=room_bytes) as node,
        client(node.ws_url, token("a", tenant)) as a,
    ):
        answers = []
        for _ in range(10):
            await a.send("chat.message", {"text": "twenty characters it"}, CHANNEL, "same")
            answers.append(await a.expect("message.received"))
        room = [await a.say(CHANNEL, "twenty characters it") for _ in range(2)]
        full = await a.say(CHANNEL, "twenty characters it")

    assert {frame["payload"]["seq"] for frame in answers} == {1}
    assert [frame["payload"]["seq"] for frame in room] == [2, 3]
    assert code_of(full) == 4011


async def test_sockets_that_wait_are_counted_and_forgotten(redis_url: str, tenant: str) -> None:
    """Whatever the end (a good token, a bad one, a reset), the address owes nothing in the end."""
    async with running_node(redis_url, rate_limits={}) as node:
        connects = node.hub.edge.connects
        async with raw_client(node.ws_url) as waiting, client(node.ws_url, token("a", tenant)):
            assert connects.pending_count() == 1
            waiting.reset()
            await failed_handshake(node, an_address())
        while node.hub.connections:  # noqa: ASYNC110 - until the reset has arrived
            await asyncio.sleep(0)

    assert connects.pending_count() == 0
