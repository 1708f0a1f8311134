"""Routes that ask for no token: what a stranger's request costs, how often an address may ask, and what caches may keep."""

from __future__ import annotations

import time

import httpx
import pytest

from support.nodes import running_node, token

WARM_ANSWERS = 50
OPEN_ROUTES = ("/asyncapi.json", "/openapi.json", "/readyz", "/metrics", "/console", "/console/console.js", "/hub.js")


@pytest.mark.parametrize("path", ["/asyncapi.json", "/openapi.json"])
async def test_a_document_is_built_once_and_answered_from_bytes(redis_url: str, tenant: str, path: str) -> None:
    """Built anew for each request, one stranger held everybody up for half a second a time."""
    async with running_node(redis_url, rate_limits=None) as node, node.http() as http:
        first = await http.get(path)
        began = time.process_time()
        again = [await http.get(path) for _ in range(WARM_ANSWERS)]
        cost_ms = (time.process_time() - began) * 1000 / WARM_ANSWERS
        unchanged = await http.get(path, headers={"If-None-Match": first.headers["ETag"]})

    assert {answer.content for answer in again} == {first.content}
    assert (unchanged.status_code, unchanged.content) == (304, b"")
    assert cost_ms < 20  # client and server together, on a slow machine; building takes hundreds


async def test_the_document_names_the_server_that_was_asked(redis_url: str, tenant: str) -> None:
    """The host is the request's own; another host is another document to a cache."""
    hosts = ["hub.example", "other.example:81", "hub.example"]
    async with running_node(redis_url) as node, node.http() as http:
        answers = [await http.get("/asyncapi.json", headers={"Host": host}) for host in hosts]

    assert [answer.json()["servers"]["hub"]["host"] for answer in answers] == hosts
    assert answers[0].headers["ETag"] == answers[2].headers["ETag"] != answers[1].headers["ETag"]


async def test_open_routes_are_limited_by_address_and_health_is_not(redis_url: str, tenant: str) -> None:
    """The address that asks too often is told to wait; the probe that keeps the process alive is always answered."""
    async with running_node(redis_url, rate_limits={"open": (0.01, len(OPEN_ROUTES))}) as node, node.http() as http:
        answered = [(await http.get(path)).status_code for path in OPEN_ROUTES]
        refused = [await http.get(path) for path in OPEN_ROUTES]
        health = await http.get("/healthz")
        other = await http.get("/readyz", headers={"X-Forwarded-For": "203.0.113.9"})

    assert answered == [200] * len(OPEN_ROUTES)
    assert {(answer.status_code, answer.json()["code"]) for answer in refused} == {(429, 4004)}
    assert all(int(answer.headers["Retry-After"]) >= 1 for answer in refused)
    assert (health.status_code, other.status_code) == (200, 200)


async def test_answers_are_kept_by_no_cache_and_read_as_no_other_type(redis_url: str, tenant: str) -> None:
    """A shared cache must not hand one person's history to the next; a browser must not guess a type."""
    headers = {"Authorization": f"Bearer {token('a', tenant)}"}
    events = "/v1/channels/conversation:1/events"
    async with running_node(redis_url) as node, httpx.AsyncClient(base_url=node.url, headers=headers) as http:
        stored = await http.post(events, json={"type": "chat.message", "payload": {"text": "x"}})
        answers = [stored, await http.get(events), await http.get(events.replace("events", "state"))]
        answers += [await http.get("/v1/channels/nothing:1/events"), await http.get("/nowhere")]

    assert {answer.headers["Cache-Control"] for answer in answers} == {"no-store"}
    assert {answer.headers["X-Content-Type-Options"] for answer in answers} == {"nosniff"}


async def test_the_console_may_talk_to_its_own_origin_only(redis_url: str, tenant: str) -> None:
    """With `ws:` and `wss:` allowed, a script smuggled in could send what it reads anywhere."""
    async with running_node(redis_url) as node, node.http() as http:
        policy = (await http.get("/console")).headers["Content-Security-Policy"]

    directives = dict(part.strip().split(" ", 1) for part in policy.split(";"))
    assert directives["connect-src"] == "'self'"
