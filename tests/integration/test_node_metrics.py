"""The metrics of a real node: what a command, a resume and a request leave in them, their formats, and the second port."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from websockets.exceptions import InvalidStatus

from ops.embedded_redis.probe import free_port
from streams.exposition import OPENMETRICS
from support.certificate import self_signed
from support.nodes import NodeProcess, running_node, token
from support.socket_client import client, raw_client

CHANNEL = "conversation:1"


async def samples(http: httpx.AsyncClient) -> dict[tuple[str, ...], float]:
    """The samples of a scrape as Prometheus makes it, by name and the values of their labels in order of name."""
    answer = await http.get("/metrics", headers={"Accept": f"{OPENMETRICS};version=1.0.0,text/plain;q=0.5"})
    assert answer.headers["content-type"].startswith(OPENMETRICS)
    families = text_string_to_metric_families(answer.text)
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


async def test_what_a_client_does_is_measured(redis_url: str, tenant: str, tmp_path: Path) -> None:
    """One command, its delivery, a subscription, a resume and a request over HTTP each leave one observation."""
    certificate = self_signed(tmp_path).certificate
    files = (str(certificate), str(tmp_path / "missing.pem"))
    async with running_node(redis_url, certificates=files) as node, node.http(token("a", tenant)) as http:
        async with client(node.ws_url, token("a", tenant)) as a:
            await a.say(
                "conversation:0", "hello"
            )  # Redis gets the script with the first event, which is read back later
            before = await samples(http)
            await a.subscribe(CHANNEL)
            answer = await a.say(CHANNEL, "hello")
            await a.events(1)
            await a.subscribe(CHANNEL, after="0")
            await http.get("/v1/channels/conversation:1/events")
            await http.get("/nowhere")
            after = await samples(http)

    def grown(*key: str) -> float:
        return after[key] - before.get(key, 0.0)

    assert answer["type"] == "message.received"
    assert grown("hub_command_to_ack_seconds_count") == 1
    assert grown("hub_publish_to_store_seconds_count") >= 1
    assert grown("hub_redis_round_trip_seconds_count", "append") >= 1
    assert grown("hub_redis_round_trip_seconds_count", "call") >= 2
    assert grown("hub_publish_to_deliver_seconds_count", "here") == 1
    assert grown("hub_subscribe_seconds_count") == 1
    assert grown("hub_resume_seconds_count") == 1
    assert grown("hub_http_request_seconds_count", "GET", "/v1/channels/{channel}/events", "2xx") == 1
    assert grown("hub_http_request_seconds_count", "GET", "other", "4xx") == 1
    assert after["hub_durability_degraded", "conversation"] == 0
    assert after["hub_redis_memory_bytes",] > 0
    assert after["hub_presence_lag_seconds",] < 30
    assert after["hub_certificate_expiry_timestamp_seconds", str(certificate)] > 1e9
    assert after["hub_certificate_expiry_timestamp_seconds", files[1]] == 0
    assert after["hub_command_to_ack_seconds_sum",] > 0


async def test_a_met_limit_is_counted_under_its_class(redis_url: str, tenant: str) -> None:
    async with running_node(redis_url, rate_limits={"chat": (0.01, 1)}) as node, node.http() as http:
        async with client(node.ws_url, token("a", tenant)) as a:
            told = [(await a.say(CHANNEL, "hello"))["type"] for _ in range(2)]
        found = await samples(http)

    assert told == ["message.received", "connection.error"]
    assert found["hub_limits_met_total", "chat"] == 1


@pytest.mark.slow
async def test_the_second_port_takes_the_routes_for_operators(redis_url: str, tenant: str) -> None:
    """They are on one port each, and so are sockets; health is on both. A line end after the path changes nothing."""
    admin_port = free_port()
    node = NodeProcess(redis_url, HUB_ADMIN_PORT=str(admin_port))
    headers = {"Authorization": f"Bearer {token('a', tenant, {'*': ['*']})}"}
    paths = ("/metrics", "/v1/connections", "/v1/channels", "/console", "/readyz")
    try:
        await node.wait_ready()
        async with httpx.AsyncClient(headers=headers, timeout=30) as http:
            public = [(await http.get(f"{node.url}{path}")).status_code for path in paths]
            admin = [(await http.get(f"http://127.0.0.1:{admin_port}{path}")).status_code for path in paths]
            odd = [(await http.get(f"{node.url}{path}%0a")).status_code for path in paths]
            revoked = await http.post(f"{node.url}/v1/revocations", json={"jti": "x"})
        with pytest.raises(InvalidStatus) as refused:
            async with raw_client(f"ws://127.0.0.1:{admin_port}/ws"):
                pass
    finally:
        node.close()

    assert public == [404, 404, 200, 200, 200]
    assert admin == [200, 200, 404, 404, 200]
    assert odd == [404] * len(paths)
    assert refused.value.response.status_code == 404
    assert revoked.status_code == 404
    assert "HUB_ADMIN_PORT" in revoked.json()["detail"]
