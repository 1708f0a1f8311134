"""An issuer removes a key from its set, since it was stolen or is old: who is connected by it must come with another."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from urllib.request import urlopen

import pytest

from hub.auth.keys import COOLDOWN_S
from support.key_server import Issuer
from support.node_clock import NodeClock
from support.nodes import ALL, running_node
from support.socket_client import client
from support.token_forge import jwk, signed


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    server = Issuer()
    yield server
    server.close()


def a_token(number: int, tenant: str) -> str:
    """A token by one of the issuer's keys."""
    now = int(time.time())
    return signed("ES256", number, kid=f"key-{number}", tenant=tenant, grants=ALL, iat=now, nbf=now, exp=now + 3_600)


async def test_sockets_and_streams_of_a_removed_key_are_closed(redis_url: str, tenant: str, issuer: Issuer) -> None:
    """Nobody connects meanwhile, so nothing else asks the issuer; who came by the key that stays is not concerned."""
    issuer.publish(jwk("ES256", 0, kid="key-0"), jwk("ES256", 1, kid="key-1"))
    async with (
        running_node(redis_url, jwt_secret=None, jwks_url=issuer.url) as node,
        client(node.ws_url, a_token(0, tenant)) as old,
        client(node.ws_url, a_token(1, tenant)) as new,
        node.http(a_token(0, tenant)) as http,
        http.stream("GET", "/v1/channels/conversation:1/stream") as stream,
    ):
        is_looped = node.hub.log.loops.working["keys"]
        clock = NodeClock(node)
        issuer.publish(jwk("ES256", 1, kid="key-1"))
        clock.pass_s(COOLDOWN_S)
        await node.hub.look_at_keys()
        code = await old.closed()
        told = await stream.aread()
        said = await new.say("conversation:1", "hi")

    assert is_looped
    assert code == 4002
    assert b"no longer published" in told
    assert said["type"] == "message.received"


async def test_an_issuer_that_is_away_removes_no_key(redis_url: str, tenant: str, issuer: Issuer) -> None:
    """It answers 500, or a set under which the same key has another id: nobody is sent away."""
    issuer.publish(jwk("ES256", 0, kid="key-0"))
    async with (
        running_node(redis_url, jwt_secret=None, jwks_url=issuer.url) as node,
        client(node.ws_url, a_token(0, tenant)) as a,
    ):
        clock = NodeClock(node)
        issuer.publish(status=500)
        clock.pass_s(COOLDOWN_S)
        await node.hub.look_at_keys()
        ready = (await asyncio.to_thread(urlopen, f"{node.url}/readyz")).status
        issuer.publish(jwk("ES256", 0, kid="renamed"))
        clock.pass_s(COOLDOWN_S)
        await node.hub.look_at_keys()
        said = await a.say("conversation:1", "hi")

    assert len(issuer.paths) == 3
    assert ready == 200
    assert said["type"] == "message.received"
