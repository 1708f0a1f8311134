"""A hub on a Redis Cluster: people and agents on all primaries; a lost primary, a moved slot, a flushed server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import closing, suppress
from dataclasses import replace
from typing import Any

import pytest

from consumers.worker import running
from hub.client import Event, Gap, HubClient
from hub.config import Settings
from ops.cli.redis_checks import check_redis, check_redis_fully
from streams.channel import Channel, parse_channel
from streams.cursor import Cursor, Resumable, judge
from streams.cursor import Gap as LogGap
from streams.envelope import Actor, Appended, Draft
from streams.errors import CommandRefused, ConfigurationRefused, LogUnavailable
from streams.loops import Loops
from streams.records.presence import PresenceStore
from streams.redis.cluster import READ_AGAIN_S, ClusterServers
from streams.redis.keys import DEFAULT_LIMITS, Keys, slot_of
from streams.redis.locate import Locator, SlotMap
from streams.redis.log import PARTITIONS, Log
from streams.redis.repartition import Repartition
from support.appending import outcome
from support.nodes import running_node, token
from support.redis_cluster import Member, RedisCluster
from support.redis_server import server_binary
from support.run_rig import Client, options
from support.socket_client import client
from support.tail_recorder import TailRecorder
from support.until import until


@pytest.fixture(scope="module")
def cluster() -> Iterator[RedisCluster]:
    """Three primaries with a replica each."""
    binary = server_binary("valkey") or server_binary("7")
    if binary is None:
        pytest.skip("no server 7.0 or newer here")
    cluster = RedisCluster(binary, has_replicas=True)
    yield cluster
    cluster.close()


@pytest.fixture
async def log(cluster: RedisCluster) -> AsyncIterator[Log]:
    """The log there."""
    log = await Log.open(cluster.url)
    yield log
    await log.close()


def one_on_each(log: Log, cluster: RedisCluster, tenant: str) -> dict[Member, Channel]:
    """A conversation on each primary, by the server that keeps it now."""
    found: dict[int, tuple[Member, Channel]] = {}
    for number in range(200):
        channel = parse_channel(tenant, f"conversation:{number}")
        keeper = cluster.keeper(slot_of(log.keys.of(channel).stream))
        found.setdefault(keeper.number, (keeper, channel))
        if len(found) == len(cluster.primaries):
            break
    return dict(found.values())


def said(channel: Channel, text: str, command: str | None = None) -> Draft:
    return Draft(channel, "chat.message", json.dumps({"text": text}).encode(), Actor("user", "alice"), command=command)


async def seqs(log: Log, channel: Channel) -> list[int]:
    """The seqs in the log."""
    found: list[int] = []
    after = "0"
    while page := await log.page(channel, after):
        found += [entry.seq for entry in page]
        after = page[-1].id.decode()
    return found


async def parrot(ctx: Any, given: Any) -> Any:
    """Says it back."""
    yield given.text


class Load:
    """Writes to a channel one message after the other, each until it is stored; `refused` counts the refusals."""

    def __init__(self, log: Log, channel: Channel) -> None:
        self.log, self.channel = log, channel
        self.stored: list[Appended] = []
        self.refused = 0
        self._task = asyncio.create_task(self._write())

    async def _write(self) -> None:
        while True:
            answer = await outcome(self.log, said(self.channel, "x", f"l-{len(self.stored)}"))
            if isinstance(answer, Appended):
                self.stored.append(answer)
            else:
                assert isinstance(answer, LogUnavailable), answer
                self.refused += 1
            await asyncio.sleep(0)

    async def more(self, count: int = 20) -> None:
        """Wait until this many further messages are stored."""
        wanted = len(self.stored) + count
        await until(lambda: len(self.stored) >= wanted or self._task.done())
        assert not self._task.done(), self._task

    async def end(self) -> None:
        """Stop writing."""
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task


async def test_people_and_agents_on_all_primaries(cluster: RedisCluster, log: Log, redis_url: str, tenant: str) -> None:
    """Writing, resuming, presence and an agent's answer, in a channel of each primary; arq is beside the cluster."""
    channels = list(one_on_each(log, cluster, tenant).values())
    agents = options(cluster.url, {"a": parrot}, jobs_redis_url=redis_url)
    async with running(agents), running_node(cluster.url) as node, running_node(cluster.url) as other:
        async with client(node.ws_url, token("bob", tenant)) as bob:
            for channel in channels:
                await bob.subscribe(channel.wire, presence=True)
            async with HubClient([node.url, other.url], token("alice", tenant)) as alice:
                for channel in channels:
                    await alice.send(channel.wire, "one")
                    subscription = alice.subscribe(channel.wire, after="0")
                    first = await anext(subscription)
                    alice.cut()
                    await alice.send(channel.wire, "two")
                    second = await anext(subscription)
                    assert [(e.seq, e.payload["text"]) for e in (first, second) if isinstance(e, Event)] == [
                        (1, "one"),
                        (2, "two"),
                    ]
            heard = [frame["channel"] for frame in await bob.events(6)]
            people = {frame["channel"] for frame in bob.seen if "presence" in frame["type"]}
        ends = [await (on := Client(log, channel)).end(await on.ask("hello")) for channel in channels]
        async with node.http() as http:
            status = (await http.get("/readyz")).json()

    assert [heard.count(channel.wire) for channel in channels] == [2, 2, 2]
    assert people == {channel.wire for channel in channels}
    assert [end["outcome"] for end in ends] == ["success"] * 3
    assert status == {"status": "ready"}


async def test_a_worker_without_a_place_for_jobs_is_refused(cluster: RedisCluster) -> None:
    """In one sentence, which names the setting."""
    with pytest.raises(ConfigurationRefused, match="HUB_JOBS_REDIS_URL"):
        async with running(options(cluster.url, {"a": parrot})):
            pass


async def test_the_doctor_examines_every_server(cluster: RedisCluster, log: Log, redis_url: str) -> None:
    """A line for each finding of each primary; the place for jobs; and a Cluster that REDIS_URL takes for one server."""
    good = Settings(redis_url=cluster.url, jobs_redis_url=redis_url)
    with cluster.primaries[1].client() as redis:
        redis.config_set("maxmemory-policy", "allkeys-lru")
        evicting = await check_redis(cluster.url, good)
        redis.config_set("maxmemory-policy", "noeviction")
    found = await check_redis_fully(cluster.url, Settings(redis_url=cluster.url))
    with_jobs = await check_redis_fully(cluster.url, good)
    (as_one,) = await check_redis(f"redis://{cluster.primaries[0].address}", good)

    assert [f.text.partition(": ")[0] for f in evicting if f.level == "fail"] == [cluster.primaries[1].address]
    assert [f.what for f in found if f.level == "fail"] == ["aof", "aof", "aof", "jobs"]
    assert "HUB_JOBS_REDIS_URL" in found[-1].text
    assert with_jobs[-1].level == "ok"
    assert "redis+cluster://" in as_one.text


async def test_a_flushed_server_begins_new_epochs_for_its_channels_alone(
    cluster: RedisCluster, log: Log, tenant: str
) -> None:
    """The followers of those are told of the break; the cursors of the others are as good as before."""
    channels = one_on_each(log, cluster, tenant)
    (lost_member, lost), *others = channels.items()
    seen = {channel: TailRecorder(log, channel) for channel in channels.values()}
    cursors = {}
    for channel in channels.values():
        appended = await log.append(said(channel, "before"))
        cursors[channel] = Cursor(appended.id, appended.seq, (await seen[channel].watch()).epoch)

    with lost_member.client() as redis:
        redis.flushall()
    await seen[lost].until(breaks=1)
    for channel in channels.values():
        await log.append(said(channel, "after"))
    judged = {c: judge(at, await log.look(c, at.after)) for c, at in cursors.items()}

    assert isinstance(judged[lost], LogGap)
    assert [type(judged[channel]) for _, channel in others] == [Resumable] * 2
    assert [seen[channel].break_count for _, channel in others] == [0, 0]
    for recorder in seen.values():
        recorder.unwatch()


async def test_a_slot_that_moves_under_load_loses_nothing(cluster: RedisCluster, log: Log, tenant: str) -> None:
    """Appends are refused while it moves, at most; the followers read on at the new server, the other channels know nothing."""
    channels = one_on_each(log, cluster, tenant)
    (source, moving), (target, quiet), _ = channels.items()
    seen = {channel: TailRecorder(log, channel) for channel in (moving, quiet)}
    for recorder in seen.values():
        await recorder.watch()
    loads = [Load(log, channel) for channel in seen]
    await loads[0].more()
    slot = slot_of(log.keys.of(moving).stream)

    cluster.move_slot(slot, source, target)
    await until(lambda: log.servers.keeping(log.keys.of(moving).stream).where == target.address)
    await loads[0].more()
    for load in loads:
        await load.end()
    for recorder in seen.values():
        await recorder.until(events=len(await seqs(log, recorder.channel)))

    for load, recorder in zip(loads, seen.values(), strict=True):
        whole = await seqs(log, recorder.channel)
        assert whole == list(range(1, len(whole) + 1))
        assert {one.seq for one in load.stored} <= set(whole)
        assert recorder.seqs == whole
        recorder.unwatch()
    assert (loads[1].refused, seen[quiet].break_count) == (0, 0)
    cluster.move_slot(slot, target, source)


async def test_calls_that_need_the_map_at_once_share_a_read(cluster: RedisCluster) -> None:
    """Two hundred calls that meet a moved slot wait for one or two reads of the map, not each for its own."""
    loops = Loops()
    servers = await ClusterServers.open(Locator(cluster.url), PARTITIONS, {}, DEFAULT_LIMITS, loops)
    try:
        async with asyncio.timeout(200 * READ_AGAIN_S / 2):
            await asyncio.gather(*(servers.read_map() for _ in range(200)))
    finally:
        await servers.close()


async def test_a_partition_that_cannot_be_followed_leaves_no_other_one_behind(cluster: RedisCluster, log: Log) -> None:
    """The start is refused when all partitions have been tried; neither a connection nor a loop is left."""
    key, calls, loops = log.keys.config(0), log.calls_in(0), Loops()
    kept = await calls.call("DUMP", key)
    await calls.call("SET", key, "not a hash")
    before = asyncio.all_tasks()
    try:
        with pytest.raises(CommandRefused, match="WRONGTYPE"):
            await ClusterServers.open(Locator(cluster.url), PARTITIONS, {}, DEFAULT_LIMITS, loops)
        assert {one for one in asyncio.all_tasks() - before if not one.done()} == set()
        assert loops.working == {}
    finally:
        await calls.call("RESTORE", key, 0, kept, "REPLACE")


async def is_presence_followed(log: Log, channel: Channel) -> bool:
    """True if Redis knows that the presence in a channel is followed."""
    key = log.keys.presence_followed(log.keys.of(channel).partition)
    return await log.calls_of(channel).call("ZSCORE", key, channel.path) is not None


async def test_a_killed_primary_stops_its_partitions_until_its_replica_is_promoted(
    cluster: RedisCluster, log: Log, tenant: str
) -> None:
    """The other channels are written and followed throughout; afterwards every stored event is there, or its loss is told."""
    channels = one_on_each(log, cluster, tenant)
    (killed, lost), *others = channels.items()
    async with running_node(cluster.url) as node, HubClient([node.url], token("alice", tenant)) as reader:
        following = reader.subscribe(lost.wire, after="0", on_gap="report")
        loads = [Load(log, channel) for channel in channels.values()]
        for load in loads:
            await load.more()

        killed.kill()
        await until(lambda: log.away_count > 0)
        with pytest.raises(LogUnavailable):
            await PresenceStore(log).follow(channels.values())
        followed = [await is_presence_followed(log, channel) for _, channel in others]
        for load in loads[1:]:
            await load.more(40)
        is_lost_still_away = log.away_count > 0
        async with node.http() as http:
            status = await http.get("/readyz")
        await loads[0].more()
        for load in loads:
            await load.end()
        last = await log.append(said(lost, "last"))
        read: dict[str, Event] = {}
        gaps: list[Gap] = []
        async with asyncio.timeout(30):
            async for item in following:
                if isinstance(item, Gap):
                    gaps.append(item)
                elif isinstance(item, Event):
                    read[item.id] = item
                    if item.id == last.id:
                        break
        whole = await seqs(log, lost)
        kept = {entry.id.decode() for entry in await log.page(lost, limit=10_000)}

    cluster.start(killed)
    cluster.wait_until_whole()
    assert is_lost_still_away
    assert followed == [True, True]
    assert (status.status_code, bool(status.json().get("away"))) == (200, True)
    assert [load.refused for load in loads[1:]] == [0, 0]
    assert whole == list(range(1, len(whole) + 1))
    missing = {one.id for one in loads[0].stored} - kept
    assert gaps or (not missing and read.keys() == kept)


async def test_followers_check_their_positions_whenever_their_server_is_back(
    cluster: RedisCluster, log: Log, tenant: str
) -> None:
    """Also if the partition's own connections were there before: what they asked of the log meanwhile was refused."""
    (member, channel), (_, other), _ = one_on_each(log, cluster, tenant).items()
    seen, quiet = TailRecorder(log, channel), TailRecorder(log, other)
    await seen.watch()
    await quiet.watch()

    with member.client() as redis:
        for one in redis.client_list():
            if one["name"] == "hub-query":
                redis.client_kill_filter(_id=one["id"])
    await seen.until(breaks=1)

    assert log.reaches(channel)
    assert quiet.break_count == 0
    seen.unwatch()
    quiet.unwatch()


async def test_a_log_on_a_cluster_is_moved_to_other_partitions(cluster: RedisCluster, tenant: str) -> None:
    """Keys change slots and servers; every event is where the new partitions look for it, and there and back again."""
    cluster.wait_until_whole()
    channels = [parse_channel(tenant, f"conversation:{number}") for number in range(20)]
    before = await Log.open(cluster.url)
    ids = {channel: (await before.append(said(channel, "one", f"c-{channel.name}"))).id for channel in channels}
    await before.close()
    for wanted in (2 * PARTITIONS, PARTITIONS):
        with closing(Repartition(cluster.url, wanted, lambda *_: None)) as repartition:
            await repartition.carry_out()
        after = await Log.open(cluster.url, partitions=wanted)
        found = {channel: [entry.id.decode() for entry in await after.page(channel)] for channel in channels}
        again = {channel: (await after.append(said(channel, "one", f"c-{channel.name}"))).id for channel in channels}
        await after.close()
        assert found == {channel: [event_id] for channel, event_id in ids.items()}
        assert again == ids


async def test_a_copy_between_two_slots_that_was_cut_off_is_completed(cluster: RedisCluster, tenant: str) -> None:
    """With its original, or without; a key that a command has written since is not overwritten."""
    cluster.wait_until_whole()
    channels = [parse_channel(tenant, f"conversation:{number}") for number in range(3)]
    before = await Log.open(cluster.url)
    ids = {channel: (await before.append(said(channel, "one", f"c-{channel.name}"))).id for channel in channels}
    redis = before.redis
    await redis.pexpire(before.keys.of(channels[0]).meta, 600_000)
    with closing(Repartition(cluster.url, 2 * PARTITIONS, lambda *_: None)) as repartition:
        move, census = await repartition.plan()
        moving = replace(move, step="move", channels=census.channels, events=census.events)
        new = Keys(2 * PARTITIONS, move.new)
        named = [(before.keys.of(one).stream.decode(), new.of(one).stream.decode()) for one in channels]
        copies = [target[: target.index("}:") + 2] + "moving:" + key for key, target in named]
        for number in (0, 1):
            await redis.restore(copies[number], 0, await redis.dump(named[number][0]))
        await redis.delete(named[0][0])
        await redis.xadd(named[2][1], {"seq": "1"})
        await redis.hset("hub:config", "moving", str(moving))

        with pytest.raises(ConfigurationRefused, match="nothing was overwritten"):
            await repartition.carry_out()

        assert await redis.xlen(named[2][0]) == await redis.xlen(named[2][1]) == 1
        await redis.delete(named[2][1])
        assert (await repartition.carry_out()).step == "drop"
        assert 0 < await redis.pttl(new.of(channels[0]).meta) <= 600_000
        assert [await redis.exists(one) for one in copies] == [0, 0, 0]
    await before.close()
    after = await Log.open(cluster.url, partitions=2 * PARTITIONS)
    assert {channel: [entry.id.decode() for entry in await after.page(channel)] for channel in channels} == {
        channel: [event_id] for channel, event_id in ids.items()
    }
    await after.close()
    with closing(Repartition(cluster.url, PARTITIONS, lambda *_: None)) as repartition:
        await repartition.carry_out()


async def test_servers_that_are_no_longer_in_use_are_let_go(cluster: RedisCluster, log: Log, tenant: str) -> None:
    """With their connections; what they have counted stays."""
    cluster.wait_until_whole()
    channel = next(iter(one_on_each(log, cluster, tenant).values()))
    await log.append(said(channel, "one"))
    await log.calls_of(channel).call("PING")
    before = (log.appended_count, log.batch_count, log.connect_count, log.stored_in.count)
    servers = log._cluster
    assert servers is not None
    url, server = next((url, one) for url, one in servers._known.items() if one is log._server(channel))
    slots = servers._map
    others = [one for one in servers._known if one != url]

    ranges = tuple(held._replace(url=others[0]) if held.url == url else held for held in slots.ranges)
    async with servers._reading:  # or the real map would be read meanwhile
        await servers._follow(SlotMap(ranges, is_ok=True))
        assert sorted(servers._known) == sorted(others)
        assert not server.is_available
        after = (log.appended_count, log.batch_count, log.connect_count, log.stored_in.count)
        await servers._follow(slots)

    assert after == before
    await log.append(said(channel, "two"))
    assert await seqs(log, channel) == [1, 2]
