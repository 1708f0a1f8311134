"""Every event of the catalogue over a real socket: accepted as declared, refused with its code, replayed as it was live.

The events are read from the catalogue: one without a case fails here.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any, NamedTuple

import pytest
import pytest_asyncio

from consumers.handlers.files import FileReactions
from consumers.worker import running
from hub.uploads.finishing import UploadFinisher
from hub.uploads.limits import UploadLimits
from hub.uploads.verification import NoScanner
from streams.channel import Kind
from streams.envelope import Lane
from streams.events import CATALOGUE, Action, EventType
from streams.redis.log import Log
from support.event_cases import CASES, OWNER, Stage, agent
from support.hub_frames import frames_of, problems_of
from support.nodes import Node, running_node, token
from support.payloads import broken_payloads, valid_payloads
from support.run_rig import options
from support.socket_client import SocketClient, client, raw_client
from support.socket_rules import socket_violations
from support.stream_rules import lines_of, log_violations

pytestmark = pytest.mark.asyncio(loop_scope="module")
Json = dict[str, Any]
HANDSHAKES = {"connection.init", "connection.reconnect"}
SERVED = {name: row for name, row in CATALOGUE.items() if row.is_inbound and row.is_served}
COMMANDS = [pytest.param(row, id=name) for name, row in SERVED.items() if name not in HANDSHAKES]
STORED = [pytest.param(row, id=name) for name, row in SERVED.items() if row.is_stored]

OTHERS: Mapping[str, Json] = {
    "file.upload.request": {"filename": "b.bin", "size": 4, "mime": "text/plain"},
    "agent.invoke": {"input": "other"},
}
"""Valid payloads that are not the case's, where the least one would be refused for what it says."""


class Hub(NamedTuple):
    """A node, and a worker beside it."""

    node: Node
    log: Log


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def hub(redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Hub]:
    """For the whole file: what a test is about is its tenant's alone."""
    log = await Log.open(redis_url)
    async with running_node(redis_url, data_dir=str(tmp_path_factory.mktemp("files"))) as node:
        uploads = node.hub.uploads
        assert uploads is not None
        files = FileReactions(UploadFinisher(log, uploads.store, UploadLimits(), NoScanner(), time.time))
        async with running(options(redis_url, {"a": agent}, handlers=(files,)), log):
            yield Hub(node, log)
    await log.close()


@contextlib.asynccontextmanager
async def staged(hub: Hub, tenant: str) -> AsyncIterator[Stage]:
    """The owner is connected; what still runs at the end is stopped."""
    async with client(hub.node.ws_url, token(OWNER, tenant)) as owner:
        stage = Stage(hub.node, tenant, owner)
        yield stage
        await stage.close()


async def logs_of(log: Log, tenant: str) -> dict[str, list[str]]:
    """Every channel of the tenant, whole."""
    found = {}
    async for key in log.redis.scan_iter(match=f"hub:*:{tenant}:*:meta", count=1000):
        channel = log.keys.channel_of(key.removesuffix(b":meta"))
        if entries := await log.page(channel, limit=1000):
            found[channel.wire] = lines_of(channel, entries)
    return found


async def test_every_event_a_client_may_send_has_a_case() -> None:
    """Whoever adds an event says here how it is accepted."""
    assert set(CASES) | HANDSHAKES == set(SERVED)


@pytest.mark.parametrize("row", COMMANDS)
async def test_a_valid_event_is_answered_and_delivered_as_declared(hub: Hub, tenant: str, row: EventType) -> None:
    """The declared reply with the declared results; to subscribers its own event or signal; every frame of the catalogue."""
    case = CASES[row.name]
    async with staged(hub, tenant) as stage, client(hub.node.ws_url, token("witness", tenant)) as witness:
        if case.channel is not None:
            for socket in (stage.owner, witness):
                await socket.subscribe(case.channel, after="0", presence=True)
        payload = await case.prepare(stage, case.channel or "")

        reply = await stage.owner.answer(row.name, payload, case.channel)

        assert reply["type"] == row.reply, reply
        assert set(row.results) <= reply["payload"].keys()
        if row.lane is not Lane.CONNECTION:
            delivered = await delivery(witness, row, reply)
            assert delivered["actor"] == {"kind": "user", "id": OWNER, **client_of(delivered)}
        logs = await logs_of(hub.log, tenant)
        assert socket_violations(stage.owner.raw, stage.owner.sent, logs, tenant, is_quiet=False) == []
        assert socket_violations(witness.raw, witness.sent, logs, tenant, is_quiet=False) == []
    assert log_violations(await logs_of(hub.log, tenant), tenant, is_quiet=False) == []


async def delivery(witness: SocketClient, row: EventType, reply: Json) -> Json:
    """The command as its subscribers get it."""
    if row.is_stored:
        return await witness.expect(row.name, id=reply["payload"]["id"])
    while True:  # presence also tells who joined
        frame = await witness.expect(row.name)
        if frame["actor"]["kind"] == "user" and frame["payload"].get("user") == OWNER:
            return frame


def client_of(event: Json) -> Json:
    return {"client": event["actor"]["client"]} if "client" in event["actor"] else {}


@pytest.mark.parametrize("row", STORED)
async def test_a_stored_event_is_stored_once_and_replayed_as_it_was(hub: Hub, tenant: str, row: EventType) -> None:
    """Sent again it is answered again and stored once; with another body it is 4009; replayed it is the same bytes."""
    case = CASES[row.name]
    assert case.channel is not None
    async with staged(hub, tenant) as stage, client(hub.node.ws_url, token("reader", tenant)) as reader:
        await stage.owner.subscribe(case.channel, after="0")
        payload = await case.prepare(stage, case.channel)

        first = await stage.owner.answer(row.name, payload, case.channel)
        live = await raw_of(stage.owner, first["payload"]["id"])
        again = await repeated(stage.owner, first["re"], row.name, payload, case.channel)
        other = await repeated(
            stage.owner, first["re"], row.name, OTHERS.get(row.name, other_payload(row)), case.channel
        )
        await reader.subscribe(case.channel, after="0")

        assert again["type"] == row.reply
        same = {"id", "seq", "durability", *row.results} - {"unread"}
        assert {k: again["payload"].get(k) for k in same} == {k: first["payload"].get(k) for k in same}
        assert (first["payload"]["duplicate"], again["payload"]["duplicate"]) == (False, True)
        assert other["payload"]["code"] == 4009, other
        assert await raw_of(reader, first["payload"]["id"]) == live
        lines = (await logs_of(hub.log, tenant))[case.channel]
        assert lines.count(live) == 1
        assert len([line for line in lines if json.loads(line)["meta"].get("command") == first["re"]]) == 1


async def raw_of(socket: SocketClient, event_id: str) -> str:
    """The bytes in which a socket gets an event."""
    while True:
        for text in socket.raw:
            for frame in frames_of(text):
                if json.loads(frame).get("id") == event_id:
                    return frame
        await socket.next()


async def repeated(socket: SocketClient, id_: str, type_: str, payload: Json, channel: str) -> Json:
    """The answer to a command that has the id of another."""
    await socket.send(type_, payload, channel, id_)
    while (frame := await socket.next()).get("re") != id_:
        pass
    return frame


def other_payload(row: EventType) -> Json:
    """A payload that is valid by itself."""
    return dict(next(iter(valid_payloads(row))).payload)


class Sent(NamedTuple):
    """A frame that is refused, and with which code."""

    name: str
    code: int
    frame: Json


def refused_frames(row: EventType) -> Iterator[Sent]:
    """Every broken payload, every wrong place. The unreadable ones (a lone surrogate is no JSON) never come in a row."""
    channel = place_of(row)
    readable: Json | None = None
    for case in broken_payloads(row):
        frame = {"type": row.name, "payload": case.payload} | ({"channel": channel} if channel else {})
        yield Sent(case.name, 4005, frame)
        if "surrogate" not in case.name:
            readable = frame
        elif readable is not None:
            yield Sent("in between", 4005, readable)
    payload = other_payload(row)
    for kind in set(Kind) - row.kinds:
        yield Sent(f"in a {kind.value}", 4005, {"type": row.name, "channel": f"{kind.value}:x", "payload": payload})
    if row.kinds:
        yield Sent("without a channel", 4005, {"type": row.name, "payload": payload})
        yield Sent("in a room", 4006, {"type": row.name, "channel": "room:1", "payload": payload})
        yield Sent("in a channel of no name", 4006, {"type": row.name, "channel": "team:a/b", "payload": payload})


def place_of(row: EventType) -> str | None:
    """A channel the event may be sent to; an inbox only where it must be one: the sender's own."""
    kinds = sorted(kind.value for kind in row.kinds)
    return None if not kinds else f"user:{OWNER}" if kinds == ["user"] else f"{kinds[0]}:x"


@pytest.mark.parametrize("row", COMMANDS)
async def test_what_is_not_as_declared_gets_its_code_and_changes_nothing(hub: Hub, tenant: str, row: EventType) -> None:
    """Each field missing, null, of another type, beyond its limit; unknown fields; wrong channels: nothing is stored."""
    frames = list(refused_frames(row))
    async with client(hub.node.ws_url, token(OWNER, tenant)) as owner:
        codes = await codes_of(owner, row.name, [sent.frame for sent in frames])

    wrong = {sent.name: code for sent, code in zip(frames, codes, strict=True) if code != sent.code}
    assert wrong == {}
    assert await logs_of(hub.log, tenant) == {}


@pytest.mark.parametrize("row", [param for param in COMMANDS if param.values[0].action is not None])
async def test_who_may_not_gets_4003_and_changes_nothing(hub: Hub, tenant: str, row: EventType) -> None:
    """Whatever else a token allows, in every kind of channel the event has: the one action is missing."""
    others = [action.value for action in Action if action is not row.action]
    grants = {f"{kind.value}:*": others for kind in Kind}
    payload = other_payload(row)
    frames = [{"type": row.name, "channel": f"{kind.value}:x", "payload": payload} for kind in row.kinds]
    if not row.kinds:
        frames = [{"type": row.name, "payload": {"channels": [f"{kind.value}:x"]}} for kind in Kind]
    async with client(hub.node.ws_url, token("nobody", tenant, grants)) as nobody:
        codes = await codes_of(nobody, row.name, frames)

    assert set(codes) == {4003}
    assert await logs_of(hub.log, tenant) == {}


async def codes_of(socket: SocketClient, type_: str, frames: list[Json]) -> list[int | str]:
    """Send them all, and the code of the one answer that each gets; its type where that is no error."""
    texts = {f"b{number}": json.dumps({"id": f"b{number}", **frame}) for number, frame in enumerate(frames)}
    answers, _ = await asyncio.gather(answers_to(socket, set(texts)), send_all(socket, texts))
    commands = dict.fromkeys(texts, type_)
    assert [problem for frame in socket.seen[2:] for problem in problems_of(frame, commands)] == []
    return [answers[id_]["payload"].get("code", answers[id_]["type"]) for id_ in texts]


async def send_all(socket: SocketClient, texts: Mapping[str, str]) -> None:
    for text in texts.values():
        await socket.send_raw(text)


async def answers_to(socket: SocketClient, ids: set[str]) -> dict[str, Json]:
    """One answer to each; two to one are an error."""
    answers: dict[str, Json] = {}
    while answers.keys() != ids:
        frame = await socket.next()
        if "re" in frame:
            assert frame["re"] not in answers, frame
            answers[frame["re"]] = frame
    return answers


@pytest.mark.parametrize("name", sorted(HANDSHAKES))
async def test_a_handshake_is_checked_field_by_field(hub: Hub, tenant: str, name: str) -> None:
    """Every broken one is 4005 and leaves the socket open for a right one, which `connection.ack` answers."""
    row = SERVED[name]
    broken = [{"type": name, "payload": case.payload} for case in broken_payloads(row)]
    unreadable = [frame for frame in broken if "\\ud800" in json.dumps(frame)]
    readable = [frame for frame in broken if frame not in unreadable]
    assert len(readable) >= len(unreadable)
    mixed = [frame for pair in zip(readable, unreadable, strict=False) for frame in pair] + readable[len(unreadable) :]
    right = {"token": token("a", tenant), "versions": [1]} | ({"cursors": {}} if name == "connection.reconnect" else {})
    async with raw_client(hub.node.ws_url) as socket:
        texts = {f"b{number}": json.dumps({"id": f"b{number}", **frame}) for number, frame in enumerate(mixed)}
        answers, _ = await asyncio.gather(answers_to(socket, set(texts)), send_all(socket, texts))
        ack = await socket.answer(name, {**right, "from_the_future": 1})

    assert {answer["payload"]["code"] for answer in answers.values()} == {4005}
    assert ack["type"] == row.reply == "connection.ack"
    assert [p for frame in socket.seen for p in problems_of(frame, dict.fromkeys([*texts, ack["re"]], name))] == []


async def test_what_clients_may_not_send_is_an_unknown_type(hub: Hub, tenant: str) -> None:
    """The hub's own events, those that are not served yet, and nonsense: 4005, nothing stored."""
    names = [name for name, row in CATALOGUE.items() if name not in SERVED] + ["chat.nonsense", "", "__proto__"]
    frames = [{"type": name, "channel": "conversation:x", "payload": {}} for name in names]
    async with client(hub.node.ws_url, token(OWNER, tenant)) as owner:
        codes = await codes_of(owner, "", frames)

    assert set(codes) == {4005}
    assert await logs_of(hub.log, tenant) == {}
