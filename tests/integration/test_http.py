"""HTTP over the same log: append, pages, long polls, server-sent events, state, presence, health."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from support.nodes import Node, running_node, token
from support.socket_client import client

CHANNEL = "conversation:1"
EVENTS = f"/v1/channels/{CHANNEL}/events"


@pytest.fixture
async def web(node: Node, tenant: str) -> AsyncIterator[httpx.AsyncClient]:
    """An HTTP client with a token for everything."""
    async with node.http(token("web", tenant)) as found:
        yield found


async def say(web: httpx.AsyncClient, text: str, key: str | None = None) -> httpx.Response:
    """Append a chat message."""
    headers = {"Idempotency-Key": key} if key else {}
    return await web.post(EVENTS, json={"type": "chat.message", "payload": {"text": text}}, headers=headers)


async def test_answers_are_sent_at_once(node: Node) -> None:
    """Every answer came 40 ms late: its body waited until its head had been acknowledged."""
    async with node.http() as web:
        await web.get("/healthz")
        (connection,) = node.server.server_state.connections
        accepted = connection.transport.get_extra_info("socket")

    assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0


async def test_append_is_idempotent_by_its_key(web: httpx.AsyncClient) -> None:
    """201 the first time, 200 with the same answer after, 409 for another body."""
    first, again, other = await say(web, "one", "k1"), await say(web, "one", "k1"), await say(web, "two", "k1")

    assert (first.status_code, again.status_code, other.status_code) == (201, 200, 409)
    assert again.json() == first.json() | {"duplicate": True}
    assert (other.json()["code"], other.headers["content-type"]) == (4009, "application/problem+json")


async def test_what_is_appended_over_http_reaches_sockets_in_the_same_bytes(
    web: httpx.AsyncClient, node: Node, tenant: str
) -> None:
    """One road: the socket's event, the page's event and the stream's event are equal."""
    async with client(node.ws_url, token("a", tenant)) as a:
        await a.subscribe(CHANNEL)
        await say(web, "hello")
        (event,) = await a.events(1)
    page = (await web.get(EVENTS)).json()
    async with web.stream("GET", f"/v1/channels/{CHANNEL}/stream", params={"after": "0"}) as stream:
        (name, streamed) = await anext(sse(stream))

    assert page["events"] == [event]
    assert (name, streamed) == (event["id"], event)


async def sse(stream: httpx.Response) -> AsyncIterator[tuple[str, dict[str, Any]]]:
    """The stored events of a stream: id and data."""
    event_id = ""
    async for line in stream.aiter_lines():
        if line.startswith("id: "):
            event_id = line[4:]
        elif line.startswith("data: ") and event_id:
            yield event_id, json.loads(line[6:])
            event_id = ""


async def test_an_event_stream_resumes_by_last_event_id(web: httpx.AsyncClient) -> None:
    """Missed events come first, then new ones."""
    ids = [(await say(web, f"m{n}")).json()["id"] for n in range(3)]
    headers = {"Last-Event-ID": ids[0]}
    async with web.stream("GET", f"/v1/channels/{CHANNEL}/stream", headers=headers) as stream:
        events = sse(stream)
        missed = [(await anext(events))[0] for _ in range(2)]
        new = (await say(web, "new")).json()["id"]
        live = (await anext(events))[0]

    assert stream.headers["content-type"].startswith("text/event-stream")
    assert (missed, live) == (ids[1:], new)


async def test_the_silence_of_an_event_stream_is_bridged_by_comments(redis_url: str, tenant: str) -> None:
    """So that a proxy between does not take it for dead."""
    async with (
        running_node(redis_url, heartbeat_interval_s=0.2) as node,
        node.http(token("web", tenant)) as web,
        web.stream("GET", f"/v1/channels/{CHANNEL}/stream") as stream,
    ):
        comments = [line async for line in _until(stream, 2) if line.startswith(":")]

    assert len(comments) == 2


async def _until(stream: httpx.Response, comment_count: int) -> AsyncIterator[str]:
    """The lines of a stream up to so many comments."""
    async for line in stream.aiter_lines():
        yield line
        comment_count -= line.startswith(":")
        if not comment_count:
            return


async def test_a_long_poll_waits_for_the_first_event(web: httpx.AsyncClient) -> None:
    """It returns as soon as there is one, and empty-handed when the time is over."""
    seen = (await say(web, "seen")).json()["id"]
    waiting = asyncio.create_task(web.get(EVENTS, params={"after": seen, "wait_ms": 10_000}))
    empty = await web.get(EVENTS, params={"after": seen, "wait_ms": 50})
    await say(web, "news")
    page = (await waiting).json()

    assert empty.json() == {"events": [], "next": None, "gap": None}
    assert [event["payload"]["text"] for event in page["events"]] == ["news"]


async def test_history_pages_forwards_backwards_and_by_type(web: httpx.AsyncClient) -> None:
    """`next` leads on until there is nothing more, in either direction."""
    ids = [(await say(web, f"m{n}")).json()["id"] for n in range(5)]
    first = (await web.get(EVENTS, params={"limit": 2})).json()
    second = (await web.get(EVENTS, params={"limit": 2, "after": first["next"]})).json()
    third = (await web.get(EVENTS, params={"limit": 2, "after": second["next"]})).json()
    back = (await web.get(EVENTS, params={"limit": 3, "before": ids[4]})).json()
    none = (await web.get(EVENTS, params={"types": "agent.*,tool.call.start"})).json()
    some = (await web.get(EVENTS, params={"types": "chat.*", "limit": 1})).json()

    pages = [[event["id"] for event in page["events"]] for page in (first, second, third, back)]
    assert pages == [ids[:2], ids[2:4], ids[4:], ids[1:4]]
    assert (third["next"], back["next"]) == (None, ids[1])
    assert (none["events"], len(some["events"])) == ([], 1)


async def test_state_now_and_as_of_an_event(web: httpx.AsyncClient) -> None:
    """Time travel folds up to the event named, or the time."""
    first = (await say(web, "one")).json()
    await say(web, "two")
    now = (await web.get(f"/v1/channels/{CHANNEL}/state")).json()
    then = (await web.get(f"/v1/channels/{CHANNEL}/state", params={"at": first["id"]})).json()
    before = (await web.get(f"/v1/channels/{CHANNEL}/state", params={"at": "2001-01-01T00:00:00Z"})).json()
    wrong = await web.get(f"/v1/channels/{CHANNEL}/state", params={"at": "yesterday"})

    assert [message["text"] for message in now["state"]["messages"]] == ["one", "two"]
    assert ([message["text"] for message in then["state"]["messages"]], then["state_at"]) == (["one"], 1)
    assert (before["state"]["count"], wrong.status_code) == (0, 422)
    assert "presence" not in then["state"]


async def test_presence_lists_who_follows(web: httpx.AsyncClient, node: Node, tenant: str) -> None:
    """A person with two devices is one presence."""
    async with client(node.ws_url, token("a", tenant)) as one, client(node.ws_url, token("a", tenant)) as two:
        await one.subscribe(CHANNEL, presence=True)
        await one.expect("channel.presence")
        await two.subscribe(CHANNEL)
        await one.expect("channel.presence")
        found = (await web.get(f"/v1/channels/{CHANNEL}/presence")).json()

    assert found == {"presence": [{"user": "a", "status": "active", "devices": 2}]}


async def test_a_persons_inbox_is_written_by_who_may_manage_users(
    web: httpx.AsyncClient, node: Node, tenant: str
) -> None:
    """`send_to_user` over HTTP reaches every device of the person."""
    body = {"type": "team.notification", "payload": {"kind": "task", "title": "Do it"}}
    narrow = {"Authorization": f"Bearer {token('x', tenant, {'user:a': ['manage']})}"}
    async with client(node.ws_url, token("a", tenant)) as a:
        stored = await web.post("/v1/users/a/events", json=body)
        (event,) = await a.events(1)
        refused = await web.post("/v1/users/a/events", json=body, headers=narrow)

    assert (stored.status_code, event["id"]) == (201, stored.json()["id"])
    assert (refused.status_code, refused.json()["code"]) == (403, 4003)


@pytest.mark.parametrize(
    ("path", "headers", "status", "code"),
    [
        (EVENTS, {"Authorization": ""}, 401, 4001),
        (EVENTS, {"Authorization": "Bearer nonsense"}, 401, 4001),
        ("/v1/channels/room:1/events", {}, 404, 4006),
        (f"{EVENTS}?limit=0", {}, 422, 4005),
        (f"{EVENTS}?after=yesterday", {}, 422, 4005),
        (f"/v1/channels/{CHANNEL}/stream?after=x", {}, 422, 4005),
    ],
)
async def test_errors_are_problem_documents(
    web: httpx.AsyncClient, path: str, headers: dict[str, str], status: int, code: int
) -> None:
    """RFC 9457, with the socket's code and name."""
    answer = await web.get(path, headers=headers)

    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.headers["content-type"] == "application/problem+json"


async def test_append_refuses_what_the_socket_refuses(web: httpx.AsyncClient) -> None:
    """Not JSON, an unknown type, a broken payload, a bad key, a type for sockets only."""
    posts = [
        await web.post(EVENTS, content=b"{"),
        await web.post(EVENTS, json={"type": "nothing", "payload": {}}),
        await web.post(EVENTS, json={"type": "chat.message", "payload": {"text": None}}),
        await web.post(
            EVENTS, json={"type": "chat.message", "payload": {"text": "x"}}, headers={"Idempotency-Key": "a b"}
        ),
        await web.post(EVENTS, json={"type": "channel.subscribe", "payload": {"channels": []}}),
    ]

    assert [post.json()["code"] for post in posts] == [4005] * 5


async def test_health_readiness_metrics_and_documents(web: httpx.AsyncClient) -> None:
    """Health, readiness, metrics and documents, as operators use them."""
    await say(web, "counted")
    metrics = (await web.get("/metrics")).text
    asyncapi = (await web.get("/asyncapi.json")).json()

    assert (await web.get("/healthz")).json() == {"status": "ok"}
    assert (await web.get("/readyz")).json() == {"status": "ready"}
    assert 'hub_commands_total{type="chat.message"} 1.0' in metrics
    assert asyncapi["asyncapi"].startswith("3.")
    assert EVENTS.replace(CHANNEL, "{channel}") in (await web.get("/openapi.json")).json()["paths"]


@pytest.mark.parametrize("size", [1_048_600, 20_000_000])
async def test_a_body_over_the_limit_is_answered_and_not_cut_off(web: httpx.AsyncClient, size: int) -> None:
    """Whoever sends all before it reads sees the 413, with its code, and not a reset connection."""
    answer = await web.post(EVENTS, content=b'{"type":"' + b"x" * size)

    assert (answer.status_code, answer.json()["code"]) == (413, 4011)


async def test_the_connection_after_a_413_is_a_new_one(web: httpx.AsyncClient) -> None:
    """The refused connection is said to end, and the client goes on with another."""
    refused = await web.post(EVENTS, content=bytes(2_000_000))

    assert refused.headers["connection"] == "close"
    assert (await say(web, "still here")).status_code == 201


@pytest.mark.parametrize(("method", "path", "status", "code"), [
    ("GET", "/nowhere", 404, 4018), ("GET", "/v1", 404, 4018), ("GET", EVENTS + "/", 404, 4018),
    ("DELETE", EVENTS, 405, 4005), ("POST", "/healthz", 405, 4005),
])  # fmt: skip # a case a row
async def test_what_is_not_there_has_a_code_and_a_name_too(
    web: httpx.AsyncClient, method: str, path: str, status: int, code: int
) -> None:
    """Every HTTP error is a problem document with `code` and `name`; no path redirects to another."""
    answer = await web.request(method, path)

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
        httpx.AsyncClient(base_url=node.url, headers=headers, timeout=30) as web,
        web.stream("GET", path) as first,
    ):
        await anext(first.aiter_lines())
        second = await web.get(path)

    assert (second.status_code, second.json()["code"]) == (429, 4010)
    assert int(second.headers["retry-after"]) >= 1


async def test_a_poll_waits_for_the_types_it_asked_for(web: httpx.AsyncClient) -> None:
    """An event of another type does not end it; the one that was asked for does."""
    first = (await say(web, "one")).json()["id"]
    asked = {"after": first, "types": "chat.react", "wait_ms": "20000"}
    poll = asyncio.create_task(web.get(EVENTS, params=asked))
    await _followed(web)
    await say(web, "another type")
    payload = {"message_id": first, "reaction": "👍", "op": "add"}
    reaction = await web.post(EVENTS, json={"type": "chat.react", "payload": payload})
    page = (await poll).json()

    assert reaction.status_code == 201, reaction.text
    assert [event["type"] for event in page["events"]] == ["chat.react"]


async def _followed(web: httpx.AsyncClient) -> None:
    """Until somebody follows the channel: the poll's subscription stands."""
    while not (await web.get(f"/v1/channels/{CHANNEL}/presence")).json()["presence"]:
        continue


async def test_a_poll_ends_empty_when_its_time_is_over(web: httpx.AsyncClient) -> None:
    """Events of other types were there and came; none that was asked for."""
    first = (await say(web, "one")).json()["id"]
    page = (await web.get(EVENTS, params={"after": first, "types": "chat.edit", "wait_ms": 200})).json()

    assert (page["events"], page["gap"]) == ([], None)
