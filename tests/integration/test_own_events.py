"""Own events over sockets and HTTP: bounded and charged as all else; their schemas, handlers and projections."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from consumers.handlers.own import load_handlers
from consumers.worker import running
from hub.app import create_app
from hub.node import states
from hub.readers import NamedObject
from streams.channel import Kind, parse_channel
from streams.cursor import START
from streams.envelope import SYSTEM, Draft
from streams.events.custom import SchemasRefused, read_schemas
from streams.events.declaration import ALL_KINDS
from streams.import_paths import ImportRefused
from streams.redis.groups import Groups
from streams.redis.log import Log
from support.nodes import Node, running_node, settings, token
from support.own_events import CONFIRMED, PLACED
from support.redis_server import RedisServer
from support.run_rig import options
from support.socket_client import SocketClient, client

Json = dict[str, Any]
PAYLOAD: Json = {"order": "7", "items": [{"sku": "a", "qty": 2.5}], "": None, "model_config": True, "é\0": [[], {}]}
PROJECTIONS = (
    NamedObject("orders", "support.own_events", "orders"),
    NamedObject("count", "support.own_events", "count"),
)
SCHEMA: Json = {
    "type": "object",
    "description": "An order.",
    "properties": {"order": {"type": "string"}, "lines": {"type": "array", "items": {"$ref": "#/$defs/line"}}},
    "required": ["order"],
    "$defs": {"line": {"type": "object", "properties": {"qty": {"type": "integer", "minimum": 1}}}},
}


async def place(socket: SocketClient, channel: str, payload: Json, type_: str = PLACED) -> Json:
    """The reply to an order."""
    return await socket.answer(type_, payload, channel)


@pytest.mark.parametrize("kind", sorted(ALL_KINDS))
async def test_it_is_stored_told_and_replayed_in_every_kind_of_channel(node: Node, tenant: str, kind: Kind) -> None:
    """The same bytes live and replayed, the payload as it was sent, and the state as before but for the count."""
    channel = f"{kind.value}:a"
    async with client(node.ws_url, token("a", tenant)) as a, client(node.ws_url, token("b", tenant)) as b:
        await b.subscribe(channel)
        before = (await a.answer("channel.state", {}, channel))["payload"]["state"]
        stored = await place(a, channel, PAYLOAD)
        (live,) = await b.events(1)
        await b.subscribe(channel, after="0")
        (replayed,) = await b.events(1)
        after = (await a.answer("channel.state", {}, channel))["payload"]["state"]
        found = await b.answer("channel.history", {"types": ["custom.*"]}, channel)

    assert stored["type"] == "ack"
    assert live == replayed == found["payload"]["events"][0]
    assert (live["type"], live["v"], live["payload"], live["actor"]["id"]) == (PLACED, 1, PAYLOAD, "a")
    assert list(live["payload"]) == list(PAYLOAD)
    assert after | {"presence": []} == before | {"count": 1, "presence": []}


async def test_it_is_refused_as_any_other(node: Node, tenant: str) -> None:
    """Name, channel, permission, shape, size; and the same id is answered once."""
    reader = token("r", tenant, {"team:*": ["read", "invoke", "upload", "manage"]})
    async with client(node.ws_url, token("a", tenant)) as a, client(node.ws_url, reader) as r:
        codes = [
            (await place(a, "team:1", {}, "custom.Order"))["payload"]["code"],
            (await a.answer(PLACED, {}))["payload"]["code"],
            (await place(a, "system:operators", {}))["payload"]["code"],
            (await place(r, "team:1", {}))["payload"]["code"],
            (await place(a, "team:1", {"n": 2**64}))["payload"]["code"],
            (await place(a, "team:1", {"text": "x" * 65_536}))["payload"]["code"],
        ]
        again = []
        for order in ("1", "1", "2"):
            await a.send(PLACED, {"order": order}, "team:1", "same")
            again.append((await a.next())["payload"])
        metrics = node.hub.metrics.commands_in

    assert codes == [4005, 4005, 4005, 4003, 4005, 4011]
    assert ([one.get("seq") for one in again], again[1]["duplicate"], again[2]["code"]) == ([1, 1, None], True, 4009)
    assert [name for name in metrics if name.startswith("custom")] == ["custom.*"]


async def test_it_is_limited_and_charged(redis_url: str, tenant: str) -> None:
    """By the rate of commands and by the tenant's quota."""
    async with (
        running_node(redis_url, rate_limits={"command": (0.001, 2)}) as node,
        client(node.ws_url, token("a", tenant)) as a,
    ):
        codes = [(await place(a, "team:1", {}, f"custom.t{n}"))["payload"].get("code") for n in range(4)]
    async with (
        running_node(redis_url, quota_bytes_stored=8_000) as node,
        client(node.ws_url, token("a", f"{tenant}q")) as a,
    ):
        charged = [(await place(a, "team:1", {"text": "x" * 3_000}))["payload"].get("code") for _ in range(3)]

    assert codes == [None, None, 4004, 4004]
    assert charged[0] is None
    assert charged[-1] == 4011


async def test_over_http_and_told_by_the_hub_itself(node: Node, tenant: str) -> None:
    """201 with its place; `broadcast` and `send_to_user` take it, too."""
    async with node.http(token("a", tenant)) as http:
        url = "/v1/channels/document:1/events"
        posted = await http.post(url, json={"type": PLACED, "payload": PAYLOAD})
        read = (await http.get(url, params={"types": PLACED})).json()["events"]
    told = await node.hub.broadcast(parse_channel(tenant, "document:1"), PLACED, PAYLOAD)
    inbox = await node.hub.send_to_user(tenant, "a", "custom.told", {})

    assert (posted.status_code, posted.json()["seq"]) == (201, 1)
    assert [event["payload"] for event in read] == [PAYLOAD]
    assert (told.seq, inbox.seq) == (2, 1)


# Schemas


def schemas(folder: Path, **files: Json) -> Path:
    """A folder with these schemas; `__` in a name is a dot."""
    folder.mkdir()
    for name, document in files.items():
        (folder / f"custom.{name.replace('__', '.')}.json").write_text(json.dumps(document))
    return folder


async def test_with_schemas_it_is_held_to_the_newest(redis_url: str, tenant: str, tmp_path: Path) -> None:
    """Refused with the path and the schema's own words; published in /asyncapi.json; nobody but those with a schema is known."""
    old: Json = {"type": "object"}
    folder = schemas(tmp_path / "s", order_placed__v1=old, order_placed__v2=SCHEMA, other__v1=old)
    (folder / "README.md").write_text("passed over")
    async with running_node(redis_url, event_schemas=str(folder)) as node:
        async with client(node.ws_url, token("a", tenant)) as a:
            refused = await place(a, "team:1", {"order": "1", "lines": [{"qty": 1}, {"qty": "SECRET"}]})
            unknown = await place(a, "team:1", {}, "custom.unknown")
            await a.subscribe("team:1")
            await place(a, "team:1", {"order": "1", "lines": [{"qty": 1, "more": 1}]})
            (stored,) = await a.events(1)
        async with node.http() as http:
            document = (await http.get("/asyncapi.json")).json()

    assert refused["payload"]["code"] == unknown["payload"]["code"] == 4005
    assert refused["payload"]["details"] == [
        {"field": "lines.1.qty", "problem": 'must match `type: "integer"` of its schema'}
    ]
    assert "SECRET" not in json.dumps(refused)
    assert stored["v"] == 2
    shown, messages = document["components"]["schemas"][PLACED], document["components"]["messages"]
    assert shown["properties"]["lines"]["items"] == {"$ref": f"#/components/schemas/{PLACED}/$defs/line"}
    assert messages[f"{PLACED}-event"]["payload"]["properties"]["v"] == {"const": 2}
    assert messages[f"{PLACED}-command"]["payload"]["required"] == ["type", "id", "channel", "payload"]
    assert {name for name in messages if name.startswith("custom.")} == {
        f"custom.{name}-{form}" for name in ("order_placed", "other") for form in ("command", "event")
    }


async def test_without_schemas_one_row_stands_for_all(node: Node) -> None:
    """Its type is a pattern."""
    async with node.http() as http:
        document = (await http.get("/asyncapi.json")).json()
    message = document["components"]["messages"]["custom.*-event"]["payload"]["properties"]

    assert message["type"]["pattern"].startswith("^custom")
    assert document["components"]["schemas"]["custom.*"]["additionalProperties"] is True


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("order.v1.json", "{}", "must be named like"),
        ("custom.a.json", "{}", "must be named like"),
        ("custom.a.v1.json", "{", "custom.a.v1.json: "),
        ("custom.a.v1.json", "[]", "is not an object"),
        ("custom.a.v1.json", '{"$ref": "http://127.0.0.1:9/x"}', "nothing outside the file"),
        ("custom.a.v1.json", '{"type": "nonsense"}', "is not a JSON Schema"),
        ("custom.a.v1.json", " " * 262_145, "has more than"),
    ],
)
def test_a_folder_that_cannot_be_used_is_refused(tmp_path: Path, name: str, text: str, told: str) -> None:
    """With the file and the reason."""
    (tmp_path / name).write_text(text)
    with pytest.raises(SchemasRefused, match=told):
        read_schemas(tmp_path)


def test_commands_refuse_what_cannot_be_used(
    command_line: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, redis_url: str
) -> None:
    """One line, exit code 2, before anything is served."""
    monkeypatch.setenv("HUB_DATA", str(tmp_path))
    monkeypatch.setenv("REDIS_URL", redis_url)
    monkeypatch.setenv("HUB_JWT_SECRET", "s" * 32)
    for command, name, value, told in (
        ("serve", "HUB_EVENT_SCHEMAS", "/nowhere", "HUB_EVENT_SCHEMAS: /nowhere cannot be read"),
        ("serve", "HUB_PROJECTIONS", "a=support.own_events:confirm", "below `@projects"),
        ("serve", "HUB_PROJECTIONS", "a=no_such:thing", "no_such:thing cannot be imported"),
        ("worker", "HUB_HANDLERS", "a=support.own_events:orders", "below `@reacts_to"),
        ("worker", "HUB_HANDLERS", "a=support.own_events:nosy", "chat.message is not a custom event type"),
        ("worker", "HUB_EVENT_SCHEMAS", "/nowhere", "HUB_EVENT_SCHEMAS: /nowhere cannot be read"),
    ):
        with monkeypatch.context() as given:
            given.setenv(name, value)
            code, _, err = command_line(command, *(("--port", "0") if command == "serve" else ()))
        assert (code, told in err) == (2, True), err


async def test_an_application_refuses_a_folder_as_it_begins(redis_url: str) -> None:
    """A node that took everything instead would store what nobody wants."""
    app = create_app(settings(redis_url, event_schemas="/nowhere"))
    with pytest.raises(SchemasRefused):
        async with app.router.lifespan_context(app):
            pass
    app = create_app(settings(redis_url, projections=(NamedObject("a", "support.own_events", "confirm"),)))
    with pytest.raises(ImportRefused):
        async with app.router.lifespan_context(app):
            pass


# Projections


@pytest.fixture
async def projecting(redis_url: str) -> AsyncIterator[Node]:
    """A node with custom projections."""
    async with running_node(redis_url, projections=PROJECTIONS) as node:
        yield node


async def test_a_projection_is_shown_in_the_state(projecting: Node, tenant: str) -> None:
    """To who subscribes, who asks, and who asks for the past; only where it belongs, and beside what is built in."""
    async with client(projecting.ws_url, token("a", tenant)) as a:
        await a.say("conversation:1", "hello")
        first = await place(a, "conversation:1", {"order": "1"})
        await place(a, "conversation:1", {"order": "2"})
        await place(a, "conversation:1", {"no order": 1})  # the function fails: nothing changes in its state
        await place(a, "conversation:1", {"order": "1"}, CONFIRMED)
        subscribed = (await a.subscribe("conversation:1"))["state"]
        asked = (await a.answer("channel.state", {}, "conversation:1"))["payload"]["state"]
        await place(a, "team:1", {"order": "3"})
        team = (await a.answer("channel.state", {}, "team:1"))["payload"]["state"]
        empty = (await a.answer("channel.state", {}, "conversation:2"))["payload"]["state"]
    async with projecting.http(token("a", tenant)) as http:
        at = first["payload"]["id"]
        past = (await http.get("/v1/channels/conversation:1/state", params={"at": at})).json()["state"]

    assert (
        subscribed["custom"]
        == asked["custom"]
        == {
            "orders": {"1": "confirmed", "2": "placed"},
            "count": {"chat.message": 1, PLACED: 3},
        }
    )
    assert (subscribed["count"], len(subscribed["messages"])) == (5, 1)
    assert past["custom"]["orders"] == {"1": "placed"}
    assert team["custom"] == {"count": {PLACED: 1}}
    assert empty["custom"] == {"orders": {}, "count": {}}


async def test_a_projection_that_is_new_is_made_up_for(
    redis_url: str, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The snapshot of a node without it stays of use: what is built in comes from there, its own state from the log."""
    monkeypatch.setattr(states, "SNAPSHOT_EVERY_EVENTS", 3)
    channel = "conversation:1"

    async def state_of(node: Node) -> Json:
        async with client(node.ws_url, token("a", tenant)) as a:
            found: Json = (await a.answer("channel.state", {}, channel))["payload"]["state"]
            return found

    async with running_node(redis_url) as node:
        async with client(node.ws_url, token("a", tenant)) as a:
            for number in range(4):
                await place(a, channel, {"order": str(number)})
        without = await state_of(node)
    for user in ("b", "c"):  # the second time from a snapshot that has it
        async with running_node(redis_url, projections=PROJECTIONS) as node:
            shown = await state_of(node)
            async with client(node.ws_url, token(user, tenant)) as other:
                for _ in range(3):
                    await place(other, channel, {"order": "9"})
            await state_of(node)
    async with running_node(redis_url) as node:
        plain = await state_of(node)

    assert "custom" not in without
    assert shown["custom"]["count"] == {PLACED: 7}
    assert plain["count"] == 10
    assert "custom" not in plain


# Handlers


async def events_of(log: Log, tenant: str, wire: str) -> list[tuple[str, Json]]:
    """The types and payloads of a channel."""
    page = await log.page(parse_channel(tenant, wire), START)
    return [(entry.type.decode(), entry.payload) for entry in page]


async def test_a_handler_reacts_once_and_parks_what_it_cannot_read(
    node: Node, log: Log, redis_url: str, tenant: str
) -> None:
    """The effect names its cause; a second worker with the same handler adds nothing."""
    (confirm,) = load_handlers({f"c-{tenant}": "support.own_events:confirm"})
    async with (
        running(options(redis_url, {}, handlers=(confirm,))),
        running(options(redis_url, {}, handlers=(confirm,))),
        client(node.ws_url, token("a", tenant)) as a,
    ):
        await a.subscribe("team:1")
        await place(a, "team:1", {"order": "7"})
        follows = await a.expect(CONFIRMED)
        await place(a, "team:1", {"none": 1})
        await place(a, "team:1", {"order": "8"})
        await a.event(CONFIRMED, order="8")
    parked = [one for one in await Groups(log).parked(confirm.name) if one.path.startswith(tenant)]

    assert (follows["type"], follows["payload"], follows["actor"]["kind"]) == (CONFIRMED, {"order": "7"}, "system")
    assert follows["meta"]["causation"]
    assert [type_ for type_, _ in await events_of(log, tenant, "team:1")].count(CONFIRMED) == 2
    assert [one.reason for one in parked] == ["an order has a number"]


async def test_a_handlers_effect_is_held_to_its_schema(
    node: Node, log: Log, redis_url: str, tenant: str, tmp_path: Path
) -> None:
    """An effect that breaks it is not stored, and its event is parked."""
    wrong: Json = {"type": "object", "properties": {"order": {"type": "integer"}}}
    own = read_schemas(schemas(tmp_path / "s", order_confirmed__v1=wrong))
    (confirm,) = load_handlers({f"s-{tenant}": "support.own_events:confirm"})
    async with (
        running(options(redis_url, {}, handlers=(confirm,), own_events=own)),
        client(node.ws_url, token("a", tenant)) as a,
    ):
        await place(a, "team:1", {"order": "7"})
        while not await Groups(log).parked(confirm.name):  # noqa: ASYNC110 - a worker has no event for it
            await asyncio.sleep(0)
    (parked,) = await Groups(log).parked(confirm.name)

    assert 'order must match `type: "integer"` of its schema' in parked.reason
    assert [type_ for type_, _ in await events_of(log, tenant, "team:1")] == [PLACED]


async def test_a_handler_may_begin_with_what_is_stored(node: Node, redis_url: str, tenant: str) -> None:
    """Every order from before it was there, once."""
    (mark,) = load_handlers({f"m-{tenant}": "support.own_events:mark"})
    async with client(node.ws_url, token("a", tenant)) as a:
        stored = (await place(a, "team:1", {"order": "7"}))["payload"]["id"]
        await a.subscribe("team:1")
        async with running(options(redis_url, {}, handlers=(mark,))):
            (marked,) = await a.events(1)

    assert marked["payload"] == {"event": stored}


async def test_a_handler_that_is_gone_does_not_hold_the_work_for_ever(own_log: Log, tenant: str) -> None:
    """Its group ends when work has waited for it for long; a built-in one never does. Who comes back begins with what is there."""
    groups, channel = Groups(own_log), parse_channel(tenant, "team:1")
    partition, calls = channel.partition_of(own_log.keys.partitions), own_log.own_calls("read")
    for name in ("own-read", "own-unread", "chat"):
        await groups.ensure(partition, name)
    await own_log.append(Draft(channel, PLACED, b"{}", SYSTEM, is_wanted=True))
    for name in ("own-read", "chat"):
        assert await groups.read(calls, name, "w", [partition], limit=10, block_ms=100)

    async def names() -> set[str]:
        raw = await own_log.calls_in(partition).call("XINFO", "GROUPS", own_log.keys.work(partition))
        return {row[1].decode() for row in raw}

    await groups.trim(partition)
    at_first = await names()
    await groups.trim(partition, -1_000)  # work of this moment has waited for as long
    later = await names()
    await groups.ensure(partition, "own-read")
    again = await groups.read(calls, "own-read", "w", [partition], limit=10, block_ms=100)
    calls.close()

    assert at_first == {"own-read", "own-unread", "chat"}
    assert later == {"chat"}
    assert [work.type for work in again] == [PLACED]


@pytest.fixture
async def own_log(own_redis: RedisServer) -> AsyncIterator[Log]:
    """A log of this test's alone."""
    log = await Log.open(own_redis.url)
    yield log
    await log.close()
