"""An ack names what the event survives, and never more: with a real replica, a hanging one, and another server after a failover."""

from __future__ import annotations

import asyncio

import pytest

from streams.channel import Channel, Kind
from streams.envelope import Actor, Appended, Draft, Durability
from streams.errors import ConfigurationRefused, LogUnavailable
from streams.redis.durability import BARRIER_TIMEOUT_MS
from streams.redis.log import Log
from support.appending import outcome, stored_at_last
from support.link import linked
from support.lived_time import lived_time
from support.nodes import running_node, token
from support.redis_server import RedisServer
from support.replica import port_of, replicated
from support.socket_client import client

REPLICATED = {Kind.CONVERSATION: Durability.REPLICATED}


def said(tenant: str, name: object, command: str | None = None, kind: Kind = Kind.CONVERSATION) -> Draft:
    return Draft(
        Channel(tenant, kind, str(name)), "chat.message", b'{"text":"hi"}', Actor("user", "alice"), command=command
    )


async def test_replicated_means_that_a_replica_has_it(tenant: str) -> None:
    """With a replica the ack says so; while it hangs there is no ack, and a re-send of the same id is a duplicate, then safe."""
    async with replicated() as pair:
        log = await Log.open(pair.master.url, durability=REPLICATED)
        stored = await log.append(said(tenant, 1, "c-1"))
        with pair.replica.stopped():
            async with lived_time() as since:
                drafts = [said(tenant, n, f"h-{n}") for n in range(30)]  # in every partition
                *unconfirmed, weaker = await asyncio.gather(
                    *(outcome(log, draft) for draft in drafts), outcome(log, said(tenant, 1, kind=Kind.TEAM))
                )
        again = await asyncio.gather(*(log.append(draft) for draft in drafts))
        is_same_wire = log.servers.by_partition[0]._wires._wires[0].is_open
        await log.close()

    assert stored.durability is Durability.REPLICATED
    assert {type(answer) for answer in unconfirmed} == {LogUnavailable}
    assert isinstance(weaker, Appended)
    assert weaker.durability is Durability.MEMORY
    assert {(a.is_duplicate, a.durability, a.seq > 0) for a in again} == {(True, Durability.REPLICATED, True)}
    assert since.passed_s < 4 * BARRIER_TIMEOUT_MS / 1000  # one wait for all eight partitions
    assert is_same_wire


async def test_a_client_is_told_4013_and_may_send_the_same_id_again(tenant: str) -> None:
    """Over the socket: no ack that promises too much; the re-send is answered as a duplicate with the level reached."""
    async with (
        replicated() as pair,
        running_node(pair.master.url, durability=REPLICATED) as node,
        client(node.ws_url, token("a", tenant)) as a,
    ):
        with pair.replica.stopped():
            await a.send("chat.message", {"text": "x"}, "conversation:1", "m-1")
            refused = await a.expect("connection.error", re="m-1")
        await a.send("chat.message", {"text": "x"}, "conversation:1", "m-1")
        received = await a.expect("message.received", re="m-1")

    assert (refused["payload"]["code"], refused["payload"]["retry"]) == (4013, "backoff")
    assert (received["payload"]["duplicate"], received["payload"]["durability"]) == (True, "replicated")


async def test_replicated_without_a_replica_is_refused_at_start(redis_url: str) -> None:
    """The error says what is missing."""
    with pytest.raises(ConfigurationRefused, match="connected replica"):
        await Log.open(redis_url, durability=REPLICATED)


async def test_after_a_failover_acks_promise_what_the_new_server_gives(tenant: str) -> None:
    """The name leads to a server without fsync: the level in the acks goes down with it, without a restart of the node."""
    strong, weak = RedisServer(on_port=True, is_persistent=True, fsync="always"), RedisServer(on_port=True)
    try:
        async with linked("127.0.0.1", port_of(strong)) as link:
            log = await Log.open(link.url)
            before = await log.append(said(tenant, 1))
            link.target = ("127.0.0.1", port_of(weak))
            link.cut()
            after = await stored_at_last(log, said(tenant, 1))
            await log.close()
    finally:
        strong.close()
        weak.close()

    assert (before.durability, after.durability) == (Durability.FSYNC, Durability.MEMORY)


async def test_a_server_that_cannot_keep_a_promise_is_not_written_to(tenant: str) -> None:
    """Asked for `fsync` by name, the log stays away from a server that cannot give it, and comes back with one that can."""
    strong, weak = RedisServer(on_port=True, is_persistent=True, fsync="always"), RedisServer(on_port=True)
    try:
        async with linked("127.0.0.1", port_of(strong)) as link:
            log = await Log.open(link.url, durability={Kind.CONVERSATION: Durability.FSYNC})
            link.target = ("127.0.0.1", port_of(weak))
            link.cut()
            refused = await outcome(log, said(tenant, 1))
            link.target = ("127.0.0.1", port_of(strong))
            after = await stored_at_last(log, said(tenant, 1))
            await log.close()
    finally:
        strong.close()
        weak.close()

    assert isinstance(refused, LogUnavailable)
    assert after.durability is Durability.FSYNC
