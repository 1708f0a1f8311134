"""`hub repartition`: a log with all kinds of keys in other partitions, cut off at random awaits and continued."""

from __future__ import annotations

import asyncio
import random
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from redis import Redis

from consumers.worker import running
from ops.cli import main
from streams.channel import Channel
from streams.cursor import Cursor, Resumable, judge
from streams.envelope import Entry
from streams.errors import ConfigurationRefused
from streams.records.archive import ArchiveRecords
from streams.records.presence import PresenceStore
from streams.records.run_store import RunStore
from streams.redis.groups import Groups
from streams.redis.key_owners import owner_of
from streams.redis.keys import Keys
from streams.redis.log import Log
from streams.redis.repartition import Repartition
from support.archive_rig import KilledAt
from support.documented_keys import PARTITION, documented_keys
from support.filled_log import CHANNELS, TEAM, TENANT, UNREAD, WAITING, asking, fill, kept
from support.nodes import running_node, token
from support.redis_server import RedisServer
from support.run_rig import Client, options


class Seen(NamedTuple):
    """All that must be the same afterwards."""

    entries: dict[Channel, list[Entry]]
    epochs: dict[Channel, str]
    states: dict[str, Any]
    people: Any
    runs: list[tuple[str, str, str]]
    parked: list[tuple[str, str, str]]
    directory: list[str]


async def look(log: Log, url: str, folder: Path) -> Seen:
    """Read everything through the hub's own readers."""
    states = {}
    async with (
        running_node(url, partitions=log.keys.partitions, data_dir=str(folder)) as node,
        node.http(token("alice", TENANT)) as http,
    ):
        for channel in CHANNELS:
            states[channel.wire] = (await http.get(f"/v1/channels/{channel.wire}/state")).raise_for_status().json()
    runs = (await RunStore(log).unfinished(TENANT, 100)).runs
    listed = [one.channel.path async for some in ArchiveRecords(log).channels() for one in some]
    return Seen(
        {channel: await log.page(channel, limit=1_000) for channel in CHANNELS},
        {channel: (await log.look(channel)).epoch for channel in CHANNELS},
        states,
        await PresenceStore(log).people(TEAM, log.now_ms()),
        sorted((channel.path, run.run_id, run.state) for channel, run in runs),
        sorted((one.path, one.event, one.reason) for one in await Groups(log).parked()),
        sorted(listed),
    )


async def _await(work: KilledAt) -> None:
    await work


async def killed_until_done(url: str, wanted: int, chance: random.Random) -> int:
    """Carry it out, killed at random awaits and begun again; returns how often it was killed."""
    count = 0
    while True:
        with closing(Repartition(url, wanted, lambda *_: None)) as repartition:
            work = KilledAt(repartition.carry_out(), chance.randrange(20, 300 * (count + 1)))
            await asyncio.create_task(_await(work))  # its own task, at which the timers of a dead attempt are aimed
        if work.is_finished:
            return count
        count += 1
        if count % 4 == 1:
            with Redis.from_url(url) as redis:
                has_begun = redis.hexists("hub:config", "moving")
            if has_begun:
                for partitions in (8, 16):
                    with pytest.raises(ConfigurationRefused, match="hub repartition"):
                        await Log.open(url, partitions=partitions)


def audit(url: str, folder: Path) -> Any:
    """The exit code of `hub audit verify --all`."""
    with pytest.raises(SystemExit) as ended:
        main(["audit", "verify", "--all", "--tenant", TENANT, "--redis", url, "--data", str(folder)])
    return ended.value.code


@pytest.fixture
async def filled(lone_redis: RedisServer, tmp_path: Path) -> tuple[Seen, dict[int, str]]:
    log = await Log.open(lone_redis.url)
    ids = await fill(log, tmp_path)
    seen = await look(log, lone_redis.url, tmp_path)
    await log.close()
    return seen, ids


async def test_everything_holds_in_other_partitions(
    filled: tuple[Seen, dict[int, str]], lone_redis: RedisServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """From 8 to 16 and from 16 to 4, killed again and again; then the waiting run and the unread work go on."""
    before, ids = filled
    chance = random.Random(7)
    for wanted in (16, 4):
        kills = await killed_until_done(lone_redis.url, wanted, chance)
        log = await Log.open(lone_redis.url, partitions=wanted)
        after = await look(log, lone_redis.url, tmp_path)
        assert kills > 3
        for part, one, other in zip(Seen._fields, before, after, strict=True):
            assert one == other, part
        assert not await asyncio.to_thread(audit, lone_redis.url, tmp_path), capsys.readouterr()
        for number, event_id in ids.items():
            again = await log.append(kept(number))
            assert (again.id, again.is_duplicate) == (event_id, True)
        for channel, entries in before.entries.items():
            cursor = Cursor(entries[-1].id.decode(), entries[-1].seq, before.epochs[channel])
            assert isinstance(judge(cursor, await log.look(channel, cursor.after)), Resumable)
        await log.close()

    log = await Log.open(lone_redis.url, partitions=4)
    async with running(options(log.url, {"a": asking}, partitions=4), log):
        for channel in (WAITING, UNREAD):
            alice = Client(log, channel)
            asked = await alice.until("tool.call.request", kind="input")
            await alice.answer(asked["request_id"], result="yes")
            assert (await alice.until("agent.complete"))["outcome"] == "success"
        assert await Groups(log).put_back((await Groups(log).parked())[0].id)
    with Redis.from_url(lone_redis.url, decode_responses=True) as redis:
        tags = set(redis.hget("hub:config", "tags").split())
        found = {key[5 : key.index("}")] for key in redis.scan_iter("hub:{p*}:*")}
    await log.close()
    assert found <= tags


async def test_what_a_repartition_refuses(lone_redis: RedisServer, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a log, with the same number, while a node runs, with keys nobody knows: one line, and nothing is changed."""
    url = lone_redis.url

    async def refusal(wanted: int) -> str:
        with (
            closing(Repartition(url, wanted, lambda *_: None)) as repartition,
            pytest.raises(ConfigurationRefused) as refused,
        ):
            await repartition.carry_out()
        return str(refused.value)

    assert "there is no log" in await refusal(16)
    assert "the number of partitions is 1 to 1024" in await refusal(1_025)
    async with running_node(url) as node:
        await node.hub.log.append(kept(0))
        assert "still running: n-" in await refusal(16)
    assert "8 partitions already" in await refusal(8)
    with closing(Repartition(url, 16, lambda *_: None)) as repartition:
        move, census = await repartition.plan()
    assert (len(move.new), census.channels, census.events) == (16, 1, 1)
    with Redis.from_url(url) as redis:
        redis.set(f"hub:{{{move.old[0]}}}:of-a-later-version", "x")
        assert "of-a-later-version" in await refusal(16)
        assert redis.hget("hub:config", "partitions") == b"8"


async def test_a_key_that_a_command_wrote_after_its_move_overwrites_nothing(lone_redis: RedisServer) -> None:
    """A command holds no lease; one that goes on writing in the old partition is found out."""
    log = await Log.open(lone_redis.url)
    stored = await log.append(kept(0))
    key = log.keys.of(kept(0).channel).stream
    await log.close()
    with closing(Repartition(lone_redis.url, 16, lambda *_: None)) as repartition:
        move, census = await repartition.plan()
        moving = replace(move, step="move", channels=census.channels, events=census.events)
        target = Keys(16, move.new).of(kept(0).channel).stream
        with Redis.from_url(lone_redis.url) as redis:
            redis.hset("hub:config", "moving", str(moving))
            redis.rename(key, target)
            redis.xadd(key, {"seq": "1"})

            with pytest.raises(ConfigurationRefused, match="nothing was overwritten"):
                await repartition.carry_out()

            assert [entry[0].decode() for entry in redis.xrange(target)] == [stored.id]
            redis.delete(key)
        assert (await repartition.carry_out()).step == "drop"


def test_every_documented_key_of_a_partition_has_an_owner() -> None:
    """Otherwise `hub repartition` would refuse a log with such a key."""
    values = {"tenant": "acme", "kind": "conversation", "who": "user"}
    for pattern in documented_keys():
        if pattern.startswith(f"hub:{PARTITION}:"):
            name = pattern.partition("}:")[2]
            for part in (
                "tenant",
                "kind",
                "who",
                "name",
                "run",
                "file",
                "key",
                "user",
                "actor",
                "node",
                "request",
                "command",
            ):
                name = name.replace(f"<{part}>", values.get(part, part))
            assert owner_of(name) is not None, pattern
