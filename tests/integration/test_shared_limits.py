"""Two nodes, one user: limits and quotas through a real Redis."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from hub.auth.revocations import DenyList
from hub.errors import HubError
from hub.limits.edge import EdgeStore
from hub.limits.quotas import Quota, Quotas
from hub.limits.rates import RateClass, RateLimiter
from support.lived_time import lived_time
from support.redis_server import RedisServer


class Node:
    """One node's edge."""

    def __init__(self, url: str, name: str, prefix: str, quota: Quota | None = None) -> None:
        self.limiter = RateLimiter({"chat": RateClass(0.1, 20)}, is_shared=True)
        self.quotas = Quotas(quota)
        self.deny = DenyList()
        self.store = EdgeStore.connect(
            url, name, limiter=self.limiter, quotas=self.quotas, deny=self.deny, prefix=prefix
        )

    def take(self, tenant: str) -> int | None:
        return self.limiter.take((tenant, "alice"), "chat", time.monotonic())


@pytest.fixture
async def nodes(redis_url: str, tenant: str) -> AsyncIterator[tuple[Node, Node]]:
    async with AsyncExitStack() as stack:
        pair = Node(redis_url, "a", tenant, Quota(connections=3)), Node(redis_url, "b", tenant, Quota(connections=3))
        for node in pair:
            stack.push_async_callback(node.store.close)
            await node.store.start()
        yield pair


async def test_what_one_node_let_through_counts_on_the_other(nodes: tuple[Node, Node], tenant: str) -> None:
    """A user who empties the bucket on one node is refused on the other within a second."""
    here, there = nodes
    assert [here.take(tenant) for _ in range(20)] == [None] * 20
    async with lived_time() as since:
        await here.store.wait_round()
        await there.store.wait_round()

    assert there.take(tenant) is not None
    assert since.passed_s < 2.5  # two waits of up to two rounds each; one round carries the news


async def test_two_buckets_emptied_at_once_are_repaid_on_both(nodes: tuple[Node, Node], tenant: str) -> None:
    """Commands that passed twice before the news arrived are a debt on both nodes, so the rate holds over time."""
    for node in nodes:
        assert [node.take(tenant) for _ in range(20)] == [None] * 20
    for node in nodes:
        await node.store.wait_round()
    for node in nodes:
        await node.store.wait_round()

    for node in nodes:
        advice_ms = node.take(tenant)
        assert advice_ms is not None
        assert advice_ms > 15_000


async def test_a_node_that_starts_learns_what_was_used_before(
    nodes: tuple[Node, Node], redis_url: str, tenant: str
) -> None:
    """Moving to a fresh node does not refill the bucket."""
    for _ in range(20):
        nodes[0].take(tenant)
    await nodes[0].store.wait_round()
    late = Node(redis_url, "c", tenant)
    await late.store.start()

    refused = late.take(tenant)
    await late.store.close()

    assert refused is not None


async def test_connection_quota_counts_other_nodes(nodes: tuple[Node, Node], tenant: str) -> None:
    """A tenant's three connections are three, on whichever nodes they are; closing one makes room."""
    here, there = nodes
    for _ in range(3):
        here.quotas.open_connection(tenant)
    await here.store.wait_round()
    await there.store.wait_round()

    with pytest.raises(HubError) as refused:
        there.quotas.open_connection(tenant)
    assert refused.value.row.code == 4010

    here.quotas.close_connection(tenant)
    await here.store.wait_round()
    await there.store.wait_round()
    there.quotas.open_connection(tenant)


async def test_bytes_stored_add_up_over_nodes(redis_url: str, tenant: str) -> None:
    """The store of a tenant fills from every node."""
    here, there = (Node(redis_url, name, tenant, Quota(bytes_stored=1000)) for name in "ab")
    async with AsyncExitStack() as stack:
        for node in (here, there):
            stack.push_async_callback(node.store.close)
            await node.store.start()
        here.quotas.publish(tenant, 900, 0.0)
        there.quotas.publish(tenant, 10, 0.0)
        await here.store.wait_round()
        there.quotas.note_stored(tenant, 1)
        await there.store.wait_round()

        with pytest.raises(HubError) as refused:
            there.quotas.publish(tenant, 100, 0.0)

    assert refused.value.row.code == 4011


async def test_nodes_limit_alone_while_redis_is_away_and_heal(own_redis: RedisServer, tenant: str) -> None:
    """Without Redis a node still limits by itself; when Redis is back the news flows again without a restart."""
    here, there = Node(own_redis.url, "a", tenant), Node(own_redis.url, "b", tenant)
    async with AsyncExitStack() as stack:
        for node in (here, there):
            stack.push_async_callback(node.store.close)
            await node.store.start()
        own_redis.kill()
        await here.store.wait_round()

        assert here.store.error is not None
        assert [here.take(tenant) for _ in range(21)].count(None) == 20

        own_redis.restart()
        await here.store.wait_round()
        await there.store.wait_round()
        for _ in range(20):
            there.take(tenant)
        await there.store.wait_round()
        await here.store.wait_round()

        assert here.store.error is None
        advice_ms = here.take(tenant)
        assert advice_ms is not None
        assert advice_ms > 15_000
