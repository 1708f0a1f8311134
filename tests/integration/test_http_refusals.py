"""HTTP as clients that know only PROTOCOL 6 meet it: bodies that are refused, paths that are none, polls with a filter."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest

from support.nodes import Node, running_node, token

CHANNEL = "conversation:outside"
EVENTS = f"/v1/channels/{CHANNEL}/events"


@pytest.fixture
async def node(redis_url: str) -> AsyncIterator[Node]:
    """A node."""
    async with running_node(redis_url) as found:
        yield found


@pytest.fixture
async def http(node: Node, tenant: str) -> AsyncIterator[httpx.AsyncClient]:
    """Alice, who may do everything."""
    headers = {"Authorization": f"Bearer {token('alice', tenant)}"}
    async with httpx.AsyncClient(base_url=node.url, headers=headers, timeout=30) as client:
        yield client


async def said(http: httpx.AsyncClient, text: str) -> str:
    """Appends a message; its ID."""
    answer = await http.post(EVENTS, json={"type": "chat.message", "payload": {"text": text}})
    assert answer.status_code == 201
    found: str = answer.json()["id"]
    return found


@pytest.mark.parametrize("size", [1_048_600, 20_000_000])
async def test_a_body_over_the_limit_is_answered_and_not_cut_off(http: httpx.AsyncClient, size: int) -> None:
    """Whoever sends all before it reads sees the 413, with its code, and not a reset connection."""
    answer = await http.post(EVENTS, content=b'{"type":"' + b"x" * size)

    assert (answer.status_code, answer.json()["code"]) == (413, 4011)


async def test_the_connection_after_a_413_is_a_new_one(http: httpx.AsyncClient) -> None:
    """The refused connection is said to end, and the client goes on with another."""
    refused = await http.post(EVENTS, content=bytes(2_000_000))

    assert refused.headers["connection"] == "close"
    assert await said(http, "still here")


@pytest.mark.parametrize(("method", "path", "status", "code"), [
    ("GET", "/nowhere", 404, 4018), ("GET", "/v1/channels", 404, 4018), ("GET", EVENTS + "/", 404, 4018),
    ("DELETE", EVENTS, 405, 4005), ("POST", "/healthz", 405, 4005),
])  # fmt: skip
async def test_what_is_not_there_has_a_code_and_a_name_too(
    http: httpx.AsyncClient, method: str, path: str, status: int, code: int
) -> None:
    """Every HTTP error is a problem document with `code` and `name`; no path redirects to another."""
    answer = await http.request(method, path)

    problem = answer.json()
    assert answer.headers["content-type"] == "application/problem+json"
    assert (answer.status_code, problem["status"], problem["code"]) == (status, status, code)
    assert problem["name"] in {"not_found", "invalid_message"}


async def test_every_429_says_when_to_come_back(redis_url: str, tenant: str) -> None:
    """Also where nobody can know: another's connection may end at any time."""
    headers = {"Authorization": f"Bearer {token('alice', tenant)}"}
    path = "/v1/channels/conversation:one/stream"
    async with (
        running_node(redis_url, quota_connections=1) as node,
        httpx.AsyncClient(base_url=node.url, headers=headers, timeout=30) as http,
        http.stream("GET", path) as first,
    ):
        await anext(first.aiter_lines())
        second = await http.get(path)

    assert (second.status_code, second.json()["code"]) == (429, 4010)
    assert int(second.headers["retry-after"]) >= 1


async def test_a_poll_waits_for_the_types_it_asked_for(http: httpx.AsyncClient) -> None:
    """An event of another type does not end it; the one that was asked for does."""
    first = await said(http, "one")
    asked = {"after": first, "types": "chat.react", "wait_ms": "20000"}
    poll = asyncio.create_task(http.get(EVENTS, params=asked))
    await _followed(http)
    await said(http, "another type")
    payload = {"message_id": first, "reaction": "👍", "op": "add"}
    reaction = await http.post(EVENTS, json={"type": "chat.react", "payload": payload})
    page = (await poll).json()

    assert reaction.status_code == 201, reaction.text
    assert [event["type"] for event in page["events"]] == ["chat.react"]


async def _followed(http: httpx.AsyncClient) -> None:
    """Until somebody follows the channel: the poll's subscription stands."""
    while not (await http.get(f"/v1/channels/{CHANNEL}/presence")).json()["presence"]:
        continue


async def test_a_poll_ends_empty_when_its_time_is_over(http: httpx.AsyncClient) -> None:
    """Events of other types were there and came; none that was asked for."""
    first = await said(http, "one")
    page = (await http.get(EVENTS, params={"after": first, "types": "chat.edit", "wait_ms": 200})).json()

    assert (page["events"], page["gap"]) == ([], None)
