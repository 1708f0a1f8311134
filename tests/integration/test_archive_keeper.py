"""The keeper on a real Redis and a real folder: nothing is lost, nothing is archived twice, whatever happens to it."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import pytest

from consumers.metrics import ConsumerCollector
from hub.storage.archive import StoreArchive
from hub.storage.local import LocalStore
from ops.cli.worker_process import running_worker, worker_options
from streams.archive.cold import ColdReader
from streams.archive.heads import Head, HeadLog
from streams.archive.keeper import Keeper
from streams.archive.manifest import ArchiveSegment
from streams.archive.merkle import leaf_hash, root_of, tile_path
from streams.archive.notes import open_checkpoint
from streams.archive.objects import ChannelFolder, TreeFolder, channel_folder
from streams.archive.retention import parse_retention
from streams.archive.segments import SegmentCodec, line_of, read_line
from streams.channel import Channel, parse_channel
from streams.cursor import ms_of_id
from streams.envelope import Entry
from streams.errors import ArchiveDiffers, ArchiveUnavailable
from streams.records.archive import ArchiveRecords, ChannelFacts
from streams.redis.log import Log
from support.archive_rig import SIGNER, KilledAt, archive_in, hot_ids, keeper, write, write_until_refused
from support.nodes import settings


@pytest.fixture
def redis_url(lone_redis: object) -> str:
    """A server of one test alone: the keeper goes through all channels there."""
    return str(lone_redis.url)  # type: ignore[attr-defined]  # a RedisServer


@pytest.fixture
def channel(tenant: str) -> Channel:
    return parse_channel(tenant, "conversation:a")


async def archived(log: Log, folder: Path, channel: Channel) -> list[Entry]:
    """All events that the manifest lists, read from the segments."""
    facts = await ArchiveRecords(log).facts(channel)
    assert facts is not None
    place = ChannelFolder(archive_in(folder), channel, facts.epoch)
    manifest = await place.newest_manifest(facts.mark.number)
    found: list[Entry] = []
    for segment in manifest.segments if manifest else ():
        data = await place.segment(segment)
        assert data is not None
        found += [read_line(line) for line in SegmentCodec().all_lines(data, segment.index_at)]
    return found


async def hot(log: Log, channel: Channel) -> list[Entry]:
    """All events in Redis."""
    found: list[Entry] = []
    while page := await log.page(channel, found[-1].id.decode() if found else "0"):
        found += page
    return found


async def test_events_move_and_every_one_is_under_a_checkpoint(log: Log, channel: Channel, tmp_path: Path) -> None:
    """Archive and stream together are the history; the tree's root is in the tenant's log, whose checkpoint is signed."""
    await write(log, channel, 600)
    before = await hot(log, channel)
    at_work = keeper(log, tmp_path)

    await at_work.turn()
    await at_work.turn()  # nothing left to do

    cold, rest = await archived(log, tmp_path, channel), await hot(log, channel)
    assert cold + rest == before
    assert len(rest) == 10
    assert (at_work.segment_count, at_work.trimmed_count, at_work.covered_count) == (1, 590, 600)
    heads = HeadLog(archive_in(tmp_path), channel.tenant, "hub.test")
    assert await heads.checkpoint_count() == 1
    note = await heads.checkpoint(1)
    checkpoint = open_checkpoint(note or b"", [SIGNER.public]).checkpoint
    (leaves,) = [leaves async for leaves in heads.leaves(checkpoint.size)]
    head = Head.parse(leaves[-1])
    assert checkpoint.root == root_of([leaf_hash(leaf) for leaf in leaves])
    assert (head.channel, head.size, head.manifest) == (channel.path, 600, 1)
    assert head.root == root_of([leaf_hash(line_of(entry, channel.wire.encode())) for entry in before])


async def test_what_was_archived_ahead_of_the_policy_stays_in_redis_as_the_policy_says(
    log: Log, channel: Channel, tmp_path: Path
) -> None:
    """As after `hub archive` beside a running hub: the hot events remain, and leave one by one as others are written."""
    await write(log, channel, 40)
    await keeper(log, tmp_path).turn()
    await write(log, channel, 5)
    await keeper(log, tmp_path).archive_whole(channel, trims=False)
    at_work = keeper(log, tmp_path)
    kept = []
    for count in (0, 12, 12):
        await write(log, channel, count)
        await at_work.turn()
        rest = await hot(log, channel)
        kept.append((len(await archived(log, tmp_path, channel)), rest[0].seq, rest[-1].seq))
    assert kept == [(45, 36, 45), (47, 48, 57), (59, 60, 69)]
    assert at_work.stopped == {}


async def test_without_bounds_nothing_is_trimmed_and_all_is_covered(log: Log, channel: Channel, tmp_path: Path) -> None:
    """`forever` records leaves, and moves nothing."""
    await write(log, channel, 30)
    at_work = keeper(log, tmp_path, "*=forever")
    await at_work.turn()
    await write(log, channel, 3)
    await at_work.turn()

    assert len(await hot(log, channel)) == 33
    assert (at_work.covered_count, at_work.segment_count) == (33, 0)
    assert await HeadLog(archive_in(tmp_path), channel.tenant, "hub.test").checkpoint_count() == 2


async def test_killed_at_every_await_it_loses_nothing_and_archives_nothing_twice(
    log: Log, tenant: str, tmp_path: Path
) -> None:
    """At each await in turn a keeper dies; the next one goes on, and the history is whole."""
    at, is_finished = 0, False
    while not is_finished:
        channel, folder = parse_channel(tenant, f"conversation:{at}"), tmp_path / str(at)
        await write(log, channel, 14)
        before = await hot(log, channel)
        dying = KilledAt(keeper(log, folder).turn(), at)
        await asyncio.wait_for(dying, 30)
        is_finished = dying.is_finished
        assert (await archived(log, folder, channel) + await hot(log, channel))[-14:] == before[-14:]
        await write(log, channel, 5)
        more = await hot(log, channel)
        await keeper(log, folder).turn()
        cold, rest = await archived(log, folder, channel), await hot(log, channel)
        assert [entry.seq for entry in cold + rest] == list(range(1, 20)), at
        assert (cold + rest)[-len(more) :] == more
        await _drop(log, channel)
        at += 1
    assert at > 25


async def _drop(log: Log, channel: Channel) -> None:
    """Remove a channel, so that the next keeper has one alone to go through."""
    keys = log.keys.of(channel)
    directory = log.keys.directory(keys.partition, channel.tenant, channel.kind)
    await log.calls_of(channel).pipeline([("DEL", keys.stream, keys.meta), ("ZREM", directory, channel.name)])


async def test_a_changed_event_is_neither_archived_nor_trimmed(log: Log, channel: Channel, tmp_path: Path) -> None:
    """Its leaf is on record: the keeper stops there and names it; other channels go on."""
    ids = await write(log, channel, 30)
    other = parse_channel(channel.tenant, "conversation:b")
    await keeper(log, tmp_path, "*=forever").turn()
    keys, calls = log.keys.of(channel), log.calls_of(channel)
    (first,) = await calls.call("XRANGE", keys.stream, ids[0], ids[0])
    fields = first[1]
    fields[9] = b'{"text":"forged"}'
    rest = await calls.call("XRANGE", keys.stream, f"({ids[0]}", "+")
    await calls.call("DEL", keys.stream)
    for event_id, values in [(ids[0], fields[:12]), *rest]:  # without a checksum: an event of an early version
        await calls.call("XADD", keys.stream, event_id, *values)
    await write(log, other, 30)

    at_work = keeper(log, tmp_path)
    with pytest.raises(ArchiveDiffers, match="event 1 is not the one that was recorded"):
        await at_work.turn()

    assert len(await hot(log, channel)) == 30
    assert len(await hot(log, other)) == 10


async def test_a_missing_event_is_named(log: Log, channel: Channel, tmp_path: Path) -> None:
    """Nothing from it on is archived or trimmed."""
    ids = await write(log, channel, 30)
    await log.calls_of(channel).call("XDEL", log.keys.of(channel).stream, ids[4])

    with pytest.raises(ArchiveDiffers, match="event 5 is missing in Redis, or damaged"):
        await keeper(log, tmp_path).turn()

    assert [entry.seq for entry in await archived(log, tmp_path, channel)] == [1, 2, 3, 4]


async def test_a_damaged_record_stops_its_channel_alone(log: Log, channel: Channel, tmp_path: Path) -> None:
    """The others of its page are archived; with the fields mended as the runbook says, all is as before."""
    other = parse_channel(channel.tenant, "conversation:b")
    await write(log, channel, 30)
    before = await hot(log, channel)
    await keeper(log, tmp_path).turn()
    await write(log, other, 30)
    calls, meta, fields = log.calls_of(channel), log.keys.of(channel).meta, ("covered", "archive", "erased")
    kept = await calls.call("HMGET", meta, *fields)
    await calls.call("HSET", meta, "covered", "rubbish", "erased", "rubbish")

    with pytest.raises(ArchiveDiffers, match=rf"1 channels .* {channel.path}: its record in Redis .* is damaged"):
        await keeper(log, tmp_path).turn()
    assert [len(await hot(log, one)) for one in (channel, other)] == [10, 10]

    await calls.call("HDEL", meta, "covered", "erased")
    cold = ColdReader(archive_in(tmp_path))
    whole = await Log.open(log.url, cold=cold)
    await keeper(whole, tmp_path).turn()
    await whole.close()
    await cold.close()
    assert await calls.call("HMGET", meta, *fields) == kept
    assert await archived(log, tmp_path, channel) + await hot(log, channel) == before


async def test_a_keeper_that_has_given_the_archive_away_tells_of_no_stopped_channel(
    log: Log, channel: Channel, tmp_path: Path
) -> None:
    """The keeper that has it now does; the alert would otherwise last for as long as the process."""
    await write(log, channel, 30)
    await log.calls_of(channel).call("HSET", log.keys.of(channel).meta, "covered", "rubbish")
    at_work, owners = keeper(log, tmp_path), [True]
    loop = log.loops.keep("archive", partial(at_work.run, lambda: bool(owners)))
    async with asyncio.timeout(30):
        while not at_work.stopped:
            await log.ping()
        owners.clear()
        while at_work.stopped:
            await log.ping()
    await log.loops.stop(loop)


async def test_what_a_policy_removed_is_deleted_wherever_keepers_die(
    log: Log, channel: Channel, tmp_path: Path
) -> None:
    """Each keeper dies one await later than the one before; in the end no removed segment is left in the store."""
    ids = await write(log, channel, 60)
    await keeper(log, tmp_path).turn()
    while log.now_ms() < ms_of_id(ids[-1]) + 2_200:
        await log.ping()
    at, is_finished = 0, False
    while not is_finished:
        dying = KilledAt(keeper(log, tmp_path, "*=hot_age:1s hot_count:10 total_age:2s").turn(), at)
        await asyncio.wait_for(dying, 30)
        at, is_finished = at + 1, dying.is_finished

    facts = await ArchiveRecords(log).facts(channel)
    assert isinstance(facts, ChannelFacts)
    assert facts.mark.removed.seq == facts.erased_seq == 59
    assert await archive_in(tmp_path).keys(f"{channel_folder(channel, facts.epoch)}/segment/") == []


async def test_a_store_that_is_full_or_gone_loses_nothing(log: Log, channel: Channel, tmp_path: Path) -> None:
    """The turn fails, Redis keeps all; the next turn makes up for it."""
    await write(log, channel, 30)
    before = await hot(log, channel)
    at_work = keeper(log, tmp_path)
    spool = tmp_path / "spool"
    shutil.rmtree(spool)
    spool.write_bytes(b"in the way")

    with pytest.raises(ArchiveUnavailable, match="the archive cannot store"):
        await at_work.turn()
    assert await hot(log, channel) == before

    spool.unlink()
    spool.mkdir()
    await at_work.turn()
    assert await archived(log, tmp_path, channel) + await hot(log, channel) == before


@pytest.mark.parametrize("fault", ["gone", "other bytes"])
async def test_a_full_redis_trims_nothing_that_the_store_does_not_have(
    log: Log, channel: Channel, tmp_path: Path, fault: str
) -> None:
    """With a store that fails, or gives back what it had before, each acknowledged event stays in Redis; then all of it moves."""
    await write(log, channel, 40)
    at_work = keeper(log, tmp_path)
    epoch = (await log.look(channel)).epoch
    ids = await write_until_refused(log, channel)
    await log.read_memory()
    assert at_work.is_tight
    spool, kept = tmp_path / "spool", tmp_path / "kept"
    segment = ArchiveSegment(1, "", 40 + len(ids) - 10, "", 0, 0, 0, 0, "").name
    if fault == "gone":
        spool.rename(kept)
        spool.write_bytes(b"in the way")
    else:
        await archive_in(tmp_path).put(f"{channel_folder(channel, epoch)}/{segment}", b"of an older time")

    with pytest.raises((ArchiveUnavailable, ArchiveDiffers)):
        await at_work.turn()

    assert await hot_ids(log, channel) >= set(ids)
    if fault == "gone":
        spool.unlink()
        kept.rename(spool)
    else:
        await archive_in(tmp_path).delete(f"{channel_folder(channel, epoch)}/{segment}")
    await at_work.look()
    cold = {entry.id.decode() for entry in await archived(log, tmp_path, channel)}
    assert cold | await hot_ids(log, channel) >= set(ids)
    assert len(await hot_ids(log, channel)) == 10
    assert await write(log, channel, 1)


async def test_a_rolled_back_archive_stops_the_keeper(log: Log, channel: Channel, tmp_path: Path) -> None:
    """The mark in Redis names a manifest that is not there."""
    await write(log, channel, 30)
    await keeper(log, tmp_path).turn()
    facts = await ArchiveRecords(log).facts(channel)
    assert facts is not None
    shutil.rmtree(tmp_path / "objects" / channel_folder(channel, facts.epoch) / "manifest")
    await write(log, channel, 30)

    with pytest.raises(ArchiveDiffers, match="is missing: the archive was rolled back"):
        await keeper(log, tmp_path).turn()

    assert len(await hot(log, channel)) == 40


async def test_a_keeper_that_is_behind_changes_nothing_under_a_checkpoint(
    log: Log, channel: Channel, tmp_path: Path
) -> None:
    """Two keepers at a handover: the one whose checkpoint was made by the other gives up, and the log of heads stays whole."""
    behind, ahead = keeper(log, tmp_path), keeper(log, tmp_path)
    for at_work, count in ((behind, 3), (ahead, 1)):
        await write(log, channel, count)
        await at_work.turn()
    await write(log, channel, 2)

    with pytest.raises(ArchiveDiffers, match="another keeper is at work"):
        await behind.turn()

    await keeper(log, tmp_path).turn()
    assert await HeadLog(archive_in(tmp_path), channel.tenant, "hub.test").checkpoint_count() == 3


async def test_a_broken_log_of_one_tenant_stops_that_tenant_alone(log: Log, tenant: str, tmp_path: Path) -> None:
    """Each is named, and the turn goes on to the others."""
    channels = [parse_channel(f"{tenant}-{number}", "conversation:a") for number in range(3)]
    for channel in channels:
        await write(log, channel, 30)
    await keeper(log, tmp_path).turn()
    for channel in channels:
        await write(log, channel, 30)
    for channel in channels[:2]:
        shutil.rmtree(tmp_path / "objects" / channel.tenant / "log" / "tile")
    at_work = keeper(log, tmp_path)

    with pytest.raises(ArchiveDiffers, match="2 channels are not archived"):
        await at_work.turn()

    assert set(at_work.stopped) == {channel.path for channel in channels[:2]}
    assert [len(await hot(log, channel)) for channel in channels] == [40, 40, 10]


async def test_a_channel_whose_stream_was_deleted_is_archived_anew(log: Log, channel: Channel, tmp_path: Path) -> None:
    """Its new epoch keeps nothing of what was recorded about the one before."""
    at_work = keeper(log, tmp_path)
    await write(log, channel, 30)
    await at_work.turn()
    await log.calls_of(channel).call("DEL", log.keys.of(channel).stream)
    await write(log, channel, 30)
    before = await hot(log, channel)

    await at_work.turn()

    assert await archived(log, tmp_path, channel) + await hot(log, channel) == before
    assert len(await hot(log, channel)) == 10


async def test_events_after_a_restore_of_redis_are_not_mixed_with_archived_ones(
    log: Log, channel: Channel, tmp_path: Path
) -> None:
    """The archive goes further than the restored log; it is neither noted there nor trimmed to."""
    await write(log, channel, 20)
    calls, keys = log.calls_of(channel), log.keys.of(channel)
    kept = [(key, await calls.call("DUMP", key)) for key in (keys.stream, keys.meta)]
    await write(log, channel, 30)
    await keeper(log, tmp_path).turn()
    for key, dump in kept:
        await calls.call("RESTORE", key, 0, dump, "REPLACE")
    await write(log, channel, 5)
    before = await hot(log, channel)

    with pytest.raises(ArchiveDiffers, match=r"the archive has event 40 .* restored from an older backup"):
        await keeper(log, tmp_path).turn()

    facts = await ArchiveRecords(log).facts(channel)
    assert (facts is not None and facts.mark.number, await hot(log, channel)) == (0, before)


class CountingArchive(StoreArchive):
    """An archive that counts what is asked of it."""

    read_count = listed_count = 0

    async def read(self, key: str, start: int = 0, size: int | None = None) -> bytes | None:
        self.read_count += 1
        return await super().read(key, start, size)

    async def keys(self, prefix: str, after: str = "") -> list[str]:
        found = await super().keys(prefix, after)
        self.listed_count += len(found)
        return found


async def test_the_newest_of_many_checkpoints_is_found_without_a_list_of_all(tmp_path: Path) -> None:
    """Also if one was lost: then all after it are listed."""
    objects = CountingArchive(LocalStore(tmp_path, time.time))
    heads = HeadLog(objects, "acme", "hub.test")
    assert await heads.checkpoint_count() == 0
    for number in range(1, 101):
        await objects.put(f"acme/log/checkpoint/{number:012}", b"a checkpoint")

    objects.read_count = objects.listed_count = 0
    assert await heads.checkpoint_count() == 100
    assert objects.read_count <= 2 * 8
    assert objects.listed_count == 0

    await objects.delete(f"acme/log/checkpoint/{64:012}")
    assert await heads.checkpoint_count() == 100


async def test_an_incomplete_tile_that_has_grown_is_found_beside_it(tmp_path: Path) -> None:
    """Wider ones will do, narrower ones will not; no other tile is looked at."""
    objects = CountingArchive(LocalStore(tmp_path, time.time))
    tiles = TreeFolder(objects, "acme/tree")
    leaves = [leaf_hash(b"%d" % number) for number in range(40)]
    for number in range(20):
        await objects.put(f"acme/tree/{tile_path(0, number)}", b"a full tile")
    for width in (10, 40):
        await objects.put(f"acme/tree/{tile_path(0, 20, width)}", b"".join(leaves[:width]))

    assert await tiles.tile_at_least(0, 20, 30) == b"".join(leaves[:30])
    assert objects.listed_count == 2
    with pytest.raises(ArchiveDiffers, match="is missing"):
        await tiles.tile_at_least(0, 20, 41)


async def test_a_worker_with_retention_keeps_the_archive(log: Log, channel: Channel, tmp_path: Path) -> None:
    """It makes the key, archives and trims, and tells its readiness if the archive does not go on."""
    policy = parse_retention("*=hot_count:10")
    own = settings(log.url, data_dir=str(tmp_path), retention=policy, checkpoint_interval_s=0.2)
    ids = await write(log, channel, 40)
    async with running_worker(own, worker_options(own)) as worker:
        async with asyncio.timeout(30):
            while len(await hot(log, channel)) > 10:
                await log.ping()
        assert len(await archived(log, tmp_path / "archive", channel)) == 30
        assert (tmp_path / "audit.key").stat().st_mode & 0o777 == 0o600
        assert await worker.log.entry(channel, ids[0]) is not None
        assert worker.troubles() == []
        shown = {one.name: one for one in ConsumerCollector(worker.metrics, worker.log).collect()}
        did = {sample.labels["did"]: sample.value for sample in shown["hub_archive_events"].samples if sample.value}
        assert did == {"recorded": 40, "archived": 30, "trimmed": 30}

        shutil.rmtree(tmp_path / "archive" / "objects" / channel.tenant / channel.wire)
        await write(log, channel, 40)
        async with asyncio.timeout(30):
            while not any("archive fails" in trouble for trouble in worker.troubles()):
                await log.ping()


async def test_a_worker_keeps_its_leases_in_a_full_redis_and_makes_room(
    log: Log, channel: Channel, tmp_path: Path
) -> None:
    """Redis refuses every write that takes memory, for longer than a lease lasts; the keeper trims nevertheless."""
    own = settings(log.url, data_dir=str(tmp_path), retention=parse_retention("*=hot_count:10"), run_lease_s=3.0)
    async with running_worker(own, worker_options(own)) as worker:
        await log.redis.config_set("maxmemory", 0)
        await write(log, channel, 400)
        await log.redis.config_set("maxmemory", 1)
        until_ms = log.now_ms() + 3 * worker_options(own).partition_life_ms
        async with asyncio.timeout(30):
            while log.now_ms() < until_ms or len(await hot_ids(log, channel)) > 10:
                await log.ping()
        assert 0 in worker.partitions.held
        await log.redis.config_set("maxmemory", 0)
    assert len(await archived(log, tmp_path / "archive", channel)) == 390


async def test_a_worker_that_stops_ends_the_keeper_before_it_gives_the_archive_away(log: Log, tmp_path: Path) -> None:
    """Whoever gets the first partition next is the only keeper at work."""
    own = settings(log.url, data_dir=str(tmp_path), retention=parse_retention("*=hot_count:10"))
    async with AsyncExitStack() as running:
        worker = await running.enter_async_context(running_worker(own, worker_options(own)))
        assert (0 in worker.partitions.held, "archive" in worker.log.loops.working) == (True, True)
        stopping = asyncio.create_task(running.pop_all().aclose())
        seen = []
        while not stopping.done():
            seen.append((0 in worker.partitions.held, "archive" in worker.log.loops.working))
            await asyncio.sleep(0)
        await stopping

    assert set(seen) == {(True, True), (True, False), (False, False)}


async def test_foreign_names_are_passed_over_and_told(
    redis_url: str, channel: Channel, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Files of a file manager, a backup of a segment, a stray checkpoint: no turn ends for them, and each is told once."""
    log = await Log.open(redis_url)
    await write(log, channel, 60)
    at_work = keeper(log, tmp_path, "*=hot_count:10 hot_age:1s total_age:2s")
    await at_work.turn()
    objects = archive_in(tmp_path)
    (segment,) = [key for key in await objects.keys(f"{channel.tenant}/") if "/segment/" in key]
    foreign = [
        f"{segment}.bak",
        segment.rpartition("/")[0] + "/0000000000000051-copy",
        f"{channel.tenant}/log/checkpoint/zz",
    ]
    foreign += [f"{channel.tenant}/log/tile/0/000.p/old"]
    for name in foreign:
        await objects.put(name, b"by a foreign hand")
    for folder in await asyncio.to_thread(lambda: [path for path in tmp_path.rglob("*") if path.is_dir()]):
        (folder / ".DS_Store").write_bytes(b"x")
    await write(log, channel, 60)
    again = keeper(log, tmp_path, "*=hot_count:10")
    await again.turn()
    await again.turn()
    assert (again.stopped, len(await archived(log, tmp_path, channel))) == ({}, 110)
    told = [record.getMessage() for record in caplog.records if "did not write" in record.getMessage()]
    assert sorted(one.rpartition(": ")[2] for one in told) == sorted(foreign[1:3])
    await log.close()


async def test_a_turn_asks_the_store_nothing_about_a_channel_whose_segments_are_all_young(
    redis_url: str, channel: Channel, tmp_path: Path
) -> None:
    """One keeper asks no more once it has seen the manifest; another one, whose bound is short, removes them in time."""

    class Counted(StoreArchive):
        async def read(self, key: str, start: int = 0, size: int | None = None) -> bytes | None:
            asked.append(key)
            return await super().read(key, start, size)

    asked: list[str] = []
    policy, pattern = "hot_age:1d hot_count:10 total_age:", f"{channel.tenant}/*="
    log = await Log.open(redis_url)
    await write(log, channel, 60)
    objects = Counted(LocalStore(tmp_path, time.time))
    patient = Keeper(log, objects, parse_retention(f"{pattern}{policy}365d"), SIGNER, 60.0)
    await patient.turn()
    await patient.turn()
    asked.clear()
    await patient.turn()
    assert [key for key in asked if channel.wire in key] == []

    strict = keeper(log, tmp_path, f"{pattern}hot_age:1s hot_count:10 total_age:2s")
    async with asyncio.timeout(20):
        while any("/segment/" in key for key in await objects.keys(f"{channel.tenant}/")):
            await strict.turn()
    await log.close()


async def test_a_stopped_archive_is_begun_anew_with_a_reason_on_record(
    redis_url: str, channel: Channel, tmp_path: Path, command_line: Callable[..., tuple[int, str, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip # its arguments in two groups
    """The command names the fault, saves what can be read, goes on behind the hole, and does nothing where nothing stopped."""
    monkeypatch.setenv("HUB_RETENTION", "*=hot_count:30")
    (tmp_path / "audit.key").write_text(f"{SIGNER}\n")
    log = await Log.open(redis_url)
    ids = await write(log, channel, 60)
    await keeper(log, tmp_path / "archive", "*=hot_count:30").turn()
    ids += await write(log, channel, 40)
    where = ("--tenant", channel.tenant, "--redis", redis_url, "--data", str(tmp_path))
    anew = (
        "archive",
        channel.wire,
        "--begin-anew",
        "the event is lost",
        "--by",
        "eve",
        "--save",
        str(tmp_path / "saved"),
    )
    await log.calls_of(channel).call("XDEL", log.keys.of(channel).stream, ids[79])
    with pytest.raises(ArchiveDiffers, match="event 80 is missing"):
        await keeper(log, tmp_path / "archive", "*=hot_count:30").turn()

    code, out, err = await asyncio.to_thread(command_line, *anew, *where)
    assert (code, "from seq 81 on: it had stopped because event 80 is missing" in out) == (0, True), (out, err)
    assert len((tmp_path / "saved").read_text().splitlines()) == 99
    await write(log, channel, 20)
    again = keeper(log, tmp_path / "archive", "*=hot_count:30")
    await again.turn()
    assert (again.stopped, next(one.seq for one in await archived(log, tmp_path / "archive", channel))) == ({}, 81)
    code, out, _ = await asyncio.to_thread(command_line, "audit", "verify", channel.wire, *where)
    assert (code, "archiving was begun anew by eve" in out, "(the event is lost)" in out) == (1, True, True)
    code, out, _ = await asyncio.to_thread(command_line, *anew, *where)
    assert (code, "goes on: nothing was begun anew" in out) == (0, True)
    await log.close()
