"""Deleting channels: archived first, told to everybody who follows, on record, and completed wherever it was cut off."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from hub.storage.local import LocalStore
from hub.uploads.finishing import UploadFinisher
from hub.uploads.limits import UploadLimits
from hub.uploads.verification import NoScanner
from ops.cli.deleting import ChannelDeleter
from ops.cli.failure import CommandFailed
from ops.cli.keeping import OwnArchive
from streams.archive.objects import ChannelFolder
from streams.archive.retention import parse_retention
from streams.archive.segments import SegmentCodec, read_line
from streams.channel import Channel, parse_channel
from streams.envelope import Entry
from streams.records.archive import ArchiveRecords, ChannelFacts
from streams.records.deletions import Deletions, deletions_of
from streams.records.upload_store import UploadStore
from streams.records.uploads import UploadRecord, UploadState
from streams.redis.deleted import DeletedLog
from streams.redis.keys import edge_keys
from streams.redis.log import Log
from support.archive_rig import SIGNER, KilledAt, archive_in, keeper, write
from support.nodes import running_node, token
from support.redis_server import RedisServer
from support.socket_client import SocketClient, client

CommandLine = Callable[..., tuple[int, str, str]]
POLICY = "*=hot_count:10"


@pytest.fixture(scope="module")
def redis_url(module_redis: RedisServer) -> str:
    return module_redis.url


@pytest.fixture
def hub(
    command_line: CommandLine, redis_url: str, data: Path, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> CommandLine:
    """Runs `hub ARGS` on this server and data folder, with the retention of the hub."""
    monkeypatch.setenv("HUB_RETENTION", POLICY)

    def run(*arguments: str) -> tuple[int, str, str]:
        return command_line(*arguments, "--tenant", tenant, "--redis", redis_url, "--data", str(data))

    return run


def deleter(
    log: Log, data: Path, *, policy: str = POLICY, archives: bool = True, purges: bool = False
) -> ChannelDeleter:
    archive = OwnArchive(archive_in(data / "archive"), parse_retention(policy), SIGNER)
    files = LocalStore(data / "files", lambda: 0.0)
    return ChannelDeleter(log, files, archive, "carol", archives=archives, purges=purges, sweep_after_ms=1)


async def archived(data: Path, channel: Channel, epoch: str) -> list[Entry]:
    """All events that the newest manifest of an epoch lists, read from the segments."""
    folder = ChannelFolder(archive_in(data / "archive"), channel, epoch)
    manifest = await folder.newest_manifest(0)
    found: list[Entry] = []
    for segment in manifest.segments if manifest else ():
        found += [
            read_line(line) for line in SegmentCodec().all_lines(await folder.segment(segment) or b"", segment.index_at)
        ]
    return found


async def all_events(log: Log, channel: Channel) -> list[Entry]:
    found: list[Entry] = []
    while page := await log.page(channel, found[-1].id.decode() if found else "0"):
        found += page
    return found


async def keys_of(log: Log, channel: Channel) -> set[str]:
    """The keys that name the channel, without its partition."""
    found = await log.calls_of(channel).call("KEYS", f"*{channel.tenant}:*{channel.kind}:{channel.name}*")
    return {key.decode().partition("}:")[2] for key in found}


async def epoch_of(log: Log, channel: Channel) -> str:
    facts = await ArchiveRecords(log).facts(channel)
    assert isinstance(facts, ChannelFacts)
    return facts.epoch


async def test_everybody_who_follows_is_told_and_the_name_begins_anew(
    log: Log, hub: CommandLine, redis_url: str, data: Path, tenant: str, tmp_path: Path
) -> None:
    """Sockets of two nodes and a stream; the keys are gone, the events archived, and an old cursor gets its gap."""
    place = parse_channel(tenant, "conversation:a")
    ids = await write(log, place, 40)
    await keeper(log, data / "archive", POLICY).turn()
    await write(log, place, 5)
    text, epoch = token("alice", tenant), await epoch_of(log, place)
    async with (
        running_node(redis_url, data_dir=str(data)) as one,
        running_node(redis_url, data_dir=str(data)) as two,
        client(one.ws_url, text) as alice,
        client(two.ws_url, text) as bob,
        two.http(text) as http,
        http.stream("GET", f"/v1/channels/{place.wire}/stream") as stream,
    ):
        for each in (alice, bob):
            await each.subscribe(place.wire, presence=True)
        await alice.send("channel.read", {"up_to": ids[-1]}, place.wire)
        await alice.expect("ack")
        code, out, err = await asyncio.to_thread(hub, "delete", place.wire, "--yes", "--by", "carol")
        assert (code, err) == (0, "")
        planned, done = map(json.loads, out.splitlines())
        for each in (alice, bob):
            told = await each.expect("channel.unsubscribed", channel=place.wire)
            assert told["payload"]["reason"] == "deleted"
        lines = [line async for line in stream.aiter_lines()]
        assert any('"reason":"deleted"' in line for line in lines)
        assert any('"code":4018' in line for line in lines)

        assert (planned["events"], planned["segments"], planned["files"]) == (45, 1, 0)
        assert done == {
            "channel": place.wire, "events": 45, "archived_to": 45, "is_purged": False, "files": 0, "deleted": True,
        }  # fmt: skip # one object
        assert [entry.seq for entry in await archived(data, place, epoch)] == list(range(1, 46))
        assert await keys_of(log, place) <= {f"{place.path}:meta", f"{place.path}:people", f"{place.path}:devices"}
        code, out, err = await asyncio.to_thread(hub, "audit", "verify", place.wire)
        report = json.loads(out)
        assert (code, report["whole"], report["faults"]) == (0, False, [])
        assert (report["deleted"]["by"], report["deleted"]["to_seq"]) == ("carol", 45)
        assert (report["archive"]["archived_to_seq"], report["deleted"]["record"]) == (
            45, (await all_events(log, deletions_of(tenant)))[-1].id.decode(),
        )  # fmt: skip # the two facts

        ended = f"{place.wire} was deleted by carol at {report['deleted']['at']}, after event 45"
        told = (await http.get(f"/v1/channels/{place.wire}/audit")).json()["told"]
        assert f"{place.wire} {told.partition('channel ')[2]}" == f"{ended}."
        page = tmp_path / "report.html"
        code, out, err = await asyncio.to_thread(hub, "audit", "report", place.wire, "-o", str(page))
        assert (code, err, f"It is not all: {ended}." in out, "intact" in page.read_text()) == (0, "", True, False)

        await alice.say(place.wire, "again")
        answer = await bob.subscribe(place.wire, after=ids[-1], seq=40, epoch=epoch)
        assert (answer["gap"]["reason"], answer["head"]["seq"]) == ("epoch_changed", 1)
        assert answer["epoch"] != epoch
    await keeper(log, data / "archive", POLICY).turn()
    code, out, err = await asyncio.to_thread(hub, "audit", "verify", place.wire)
    report = json.loads(out)
    assert (code, report["whole"], report["events"], report["faults"]) == (0, True, 1, [])


@pytest.mark.parametrize("step", [9, pytest.param(1, marks=pytest.mark.long)])
async def test_killed_at_an_await_it_is_completed_and_nothing_is_lost(
    log: Log, data: Path, tenant: str, step: int
) -> None:
    """The next deletion goes on from wherever the one before was cut off; every event is archived, the deletion recorded."""
    at, is_finished = 0, False
    while not is_finished:
        place = parse_channel(tenant, f"conversation:c{at}")
        await write(log, place, 12)
        epoch = await epoch_of(log, place)
        dying = KilledAt(deleter(log, data).delete(place), at)
        await asyncio.wait_for(dying, 30)
        is_finished = dying.is_finished
        hot = await all_events(log, place) + await _waiting(log, place)
        cold = await archived(data, place, epoch)
        assert {entry.seq for entry in hot + cold} == set(range(1, 13)), at

        await deleter(log, data).delete(place)

        assert [entry.seq for entry in await archived(data, place, epoch)] == list(range(1, 13)), at
        assert await keys_of(log, place) == {f"{place.path}:meta"}, at
        records = [one.payload for one in await all_events(log, deletions_of(tenant))]
        assert [one["epoch"] for one in records if one["channel"] == place.wire] == [epoch], at
        at += step
    assert at > 40


async def test_the_doctor_names_a_deletion_that_was_cut_off(
    log: Log, hub: CommandLine, command_line: CommandLine, redis_url: str, data: Path, tenant: str
) -> None:
    """With the command that completes it; a channel with the name `deleted` is none."""
    place, other = parse_channel(tenant, "conversation:a"), parse_channel(tenant, "conversation:deleted")
    for channel in (place, other):
        await write(log, channel, 3)

    async def told() -> list[str]:
        _, out, _ = await asyncio.to_thread(command_line, "doctor", "--redis", redis_url, "--data", str(data))
        found = [json.loads(line) for line in out.splitlines()]
        return [one["text"] for one in found if one["what"] == "deletions" and tenant in one["text"]]

    await Deletions(log, "carol").end_life(place, [], [])
    (text,) = await told()
    assert f"`hub delete conversation:a --tenant {tenant}`" in text
    assert "conversation:deleted" not in text
    assert (await asyncio.to_thread(hub, "delete", place.wire, "--yes"))[0] == 0
    assert await told() == []


async def _waiting(log: Log, channel: Channel) -> list[Entry]:
    return await DeletedLog(log).stored.page(channel)


async def test_a_deletion_ends_when_the_archive_has_its_record(
    log: Log, hub: CommandLine, data: Path, tenant: str
) -> None:
    """If Redis is lost right after it, a restore from the archive does not bring the channel back."""
    place = parse_channel(tenant, "conversation:a")
    await write(log, place, 30)
    await keeper(log, data / "archive", POLICY).turn()
    await deleter(log, data).delete(place)
    code, out, err = await asyncio.to_thread(hub, "restore", "--dry-run")
    assert (code, err, [json.loads(line)["channel"] for line in out.splitlines()]) == (0, "", ["system:deletions"])


async def test_a_writer_during_the_deletion_loses_nothing(log: Log, data: Path, tenant: str) -> None:
    """Each event is archived with the life that it was stored in, or is one of the next life."""
    place = parse_channel(tenant, "conversation:a")
    await write(log, place, 30)
    epoch, is_over, ids = await epoch_of(log, place), asyncio.Event(), list[str]()

    async def writing() -> None:
        while not is_over.is_set():
            ids.extend(await write(log, place, 3))

    task = asyncio.create_task(writing())
    await deleter(log, data).delete(place)
    is_over.set()
    await task
    cold, hot = await archived(data, place, epoch), await all_events(log, place)
    assert [entry.id.decode() for entry in cold + hot][30:] == ids
    assert [entry.seq for entry in hot] == list(range(1, len(hot) + 1))


async def test_legal_hold_refuses_what_would_remove_events_for_good(log: Log, data: Path, tenant: str) -> None:
    """Deleting with the archive is allowed; without it, or with its segments, it is not."""
    place = parse_channel(tenant, "conversation:a")
    await write(log, place, 20)
    held = f"{tenant}/conversation:a=hot_count:10 hold"
    for how in ({"archives": False}, {"archives": False, "purges": True}):
        with pytest.raises(CommandFailed, match="under legal hold"):
            await deleter(log, data, policy=held, **how).delete(place)
    assert len(await all_events(log, place)) == 20
    assert (await deleter(log, data, policy=held).delete(place))["archived_to"] == 20


@pytest.mark.parametrize("is_purge", [False, True])
async def test_without_the_archive_events_are_gone_and_the_audit_says_so(
    log: Log, hub: CommandLine, data: Path, tenant: str, *, is_purge: bool
) -> None:
    """With `--purge-archive` the segments go, too; the record says what was kept."""
    place = parse_channel(tenant, "conversation:a")
    await write(log, place, 40)
    await keeper(log, data / "archive", POLICY).turn()
    epoch = await epoch_of(log, place)
    option = "--purge-archive" if is_purge else "--without-archive"

    code, out, err = await asyncio.to_thread(hub, "delete", place.wire, "--yes", option)

    assert (code, err) == (0, "")
    assert json.loads(out.splitlines()[-1])["archived_to"] == 30
    assert len(await archived(data, place, epoch)) == (0 if is_purge else 30)
    keys = await archive_in(data / "archive").keys(f"{place.tenant}/{place.wire}/{epoch}/segment/")
    assert len(keys) == (0 if is_purge else 1)
    code, out, err = await asyncio.to_thread(hub, "audit", "verify", place.wire)
    report = json.loads(out)
    assert (code, report["whole"], report["faults"], report["deleted"]["to_seq"]) == (0, False, [], 40)
    code, out, _ = await asyncio.to_thread(hub, "delete", place.wire, "--yes")
    assert (code, json.loads(out.splitlines()[-1])["events"]) == (0, 0)


async def test_a_deletion_that_nobody_recorded_is_named(log: Log, hub: CommandLine, data: Path, tenant: str) -> None:
    """A mark in Redis alone, as somebody forges it who wants a stream to be gone."""
    place = parse_channel(tenant, "conversation:a")
    await write(log, place, 12)
    calls, keys = log.calls_of(place), log.keys.of(place)
    epoch = await epoch_of(log, place)
    await calls.call("DEL", keys.stream)
    await calls.call(
        "HSET", keys.meta, "epoch", "0123456789abcdef", "seq", 0, "deleted", f"1795367479511 {epoch} 12 eve"
    )

    code, out, err = await asyncio.to_thread(hub, "audit", "verify", place.wire)

    assert (code, json.loads(out)["whole"]) == (1, False)
    assert "12 events were deleted by eve, but system:deletions has no record of it" in err


async def begin_upload(alice: SocketClient, place: Channel) -> Callable[[], Awaitable[int]]:
    """Begin an upload of five bytes; the function sends them and returns the status."""
    asked = {"filename": "a.txt", "size": 5, "mime": "text/plain", "strategy": "single"}
    single = (await alice.answer("file.upload.request", asked, place.wire))["payload"]["single"]

    async def send() -> int:
        async with httpx.AsyncClient() as http:
            answer = await http.request(single["method"], single["url"], content=b"hello", headers=single["headers"])
        return answer.status_code

    return send


async def upload(log: Log, alice: SocketClient, place: Channel) -> UploadRecord:
    """Upload a file of five bytes, which a worker finds ready."""
    assert await (await begin_upload(alice, place))() < 300
    (record,), uploads = await uploads_of(log, place), UploadStore(log)
    for state in (UploadState.VERIFYING, UploadState.SCANNING, UploadState.READY):
        assert await uploads.move(record, state) is None
    return replace(record, state=UploadState.READY)


async def uploads_of(log: Log, place: Channel) -> list[UploadRecord]:
    """The records of a channel's uploads and files."""
    deletions = Deletions(log, "carol")
    return await deletions.files(place, await deletions.side_keys(place.tenant))


def objects_in(data: Path) -> list[Path]:
    """The bytes of files in the store."""
    return [path for path in (data / "files" / "objects").rglob("*") if path.is_file()]


async def test_an_upload_that_is_open_during_the_deletion_leaves_nothing(
    log: Log, redis_url: str, data: Path, tenant: str
) -> None:
    """It has failed from the moment on at which the channel ends: no event of it begins the channel anew, and no byte stays."""
    place, store = parse_channel(tenant, "conversation:a"), LocalStore(data / "files", time.time)
    command, deletions, uploads = deleter(log, data), Deletions(log, "carol"), UploadStore(log)
    finisher = UploadFinisher(log, store, UploadLimits(), NoScanner(), time.time)
    async with (
        running_node(redis_url, data_dir=str(data)) as node,
        client(node.ws_url, token("alice", tenant)) as alice,
    ):
        late = await begin_upload(alice, place)
        assert await (await begin_upload(alice, place))() < 300
        records = await uploads_of(log, place)
        for one in records:
            await uploads.move(one, UploadState.VERIFYING)
        await deletions.end_life(place, [], records)

        for one in records:  # a worker finishes them before the command goes on
            await finisher.completed(place, one.id, one.event_id, None, {})
        assert (await log.look(place)).head.seq == 0
        done = await command.delete(place)
        assert (done["events"], done["files"], objects_in(data)) == (2, 0, [])
        assert await late() < 300
        assert objects_in(data) != []

        finisher = UploadFinisher(log, store, UploadLimits(), NoScanner(), lambda: time.time() + 60)
        await finisher.reap()

        assert (objects_in(data), (await log.look(place)).head.seq) == ([], 0)
        assert await command.plan(place) == {
            "channel": place.wire,
            "events": 0,
            "bytes": 0,
            "keys": 2,
            "files": 0,
            "file_bytes": 0,
        }


async def test_a_file_that_was_uploaded_while_others_were_deleted_goes_too(
    log: Log, hub: CommandLine, redis_url: str, data: Path, tenant: str
) -> None:
    """The command has looked for files before the upload began. A record that is left is removed by the next deletion."""
    place, uploads, deletions = parse_channel(tenant, "conversation:a"), UploadStore(log), Deletions(log, "carol")
    await write(log, place, 5)
    async with (
        running_node(redis_url, data_dir=str(data)) as node,
        client(node.ws_url, token("alice", tenant)) as alice,
    ):
        command = deleter(log, data)
        assert (await command.plan(place) or {})["files"] == 0
        record = await upload(log, alice, place)

        done = await command.delete(place)

        assert (done["events"], done["files"]) == (6, 1)
        assert objects_in(data) == []
        assert (await deletions.side_keys(tenant)).files == []
        await uploads.open(record, None, 60)
        assert (await asyncio.to_thread(hub, "delete", place.wire, "--yes"))[0] == 0
        assert await uploads.read(place, record.id) is None


async def test_all_channels_of_a_tenant_with_their_files(
    log: Log, hub: CommandLine, redis_url: str, data: Path, tenant: str
) -> None:
    """A dry run lists them and changes nothing; then files and their bytes go, and other tenants stay."""
    other = parse_channel(f"{tenant}x", "conversation:a")
    places = [parse_channel(tenant, f"conversation:{name}") for name in "abc"]
    for place in (*places, other):
        await write(log, place, 5)
    async with (
        running_node(redis_url, data_dir=str(data), quota_bytes_stored=100_000) as node,
        client(node.ws_url, token("alice", tenant)) as alice,
    ):
        await upload(log, alice, places[0])
        await alice.say(places[0].wire, "hi")
        await node.hub.edge.store.wait_round()
    key = edge_keys().bytes_stored
    assert int(await log.calls_at(key).call("HGET", key, tenant)) > 5

    code, out, _ = await asyncio.to_thread(hub, "delete", "--all", "--dry-run")
    listed = [json.loads(line) for line in out.splitlines()]
    assert (code, [one["channel"] for one in listed]) == (0, [place.wire for place in places])
    assert (listed[0]["files"], listed[0]["file_bytes"], listed[0]["events"]) == (1, 5, 7)
    assert len(await all_events(log, places[0])) == 7
    assert (await asyncio.to_thread(hub, "delete", "--all"))[0] == 2

    code, out, _ = await asyncio.to_thread(hub, "delete", "--all", "--yes")

    assert (code, await log.calls_at(key).call("HGET", key, tenant)) == (0, b"0")
    assert [await all_events(log, place) for place in places] == [[], [], []]
    assert len(await all_events(log, other)) == 5
    assert objects_in(data) == []
    left = await log.calls_of(places[0]).call("KEYS", f"*{tenant}:guard:upload*")
    assert left == []
    assert await log.calls_at("hub:{uploads}:due").call("ZCARD", "hub:{uploads}:due") == 0
