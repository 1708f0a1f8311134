"""Tokens with the scopes auditor and operator: what they open, what they do not, and the record of each use."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from fastapi.routing import APIRoute

from hub.http import api, channel_list, connections, inspection, local_store, proofs, rollout, service, sse
from support.nodes import Node, running_node, token
from support.socket_client import client

ROWS = re.findall(
    r"^\| `(GET|POST|PUT|DELETE) (/\S*)` \| ([^|]+) \| (yes|no) \| (yes|no) \|$",
    (Path(__file__).parents[2] / "SECURITY.md").read_text(),
    flags=re.MULTILINE,
)
ROUTERS = [
    one.router for one in (api, channel_list, connections, inspection, local_store, proofs, rollout, service, sse)
]
PATHS = {
    "{session_id}": "s-1",
    "{parked_id}": "0:1-1",
    "{channel}": "conversation:1",
    "{user}": "bob",
    "{event}": "1-1",
    "{tile:path}": "0/000",
    "{number}": "1",
    "{name}": "console.js",
    "{key:path}": "nothing",
}
BODY = {"type": "chat.message", "payload": {"text": "hello"}}


def scoped(scope: str, tenant: str, *tenants: str, user: str = "eve", grants: Any = None) -> str:
    """A token with a scope."""
    return token(user, tenant, grants or {}, scope=scope, tenants=tenants)


async def recorded(node: Node, tenant: str) -> list[dict[str, Any]]:
    """The payloads in the tenant's record, as another auditor reads them; without that read."""
    async with node.http(scoped("auditor", tenant, user="reader")) as http:
        page = (await http.get("/v1/channels/system:operators/events")).json()
    return [event["payload"] for event in page["events"] if event["actor"]["id"] != "reader"]


def test_the_table_has_every_route() -> None:
    """A route that is added must say who may call it."""
    routes = {
        (method, route.path)
        for router in ROUTERS
        for route in router.routes
        if isinstance(route, APIRoute)
        for method in route.methods
    }

    assert {(method, path) for method, path, *_ in ROWS} == routes
    assert len(ROWS) == len(routes)


async def test_each_route_answers_as_the_table_says(redis_url: str, tenant: str) -> None:
    """Without a token, without grants, as auditor and as operator: refused exactly where the table says so."""
    callers = {
        "nobody": "", "no grants": token("mallory", tenant, {}),
        "auditor": scoped("auditor", tenant), "operator": scoped("operator", tenant),
    }  # fmt: skip # a table
    told: dict[tuple[str, str], tuple[bool, ...]] = {}
    async with running_node(redis_url) as node:
        for method, path, *_ in ROWS:
            place = re.sub(r"\{[^}]+\}", lambda found: PATHS[found[0]], path)
            told[method, path] = tuple([not await is_refused(node, text, method, place) for text in callers.values()])

    expected = {
        (method, path): (
            needs in {"open", "signed"},
            needs in {"open", "signed", "a token"},
            auditor == "yes",
            operator == "yes",
        )
        for method, path, needs, auditor, operator in ROWS
        if needs != "signed"
    }
    assert {row: told[row] for row in expected} == expected


async def is_refused(node: Node, text: str, method: str, path: str) -> bool:
    """True if the caller is refused: 401 or 403."""
    body = {"sub": "bob"} if path.endswith("revocations") else BODY
    async with node.http(text) as http, http.stream(method, path, json=body if method == "POST" else None) as answer:
        return answer.status_code in {401, 403}


async def test_an_auditor_reads_everything_and_writes_nothing(redis_url: str, tenant: str) -> None:
    """Channels, other people's inboxes and channels with an access list; no event, no signal, no presence."""
    async with (
        running_node(redis_url) as node,
        client(node.ws_url, token("alice", tenant)) as alice,
        client(node.ws_url, scoped("auditor", tenant)) as eve,
    ):
        await alice.answer("chat.message", {"text": "hello"}, "conversation:1")
        await alice.answer("channel.configure", {"access": {"read": ["alice"]}}, "conversation:1")
        read = {name: await eve.answer("channel.history", {}, name) for name in ("conversation:1", "user:alice")}
        followed = await eve.answer("channel.subscribe", {"channels": ["conversation:1"]})
        wrote = [
            await eve.answer("chat.message", {"text": "no"}, "conversation:1"),
            await eve.answer("chat.typing", {"active": True}, "conversation:1"),
            await eve.answer("channel.read", {"up_to": "1-1"}, "conversation:1"),
            await eve.answer("channel.presence", {"status": "away"}, "conversation:1"),
        ]
        async with node.http(token("alice", tenant)) as http:
            there = (await http.get("/v1/channels/conversation:1/presence")).json()

    assert read["conversation:1"]["payload"]["events"][0]["type"] == "chat.message"
    assert read["user:alice"]["type"] == "channel.history"
    assert followed["type"] == "channel.subscribed"
    assert [answer["payload"]["code"] for answer in wrote] == [4003] * 4
    assert there == {"presence": []}


async def test_an_auditors_token_has_no_grants(redis_url: str, tenant: str) -> None:
    """A token that says both is refused, so that nobody believes one half of it."""
    both = scoped("auditor", tenant, grants={"conversation:*": ["write"]})
    async with running_node(redis_url) as node, node.http(both) as http:
        answer = await http.get("/v1/channels")

    assert (answer.status_code, answer.json()["code"]) == (401, 4001)
    assert answer.json()["details"][0]["field"] == "grants"


async def test_every_use_is_an_event_before_it_is_answered(redis_url: str, tenant: str) -> None:
    """HTTP requests, refused ones too, the handshake with its channels, and each command that reads."""
    async with running_node(redis_url) as node:
        async with node.http(scoped("operator", tenant)) as http:
            await http.get("/v1/channels/conversation:1/state")
            await http.get("/v1/connections")
            await http.post("/v1/channels/conversation:1/events", json=BODY)
        async with client(node.ws_url, scoped("auditor", tenant), channels=["conversation:2"]) as eve:
            await eve.answer("channel.subscribe", {"channels": ["team:a", "conversation:3"]})
            await eve.answer("channel.history", {}, "team:a")
        found = await recorded(node, tenant)

    assert found == [
        {"scope": "operator", "call": "GET /v1/channels/{channel}/state", "channels": ["conversation:1"]},
        {"scope": "operator", "call": "GET /v1/connections"},
        {"scope": "operator", "call": "POST /v1/channels/{channel}/events", "channels": ["conversation:1"]},
        {"scope": "auditor", "call": "connection.init", "channels": ["conversation:2"]},
        {"scope": "auditor", "call": "channel.subscribe", "channels": ["team:a", "conversation:3"]},
        {"scope": "auditor", "call": "channel.history", "channels": ["team:a"]},
    ]


async def test_what_cannot_be_recorded_is_refused(redis_url: str, tenant: str) -> None:
    """Above the rate of the class `operator`: 4004, and nothing is read; a token without a scope is not affected."""
    async with running_node(redis_url, rate_limits={"operator": (0.001, 2.0)}) as node:
        async with node.http(scoped("auditor", tenant)) as http:
            codes = [(await http.get("/v1/channels/conversation:1/events")).status_code for _ in range(4)]
        async with client(node.ws_url, token("alice", tenant)) as alice:
            answer = await alice.answer("channel.history", {}, "conversation:1")
        found = await recorded(node, tenant)

    assert codes == [200, 200, 429, 429]
    assert answer["type"] == "channel.history"
    assert len(found) == 2


@pytest.mark.parametrize("grants", [{"*": ["*"]}, {"system:operators": ["*"]}])
async def test_no_grant_opens_the_record(redis_url: str, tenant: str, grants: dict[str, list[str]]) -> None:
    """Neither a wildcard nor the channel's own name reads it, and nobody writes to it."""
    async with running_node(redis_url) as node, client(node.ws_url, token("root", tenant, grants)) as root:
        read = await root.answer("channel.history", {}, "system:operators")
        wrote = await root.answer("file.upload.request", {}, "system:operators")
        async with node.http(scoped("operator", tenant, grants=grants)) as http:
            posted = await http.post("/v1/channels/system:operators/events", json=BODY)

    assert read["payload"]["code"] == 4003
    assert wrote["payload"]["code"] in {4003, 4005}
    assert posted.status_code in {403, 422}


async def test_other_tenants_are_read_if_the_token_lists_them(redis_url: str, tenant: str) -> None:
    """Read with `?tenant=`, never written; the record is in the tenant that was read and names the reader's own."""
    other, third = f"{tenant}-b", f"{tenant}-c"
    both = scoped("operator", tenant, other, grants={"*": ["*"]})
    async with running_node(redis_url) as node:
        async with client(node.ws_url, token("bob", other)) as bob:
            await bob.answer("chat.message", {"text": "of b"}, "conversation:1")
        async with node.http(both) as http:
            path = "/v1/channels/conversation:1/events"
            page = (await http.get(f"{path}?tenant={other}")).json()
            codes = [
                (await http.post(f"{path}?tenant={other}", json=BODY)).status_code,
                (await http.get(f"{path}?tenant={third}")).status_code,
            ]
            listed = (await http.get(f"/v1/channels?tenant={other}&kind=conversation")).json()
        found = await recorded(node, other)

    assert [event["payload"]["text"] for event in page["events"]] == ["of b"]
    assert codes == [403, 403]
    assert [one["channel"] for one in listed["channels"]] == ["conversation:1"]
    assert {payload["tenant"] for payload in found} == {tenant}


async def test_channels_are_listed_page_by_page_as_far_as_the_token_reads(redis_url: str, tenant: str) -> None:
    """Every channel once, whatever the size of the pages; nothing that grants or access lists forbid."""
    names = ["conversation:a", "conversation:b", "team:a", "team:b", "document:x"]
    async with running_node(redis_url) as node, client(node.ws_url, token("alice", tenant)) as alice:
        for name in names:
            await alice.answer("channel.configure", {"metadata": {"a": 1}}, name)
        await alice.answer("channel.configure", {"access": {"read": ["alice"]}}, "team:b")
        pages: dict[str, list[str]] = {}
        for who, text in (
            ("auditor", scoped("auditor", tenant)),
            ("bob", token("bob", tenant, {"team:*": ["read"], "document:*": ["write"]})),
        ):
            async with node.http(text) as http:
                pages[who] = await all_pages(http, limit=2)

    assert [name for name in pages["auditor"] if not name.startswith("system:")] == sorted(
        names, key=lambda name: (["conversation", "team", "document"].index(name.partition(":")[0]), name)
    )
    assert pages["bob"] == ["team:a"]


async def all_pages(http: Any, limit: int) -> list[str]:
    """The names on all pages."""
    found, after = [], ""
    while after is not None:
        page = (await http.get(f"/v1/channels?limit={limit}&after={after}")).json()
        found += [one["channel"] for one in page["channels"]]
        after = page["next"]
    return found


async def test_connections_are_listed_for_the_own_tenant(redis_url: str, tenant: str) -> None:
    """Users, their channels and the time since they connected; another tenant's are not there."""
    async with (
        running_node(redis_url) as node,
        client(node.ws_url, token("alice", tenant), channels=["conversation:1"]) as alice,
        client(node.ws_url, token("bob", f"{tenant}-b")),
        node.http(scoped("operator", tenant)) as http,
    ):
        await alice.answer("channel.history", {}, "conversation:1")
        told = (await http.get("/v1/connections")).json()

    assert [(one["user"], sorted(one["channels"])) for one in told["connections"]] == [
        ("alice", ["conversation:1", "user:alice"])
    ]


async def test_connections_with_many_channels_are_paid_for(
    redis_url: str, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once enough channels are shown, further connections are only counted; what was shown delays the next request."""
    monkeypatch.setattr(connections, "SHOWN_CHANNELS_MAX", 2)
    monkeypatch.setattr(connections, "PER_COMMAND", 0.01)
    async with (
        running_node(redis_url, rate_limits={}) as node,
        client(node.ws_url, token("alice", tenant), channels=["conversation:1"]) as alice,
        client(node.ws_url, token("bob", tenant)) as bob,
        node.http(scoped("operator", tenant)) as http,
    ):
        await alice.answer("channel.history", {}, "conversation:1")
        await bob.answer("channel.history", {}, "user:bob")
        told = (await http.get("/v1/connections")).json()
        again = await http.get("/v1/connections")

    assert (told["total"], [one["user"] for one in told["connections"]]) == (2, ["alice"])
    assert (again.status_code, again.json()["code"]) == (429, 4004)
