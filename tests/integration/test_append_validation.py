"""Whatever is appended passes the catalogue, whoever appends it; what does not is refused, and nothing is stored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from consumers.groups.handler import Effects, Source
from consumers.handlers.teams import TeamReactions
from streams.channel import parse_channel
from streams.envelope import Actor, Draft
from streams.events.validation import InvalidPayload
from streams.json_bytes import to_json
from streams.redis.log import Log
from support.consumer_rig import Recorder, Rig, conversation, say
from support.nodes import Node, token
from support.socket_client import SocketClient, client
from support.until import until
from support.uploads import CHANNEL, bring_single, complete, file_hub, request, some_bytes, uploader

BAD: dict[str, tuple[str, str, dict[str, Any]]] = {
    "an unknown type": ("conversation:1", "order.placed", {"order": 1}),
    "a field the type does not have": ("conversation:1", "chat.message", {"wrong": 1}),
    "a kind of channel the type is not for": ("document:1", "chat.message", {"text": "hi"}),
    "a value that is no JSON": ("conversation:1", "chat.message", {"text": b"hi"}),
    "a file that is not there": ("conversation:1", "chat.message", {"text": "", "parts": [{"type": "file", "file_id": "0" * 32}]}),
    "an answer to a message that is not there": ("conversation:1", "chat.message", {"text": "hi", "parent_id": "1-1"}),
    "a reaction to a message that is not there": (
        "conversation:1", "chat.react", {"message_id": "1-1", "reaction": "+", "op": "add"},
    ),
    "the end of a run that is not there": (
        "conversation:1", "agent.status", {"run_id": "r", "agent": "a", "state": "running", "attempt": 1, "segment": 1},
    ),
    "a file that never came": (
        "conversation:1", "file.ready",
        {
            "file_id": "0" * 32, "filename": "n", "size": 1, "mime": "text/plain", "detected_mime": "text/plain",
            "checksum": {"algorithm": "sha256", "type": "full", "value": "x"}, "scan": {"engine": "none", "verdict": "skipped"},
        },
    ),
    "an upload nobody asked for": ("conversation:1", "file.upload.cancel", {"upload_id": "0" * 32}),
    "a cursor of nobody": ("document:1", "document.cursor", {"selection": 1, "user": "a", "client": "c"}),
    "an inbox": ("user:alice", "team.notification", {"kind": "note"}),
}  # fmt: skip # a table


@pytest.mark.parametrize("case", BAD)
async def test_a_broadcast_outside_the_catalogue_is_refused(node: Node, tenant: str, case: str) -> None:
    """It was stored, and every state of the channel logged "a stored event is broken" from then on."""
    wire, type_, payload = BAD[case]
    channel = parse_channel(tenant, wire)
    with pytest.raises(InvalidPayload):
        await node.hub.broadcast(channel, type_, payload)

    assert (await node.hub.log.look(channel)).head.seq == 0


async def test_a_broadcast_is_delivered_and_reacted_to_as_a_clients_message_is(node: Node, tenant: str) -> None:
    """The lane, the version and the wish of handlers come from the catalogue."""
    async with client(node.ws_url, token("a", tenant)) as a:
        await a.subscribe("conversation:1")
        channel = parse_channel(tenant, "conversation:1")
        stored = await node.hub.broadcast(channel, "chat.message", {"text": "hi"})
        passing = await node.hub.broadcast(channel, "chat.typing", {"state": "start", "user": "b"})
        shown = await a.expect("chat.typing")

    assert (stored.seq, passing.seq, shown["payload"]["user"]) == (1, 0, "b")


async def test_a_handlers_effect_outside_the_catalogue_parks_its_event(log: Log, tenant: str) -> None:
    """The channel keeps only what readers accept, and the handler goes on with the next event."""
    channel = conversation(tenant, "effects")

    async def react(source: Source, effects: Effects) -> None:
        if source.payload["text"] == "bad":
            await effects.append(channel, "message.status", {"status": "made up"})

    handler = Recorder(react, tenant=tenant)
    async with Rig(log, handler) as rig:
        await say(log, channel, "bad")
        await say(log, channel, "good")
        await handler.until(lambda: bool(handler.seen))
        await until(lambda: rig.metrics.handled[handler.name, "park"] == 1)

    assert (await log.look(channel)).head.seq == 2


async def test_a_person_is_told_of_a_mention_by_an_agent_of_their_name(log: Log, tenant: str) -> None:
    """It was taken for a mention of oneself, of which nobody is told."""
    mention = [{"type": "mention", "kind": "user", "id": "alice"}]
    inbox = parse_channel(tenant, "user:alice")
    handler = TeamReactions(log)
    async with Rig(log, handler) as rig:
        for number, actor in enumerate((Actor("user", "alice"), Actor("agent", "alice"), Actor("agent", "bob"))):
            said = to_json({"text": f"number {number}", "parts": mention})
            await log.append(Draft(conversation(tenant, "m"), "chat.message", said, actor, is_wanted=True))
        while not (told := [e.payload["body"] for e in await log.page(inbox)]) or told[-1] != "number 2":
            assert rig.metrics is not None  # each look is a round trip

    assert told == ["number 1", "number 2"]


async def test_a_handlers_effect_that_names_no_ready_file_parks_its_event(log: Log, tenant: str) -> None:
    """Effects of handlers pass the same checks."""
    channel = conversation(tenant, "effects")

    async def react(source: Source, effects: Effects) -> None:
        if source.payload["text"] == "bad":
            await effects.append(
                channel, "chat.message", {"text": "", "parts": [{"type": "file", "file_id": "0" * 32}]}
            )

    handler = Recorder(react, tenant=tenant)
    async with Rig(log, handler) as rig:
        await say(log, channel, "bad")
        await until(lambda: rig.metrics.handled[handler.name, "park"] == 1)

    assert (await log.look(channel)).head.seq == 1


async def test_a_broadcast_names_what_is_there(redis_url: str, tenant: str, tmp_path: Path) -> None:
    """A ready file of the channel, and a message of the conversation."""
    data = some_bytes(1_000)
    async with file_hub(redis_url, tenant, tmp_path) as hub, uploader(hub) as socket:
        asked = await request(socket, len(data), strategy="single")
        place = parse_channel(tenant, CHANNEL)
        said = {"text": "see", "parts": [{"type": "file", "file_id": asked["upload_id"]}]}
        with pytest.raises(InvalidPayload):
            await hub.node.hub.broadcast(place, "chat.message", said)
        await bring_single(socket, asked, data)
        assert (await complete(socket, asked, data))["type"] == "file.ready"
        stored = await hub.node.hub.broadcast(place, "chat.message", said)
        reaction = {"message_id": stored.id, "reaction": "+", "op": "add"}
        reacted = await hub.node.hub.broadcast(place, "chat.react", reaction, Actor("agent", "demo"))

    assert reacted.seq == stored.seq + 1


async def _code(socket: SocketClient, type_: str, file_id: str, channel: str, **more: Any) -> int | None:
    said = {"parts": [{"type": "file", "file_id": file_id}], **more}
    answer = await socket.answer(type_, said, channel)
    code: int | None = answer["payload"].get("code")
    return code


async def test_a_file_that_is_not_ready_in_the_channel_is_4018(redis_url: str, tenant: str, tmp_path: Path) -> None:
    """An unknown file, one whose bytes have not come, and one of another channel are refused; a ready one is taken."""
    data = some_bytes(1_000)
    async with file_hub(redis_url, tenant, tmp_path) as hub, uploader(hub) as socket:
        unknown = await _code(socket, "chat.message", "0" * 32, CHANNEL, text="see")
        asked = await request(socket, len(data), strategy="single")
        early = await _code(socket, "chat.message", asked["upload_id"], CHANNEL, text="see")
        await bring_single(socket, asked, data)
        assert (await complete(socket, asked, data))["type"] == "file.ready"
        elsewhere = await _code(socket, "chat.message", asked["upload_id"], "conversation:other", text="see")
        said = await socket.answer(
            "chat.message", {"text": "", "parts": [{"type": "file", "file_id": asked["upload_id"]}]}, CHANNEL
        )
        edited = await _code(
            socket, "chat.edit", "0" * 32, CHANNEL, text="see", message_id=said["payload"]["id"], mode="replace"
        )

    assert (unknown, early, elsewhere, edited) == (4018, 4018, 4018, 4018)
    assert said["type"] != "connection.error"
