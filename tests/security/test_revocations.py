"""Revocations through a real Redis: on every node, after restarts, after loss."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack

import pytest

from hub.auth.permissions import compile_grants
from hub.auth.revocations import DenyList, Revocation, revoke_subject, revoke_token
from hub.auth.tokens import Principal
from hub.limits.edge import EdgeStore
from hub.limits.quotas import Quotas
from hub.limits.rates import RateLimiter
from streams.errors import LogUnavailable
from support.lived_time import lived_time
from support.redis_server import RedisServer


class Node:
    """A node's deny-list, and an event for the first revocation it hears of."""

    def __init__(self, url: str, name: str, prefix: str) -> None:
        self.deny = DenyList()
        self.heard: asyncio.Queue[Revocation] = asyncio.Queue()
        self.store = EdgeStore.connect(url, name, limiter=RateLimiter(), quotas=Quotas(), deny=self.deny, prefix=prefix)
        self.store.listen(self.heard.put_nowait, lambda _claim: None)


def alice(tenant: str, jti: str | None = "j1", issued_at: float = 0.0) -> Principal:
    return Principal("alice", tenant, compile_grants({}, "alice"), time.time() + 60, issued_at, jti)


async def started(stack: AsyncExitStack, url: str, name: str, prefix: str) -> Node:
    node = Node(url, name, prefix)
    stack.push_async_callback(node.store.close)
    await node.store.start()
    return node


async def test_revoked_on_every_node_within_a_second(redis_url: str, tenant: str) -> None:
    """The other node is told, by itself, in under a second; the node that was asked knows at once."""
    async with AsyncExitStack() as stack:
        here, there = [await started(stack, redis_url, name, tenant) for name in "ab"]
        async with lived_time() as since:
            await here.store.revoke(revoke_token(tenant, "j1", time.time()))
            assert here.deny.is_revoked(alice(tenant))
            heard = await there.heard.get()

        assert since.passed_s < 1.0
        assert heard.hits(alice(tenant))
        assert there.deny.is_revoked(alice(tenant))


async def test_a_node_that_starts_later_knows(redis_url: str, tenant: str) -> None:
    """Revocations survive the nodes that made them."""
    async with AsyncExitStack() as stack:
        here = await started(stack, redis_url, "a", tenant)
        await here.store.revoke(revoke_subject(tenant, "alice", time.time()))
    async with AsyncExitStack() as stack:
        late = await started(stack, redis_url, "b", tenant)

        assert late.deny.is_revoked(alice(tenant))
        assert not late.deny.is_revoked(alice(tenant, issued_at=time.time() + 1))


async def test_revocations_survive_a_restart_of_redis(own_redis: RedisServer, tenant: str) -> None:
    """Killed and restarted, Redis still has them, and nodes hear of new ones again."""
    async with AsyncExitStack() as stack:
        here, there = [await started(stack, own_redis.url, name, tenant) for name in "ab"]
        await here.store.revoke(revoke_token(tenant, "j1", time.time()))
        own_redis.kill()
        own_redis.restart()
        late = await started(stack, own_redis.url, "c", tenant)
        assert late.deny.is_revoked(alice(tenant))

        await here.store.wait_round()
        await here.store.revoke(revoke_token(tenant, "j2", time.time()))
        while not there.deny.is_revoked(alice(tenant, jti="j2")):
            await there.heard.get()


async def test_nodes_put_back_what_redis_lost(own_redis: RedisServer, tenant: str) -> None:
    """An emptied Redis gets its revocations back from a node that remembers them."""
    async with AsyncExitStack() as stack:
        here = await started(stack, own_redis.url, "a", tenant)
        await here.store.revoke(revoke_token(tenant, "j1", time.time()))
        await here.store._records._calls.call("FLUSHALL")
        await here.store.wait_round()
        await here.store.wait_round()
        late = await started(stack, own_redis.url, "b", tenant)

        assert late.deny.is_revoked(alice(tenant))


async def test_revoking_without_redis_says_so(own_redis: RedisServer, tenant: str) -> None:
    """Nobody is told that a token is revoked when that was not stored."""
    async with AsyncExitStack() as stack:
        here = await started(stack, own_redis.url, "a", tenant)
        own_redis.kill()

        with pytest.raises(LogUnavailable):
            await here.store.revoke(revoke_token(tenant, "j1", time.time()))

        assert not here.deny.is_revoked(alice(tenant))


async def test_a_node_that_cannot_learn_who_is_revoked_does_not_start(own_redis: RedisServer, tenant: str) -> None:
    """Letting everybody in is not the answer to not knowing."""
    own_redis.kill()
    node = Node(own_redis.url, "a", tenant)

    with pytest.raises(LogUnavailable):
        await node.store.start()

    await node.store.close()
