"""A real Prometheus scrapes a real node and worker, answers every query of the dashboards, and fires every alert by its fault."""

from __future__ import annotations

import asyncio
import re
import subprocess
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from redis import Redis

from consumers.agents import AgentInput, Back, Context, Item
from consumers.groups.handler import DONE, Effects, Outcome, Park, Source, StartFrom
from ops.cli.worker_process import WorkerStatus, running_worker, served_status
from ops.monitoring.dashboards import DASHBOARDS
from streams.archive.retention import parse_retention
from streams.channel import parse_channel
from streams.envelope import Actor, Draft
from streams.json_bytes import to_json
from support.certificate import self_signed
from support.nodes import Node, running_node, settings, token
from support.prometheus import IS_THERE, MONITORING, Prometheus
from support.redis_server import RedisServer
from support.run_rig import options
from support.socket_client import client
from support.span_tree import kept_spans

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not IS_THERE, reason="needs prometheus and promtool, as Debian has them"),
]

CHANNEL = "conversation:c"


async def answer(ctx: Context, given: AgentInput) -> AsyncGenerator[Item, Back]:
    yield "An answer."


class Stubborn:
    """A handler that parks what asks for it, and holds everything back for as long as it is told to."""

    name = "stubborn"
    types = frozenset({"custom.test"})
    start_from = StartFrom.NOW

    def __init__(self) -> None:
        self.goes_on = asyncio.Event()
        self.goes_on.set()

    async def handle(self, source: Source, effects: Effects) -> Outcome:
        await self.goes_on.wait()
        return Park("the test asked for it") if source.payload.get("text") == "park" else DONE


@dataclass
class Rig:
    """A node, a worker and the Prometheus that scrapes both."""

    node: Node
    stubborn: Stubborn
    prometheus: Prometheus
    worker: AsyncExitStack


@asynccontextmanager
async def rig(folder: Path, redis: RedisServer, **changes: object) -> AsyncIterator[Rig]:
    stubborn, status = Stubborn(), WorkerStatus()
    async with running_node(redis.url, **changes) as node, AsyncExitStack() as worker:
        given = options(redis.url, {"a": answer}, handlers=(stubborn,))
        archive = {"retention": parse_retention("*=forever"), "checkpoint_interval_s": 0.5, "data_dir": str(folder)}
        status.started(await worker.enter_async_context(running_worker(settings(redis.url, **archive), given)))
        port = worker.enter_context(served_status(status, "127.0.0.1", 0, None))
        assert port is not None
        async with Prometheus(folder, {"hub-node": node.port, "hub-worker": port}) as prometheus:
            yield Rig(node, stubborn, prometheus, worker)


@pytest.mark.parametrize(
    "command",
    [("check", "config", "prometheus.yml"), ("check", "rules", "alerts.yml"), ("test", "rules", "alerts_test.yml")],
)
def test_promtool_finds_no_fault(command: tuple[str, ...]) -> None:
    ended = subprocess.run(["promtool", *command], cwd=MONITORING, capture_output=True, text=True, check=False)

    assert ended.returncode == 0, ended.stdout + ended.stderr


async def test_every_query_of_the_dashboards_is_answered(tmp_path: Path, lone_redis: RedisServer, tenant: str) -> None:
    """With values, once clients have spoken; and with labels of the names that it groups by. A slow bucket leads to its trace."""
    kept_spans()
    async with rig(tmp_path, lone_redis, traced_share=1.0) as here, here.node.http(token("a", tenant)) as http:
        async with client(here.node.ws_url, token("a", tenant)) as a:
            await a.subscribe(CHANNEL)
            await a.answer("chat.message", {"text": "hello", "agent": "a"}, CHANNEL)
            await a.event("agent.complete")
            await a.subscribe(CHANNEL, after="0")
            await http.get(f"/v1/channels/{CHANNEL}/events")
            queries = [query for panels in DASHBOARDS.values() for panel in panels for query in panel.queries.values()]
            asked = (here.prometheus.until(query.replace("$__rate_interval", "1m"), 30) for query in queries)
            answers = await asyncio.gather(*asked)
            exemplars = await here.prometheus.exemplars("hub_command_to_ack_seconds_bucket")

    for query, found in zip(queries, answers, strict=True):
        grouped = re.search(r"\bby \(([^)]*)\)", query)
        wanted = {label.strip() for label in grouped[1].split(",")} - {"le", ""} if grouped else set()
        assert wanted <= found[0]["metric"].keys(), query
    assert exemplars[0]["exemplars"][0]["labels"].keys() == {"trace_id"}


STALL_S = 0.8
"""Seconds for which Redis hangs: longer than deliveries may take, and shorter than what counts as lost."""
UNREAD = 70_000
"""Events of a channel that its reader does not read; its socket takes some thousands of them."""


async def configured(redis: RedisServer, name: str, value: str) -> None:
    """Change a setting of the server while it runs."""
    with Redis.from_url(redis.url) as calls:
        await asyncio.to_thread(calls.config_set, name, value)


async def stalled(redis: RedisServer, here: Rig, tenant: str) -> None:
    """Deliver an event late, because Redis hangs between its arrival and its storage."""
    async with client(here.node.ws_url, token("b", tenant)) as b:
        await b.subscribe("conversation:slow")
        await b.say(
            "conversation:slow", "in time"
        )  # from here on the node knows who may write, and asks Redis for nothing else
        with redis.stopped():
            await b.send("chat.message", {"text": "late"}, "conversation:slow")
            await asyncio.sleep(STALL_S)
        await b.events(2)


async def unread(opened: AsyncExitStack, here: Rig, tenant: str) -> None:
    """Fill a channel whose subscriber does not read its socket."""
    channel = parse_channel(tenant, "conversation:unread")
    reader = await opened.enter_async_context(client(here.node.ws_url, token("c", tenant)))
    await reader.subscribe(channel.wire)
    data = to_json({"text": "x" * 1_000})
    for _ in range(UNREAD // 1_000):
        drafts = [Draft(channel, "chat.message", data, Actor("user", "c")) for _ in range(1_000)]
        await asyncio.gather(*map(here.node.hub.log.append, drafts))


@pytest.mark.long
async def test_every_alert_is_fired_by_its_fault(tmp_path: Path, own_redis: RedisServer, tenant: str) -> None:
    """One after the other, and none before."""
    certificate = str(self_signed(tmp_path).certificate)
    fired: list[str] = []
    async with AsyncExitStack() as opened:
        here = await opened.enter_async_context(
            rig(tmp_path, own_redis, certificates=(certificate,), max_lag_events=10**6)
        )
        prometheus, stubborn = here.prometheus, here.stubborn

        async def fires(alert: str) -> None:
            await prometheus.until(f'ALERTS{{alertname="{alert}", alertstate="firing"}}')
            fired.append(alert)

        await fires("HubCertificateExpires")  # in an hour
        await prometheus.until("hub_handler_backlog")
        await prometheus.until('count(ALERTS{alertstate="firing"}) == 1')  # nothing else is wrong

        a = await opened.enter_async_context(client(here.node.ws_url, token("a", tenant)))
        await a.answer("custom.test", {"text": "park"}, CHANNEL)
        await fires("HubParked")

        record = here.node.hub.log.keys.of(parse_channel(tenant, CHANNEL)).meta
        with Redis.from_url(own_redis.url) as calls:
            await asyncio.to_thread(calls.hset, record, "covered", "rubbish")
            await fires("HubArchiveStopped")
            await asyncio.to_thread(calls.hdel, record, "covered")
        await prometheus.until('absent(ALERTS{alertname=~"HubArchiveStopped|HubLoopFails"})')

        gap = await a.subscribe(CHANNEL, after="1-1", seq=1)
        assert gap["gap"]
        await fires("HubGapsTold")

        await configured(own_redis, "appendfsync", "everysec")
        await fires("HubDurabilityDegraded")

        stubborn.goes_on.clear()
        for number in range(1_100):
            await a.send("custom.test", {}, f"conversation:{number % 100}")
        await fires("HubBacklog")
        stubborn.goes_on.set()

        await stalled(own_redis, here, tenant)
        await fires("HubDeliveryLag")

        await unread(opened, here, tenant)
        await fires("HubClientsBehind")

        await here.worker.aclose()
        await fires("HubNoWorker")

        later = await opened.enter_async_context(
            client(here.node.ws_url, token("a", tenant))
        )  # `a` has long read nothing
        await configured(own_redis, "maxmemory", "1")
        await fires("HubRedisMemory")
        await later.send("channel.subscribe", {"channels": ["conversation:present"]})
        await fires("HubLoopFails")
        await fires("HubPresenceStuck")
        await configured(own_redis, "maxmemory", "0")

        own_redis.kill()
        await fires("HubRedisDown")
        here.node.server.should_exit = True
        await fires("HubNodeDown")

    assert sorted(fired) == sorted(re.findall(r"- alert: (\w+)", (MONITORING / "alerts.yml").read_text()))
