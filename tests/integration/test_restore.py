"""The restore drill: from the archive into an empty Redis, where clients resume with the cursors that they hold."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from streams.archive.cold import ColdReader
from streams.channel import Channel, parse_channel
from streams.envelope import SYSTEM, Actor, Draft
from streams.records.deletions import deletions_of
from streams.records.upload_store import UploadStore
from streams.records.uploads import UploadState, file_id_of
from streams.redis.log import Log
from support.archive_rig import archive_in, keeper, write
from support.nodes import running_node, token
from support.redis_server import RedisServer
from support.socket_client import client

CommandLine = Callable[..., tuple[int, str, str]]
Hub = Callable[..., tuple[int, list[dict[str, Any]], str]]
POLICY = "*=hot_count:10"


@pytest.fixture(scope="module")
def redis_url(module_redis: RedisServer) -> str:
    return module_redis.url


@pytest.fixture
def hub(command_line: CommandLine, data: Path, tenant: str, monkeypatch: pytest.MonkeyPatch) -> Hub:
    """Runs `hub ARGS` on a server and the data folder, with the retention of the hub: code, objects printed, errors."""
    monkeypatch.setenv("HUB_RETENTION", POLICY)

    def run(redis_url: str, *arguments: str) -> tuple[int, list[dict[str, Any]], str]:
        code, out, err = command_line(*arguments, "--tenant", tenant, "--redis", redis_url, "--data", str(data))
        return code, [json.loads(line) for line in out.splitlines() if line.startswith("{")], err

    return run


@pytest.fixture
async def restored(lone_redis: RedisServer, data: Path) -> AsyncIterator[Log]:
    """The log on the empty server."""
    cold = ColdReader(archive_in(data / "archive"))
    log = await Log.open(lone_redis.url, cold=cold)
    yield log
    await log.close()
    await cold.close()


async def test_clients_resume_exactly_from_any_cursor(
    log: Log, restored: Log, hub: Hub, redis_url: str, lone_redis: RedisServer, data: Path, tenant: str
) -> None:
    """Heads, epochs, access lists and files are those from before; what is written next follows; the audit finds it whole."""
    place, notes = parse_channel(tenant, "conversation:a"), parse_channel(tenant, "document:notes")
    ids = await write(log, place, 700)
    async with (
        running_node(redis_url, data_dir=str(data)) as node,
        client(node.ws_url, token("alice", tenant)) as alice,
    ):
        await alice.answer(
            "channel.configure", {"access": {"read": ["alice", "bob"]}, "members": {"add": ["bob"]}}, place.wire
        )
        await alice.answer("document.update", {"update": "aGk="}, notes.wire)
        before = await alice.subscribe(place.wire, state=True)
        document = await alice.subscribe(notes.wire)
    await keeper(log, data / "archive", f"{tenant}/*=hot_count:10").turn()
    file = await _file(log, place)
    heads = before["head"] | {"id": file[1], "seq": before["head"]["seq"] + 2}, document["head"]
    records = await _records(log, place, notes)
    assert (await asyncio.to_thread(hub, redis_url, "archive", "--all"))[0] == 0

    code, told, err = await asyncio.to_thread(hub, lone_redis.url, "restore")

    assert (code, err) == (0, "")
    assert {one["channel"]: (one["events"], one["lost"], one["restored"]) for one in told} == {
        place.wire: (heads[0]["seq"], 0, True), notes.wire: (1, 0, True),
    }  # fmt: skip # one object
    code, told, _ = await asyncio.to_thread(hub, lone_redis.url, "restore")
    assert (code, [one["restored"] for one in told]) == (0, [False, False])
    assert await _records(restored, place, notes) == records
    upload = await UploadStore(restored).read(place, file[0])
    assert upload is not None
    assert (upload.state, upload.user, upload.filename, upload.size) == (UploadState.READY, "alice", "a.txt", 5)
    async with (
        running_node(lone_redis.url, data_dir=str(data)) as node,
        client(node.ws_url, token("bob", tenant)) as bob,
    ):
        for at in (0, 350, 699):
            answer = await bob.subscribe(place.wire, after=ids[at], seq=at + 1, epoch=before["epoch"])
            missed = await bob.events(heads[0]["seq"] - at - 1)
            assert (answer["recovered"], answer["gap"], answer["head"]) == (True, None, heads[0])
            assert [event["seq"] for event in missed] == list(range(at + 2, heads[0]["seq"] + 1))
            await bob.expect("channel.resumed", channel=place.wire)
        state = await bob.subscribe(place.wire, state=True)
        assert state["state"]["members"] == before["state"]["members"] == ["bob"]
        assert (await bob.subscribe(notes.wire))["head"] == heads[1]
        stored = await bob.answer("chat.message", {"text": "after"}, place.wire)
        assert stored["payload"]["seq"] == heads[0]["seq"] + 1
        async with client(node.ws_url, token("carol", tenant)) as carol:
            await carol.send("channel.subscribe", {"channels": [{"channel": place.wire}]})
            assert (await carol.expect("connection.error"))["payload"]["code"] == 4003
    code, (report,), _ = await asyncio.to_thread(hub, lone_redis.url, "audit", "verify", notes.wire)
    counts = [report[name] for name in ("events", "hot_events", "archived_events", "from_seq", "to_seq")]
    assert (code, counts, report["whole"]) == (0, [1, 0, 1, 1, 1], True)
    await keeper(restored, data / "archive", POLICY).turn()
    code, reports, err = await asyncio.to_thread(hub, lone_redis.url, "audit", "verify", "--all")
    assert (code, err, [one["whole"] for one in reports]) == (0, "", [True, True])


async def _file(log: Log, place: Channel) -> tuple[str, str]:
    """A file that became ready, as its events tell; its ID, and that of its last event."""
    who, asked = Actor("user", "alice"), {"filename": "a.txt", "size": 5, "mime": "text/plain"}
    request = await log.append(Draft(place, "file.upload.request", json.dumps(asked).encode(), who))
    file_id = file_id_of(place, request.id)
    ready = asked | {"file_id": file_id, "detected_mime": "text/plain", "checksum": {}, "scan": {}}
    return file_id, (await log.append(Draft(place, "file.ready", json.dumps(ready).encode(), SYSTEM))).id


async def _records(log: Log, place: Channel, notes: Channel) -> list[Any]:
    """The records of both channels, as Redis has them."""
    wanted = [(place, f"settings:{place.wire}"), (place, f"members:{place.wire}"), (notes, f"document:{notes.wire}")]
    found = [await log.calls_of(one).call("HGETALL", log.keys.guard(one, name)) for one, name in wanted]
    assert all(found)
    return [dict(zip(row[::2], row[1::2], strict=True)) for row in found]


async def test_a_loss_is_named_and_begins_another_epoch(
    log: Log, restored: Log, hub: Hub, redis_url: str, lone_redis: RedisServer, data: Path, tenant: str
) -> None:
    """Events that were recorded and are in no segment are gone; a deleted channel does not come back."""
    place, gone = parse_channel(tenant, "conversation:a"), parse_channel(tenant, "conversation:gone")
    ids = await write(log, place, 40)
    await write(log, gone, 20)
    await keeper(log, data / "archive", f"{tenant}/*=hot_count:10").turn()
    epoch = (await log.look(place)).epoch
    assert (await asyncio.to_thread(hub, redis_url, "delete", gone.wire, "--yes"))[0] == 0

    code, told, err = await asyncio.to_thread(hub, lone_redis.url, "restore")

    assert (code, [one for one in told if not one["channel"].startswith("system:")]) == (
        1, [{"channel": place.wire, "events": 30, "lost": 10}],
    )  # fmt: skip # two facts
    assert "the archive lacks events of conversation:a: --accept-loss" in err
    code, told, _ = await asyncio.to_thread(hub, lone_redis.url, "restore", "--accept-loss")
    assert (code, [one["restored"] for one in told if one["channel"] == place.wire]) == (0, [True])
    async with (
        running_node(lone_redis.url, data_dir=str(data)) as node,
        client(node.ws_url, token("bob", tenant)) as bob,
    ):
        answer = await bob.subscribe(place.wire, after=ids[3], seq=4, epoch=epoch)
        assert (answer["gap"]["reason"], answer["head"]["seq"]) == ("epoch_changed", 30)
        page = await bob.answer("channel.history", {"after": ids[3], "limit": 100}, place.wire)
        assert [event["seq"] for event in page["payload"]["events"]] == list(range(5, 31))
        await bob.say(place.wire, "after")
    assert await _events(restored, gone) == 0
    code, told, err = await asyncio.to_thread(hub, lone_redis.url, "audit", "verify", gone.wire)
    assert (code, err, told[0]["faults"], told[0]["deleted"]["to_seq"]) == (0, "", [], 20)
    at_work = keeper(restored, data / "archive", POLICY)
    await at_work.turn()
    assert (at_work.stopped, await _events(restored, place)) == ({}, 31)


async def test_a_deletion_counts_whose_record_is_of_a_life_before(
    log: Log, restored: Log, hub: Hub, redis_url: str, lone_redis: RedisServer, data: Path, tenant: str
) -> None:
    """The records of deletions began anew, as after Redis lost them: what was deleted before stays away."""
    first, second = parse_channel(tenant, "conversation:first"), parse_channel(tenant, "conversation:second")
    for channel in (first, second):
        await write(log, channel, 20)
    await keeper(log, data / "archive", f"{tenant}/*=hot_count:10").turn()
    assert (await asyncio.to_thread(hub, redis_url, "delete", first.wire, "--yes"))[0] == 0
    records = log.keys.of(deletions_of(tenant))
    await log.calls_of(deletions_of(tenant)).call("DEL", records.stream, records.meta)
    assert (await asyncio.to_thread(hub, redis_url, "delete", second.wire, "--yes"))[0] == 0

    code, told, _ = await asyncio.to_thread(hub, lone_redis.url, "restore", "--accept-loss")

    assert (code, [one["channel"] for one in told if one["channel"].startswith("conversation:")]) == (0, [])
    assert [await _events(restored, channel) for channel in (first, second)] == [0, 0]


async def _events(log: Log, channel: Channel) -> int:
    found, after = 0, "0"
    while page := await log.page(channel, after):
        found, after = found + len(page), page[-1].id.decode()
    return found


@pytest.mark.parametrize("command", ["archive", "delete"])
async def test_a_tenant_without_channels_is_an_error(
    log: Log, hub: Hub, redis_url: str, tenant: str, command: str
) -> None:
    """A misspelt tenant is not reported as done."""
    await write(log, parse_channel(f"{tenant}x", "conversation:a"), 1)

    found = await asyncio.to_thread(hub, redis_url, command, "--all")

    assert found == (1, [], f"hub {command}: tenant {tenant} has no channels\n")
