"""A user pays for what the hub reads and works out, whatever of it was wanted, accepted or asked for at the handshake."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hub.config import RateOverride
from hub.limits.rates import DEFAULT_RATES
from streams.channel import Channel, Kind
from streams.envelope import Actor, Draft
from streams.redis.log import Log
from support.nodes import Node, running_node, token
from support.socket_client import client, raw_client


@pytest.fixture
async def limited(redis_url: str) -> AsyncIterator[Node]:
    """A node with the default limits, but few subscriptions and replayed pages a second."""
    rates = {"subscribe": RateOverride(100.0, 100), "replay": RateOverride(4.0, 4)}
    async with running_node(redis_url, rate_limits=rates) as node:
        yield node


async def fill(log: Log, channel: Channel, count: int) -> None:
    """So many short messages."""
    drafts = [Draft(channel, "chat.message", b'{"text":"x"}', Actor("user", "alice")) for _ in range(count)]
    await asyncio.gather(*map(log.append, drafts))


async def test_history_pays_for_the_events_it_passes_over(limited: Node, log: Log, tenant: str) -> None:
    """Ten thousand events read for a page of none cost as many requests as reading them; it was one."""
    channel = Channel(tenant, Kind.CONVERSATION, "long")
    await fill(log, channel, 6_000)
    ask = {"types": ["file.ready"], "limit": 1, "after": "0"}

    async with client(limited.ws_url, token("alice", tenant)) as alice:
        answers = [await alice.answer("channel.history", ask, channel.wire) for _ in range(8)]

    assert answers[0]["payload"]["events"] == []
    assert answers[-1]["payload"]["code"] == 4004


async def test_replays_pay_for_their_pages(limited: Node, log: Log, tenant: str) -> None:
    """Subscribing again and again from the beginning is charged by what is read, and delayed instead of refused."""
    channel = Channel(tenant, Kind.CONVERSATION, "again")
    await fill(log, channel, 2_000)

    async with client(limited.ws_url, token("alice", tenant)) as alice:
        began = time.monotonic()
        for _ in range(3):
            await alice.subscribe(channel.wire, after="0", state=False)
            events = await alice.events(2_000)
        took_s = time.monotonic() - began

    assert [event["seq"] for event in events] == list(range(1, 2_001))
    assert took_s > 1.5


async def test_a_handshake_over_the_budget_is_delayed_and_refused_nothing(limited: Node, tenant: str) -> None:
    """A reconnect with 199 cursors at 100 subscriptions a second waits for its debt, and then follows all of them."""
    cursors = {f"conversation:{n}": {"after": "0"} for n in range(199)}

    async with raw_client(limited.ws_url) as alice:
        hello = {"token": token("alice", tenant), "versions": [1], "session_id": "s-unknown", "cursors": cursors}
        ack = await alice.answer("connection.reconnect", hello)
        began = time.monotonic()
        subscribed = [await alice.expect("channel.subscribed") for _ in range(200)]
        took_s = time.monotonic() - began

    assert ack["type"] == "connection.ack", ack
    assert len(subscribed) == 200
    assert took_s > 0.9


async def test_refused_patches_are_charged_by_their_work(limited: Node, tenant: str) -> None:
    """A patch that copies much and ends in a failing test costs what it took, so that it cannot be sent all the time."""
    big = [{"op": "add", "path": "/a", "value": [0] * 30_000}]
    costly = [
        *({"op": "add", "path": "/a/0", "value": 1} for _ in range(80)),
        {"op": "test", "path": "/a/0", "value": 2},
    ]

    async with client(limited.ws_url, token("alice", tenant)) as alice:
        made = await alice.answer("document.update", {"base_version": 0, "patch": big}, "document:1")
        answers = [
            await alice.answer("document.update", {"base_version": 1, "patch": costly}, "document:1") for _ in range(12)
        ]

    assert made["type"] == "ack", made
    assert answers[0]["payload"]["code"] == 4005
    assert answers[-1]["payload"]["code"] == 4004


def test_the_limits_that_count_by_node_are_named() -> None:
    """SECURITY.md names the classes of a user whose limits a second node gives once more."""
    text = (Path(__file__).parents[2] / "SECURITY.md").read_text()
    by_node = sorted(name for name, rate in DEFAULT_RATES.items() if not rate.is_shared and name != "open")

    assert f"classes {', '.join(f'`{name}`' for name in by_node)}, which count on each node by itself" in text
