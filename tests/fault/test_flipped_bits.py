"""A bit flips on the disk: Redis does not start on it, or the event is named and never served.

An RDB file has a checksum of Redis's own. The commands in an append-only file have none: a flipped bit in a payload loads, and what
finds it is the checksum that each event is stored with.
"""

from __future__ import annotations

import asyncio
import json
import random
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from hub.handlers.history import HistoryQuery, read_history
from ops.cli.failure import CommandFailed
from ops.torture.resp import ask
from ops.torture.servers import RedisChild, find_servers
from streams.audit.channel_check import verify_log
from streams.channel import Channel, Kind, parse_channel
from streams.cursor import Gap, GapReason
from streams.envelope import Actor, Draft, Entry
from streams.errors import StreamsError
from streams.records.snapshots import Snapshot, Snapshots
from streams.redis.log import Log
from streams.redis.stored import StoredLog
from support.nodes import running_node, token
from support.socket_client import client

SERVERS = find_servers()
CHANNEL = parse_channel("acme", "conversation:flipped")
FLIPS = 12
MARK = b"the quick brown fox"


def said(number: int) -> Draft:
    text = f"{MARK.decode()} {number}"
    data = json.dumps({"text": text}, separators=(",", ":")).encode()
    return Draft(CHANNEL, "chat.message", data, Actor("user", "alice"), command=f"c-{number}")


class Disk:
    """A Redis whose files are damaged between two lives."""

    def __init__(self, name: str, folder: Path) -> None:
        self.server = RedisChild(SERVERS[name], folder / "redis")
        self._kept = folder / "kept"

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.server.port}/0"

    async def written(self, count: int, *, is_rewritten: bool) -> list[Entry]:
        """Events on the disk, half of them in the file that a rewrite makes; the server is dead then."""
        self.server.start()
        await self.server.ready()
        log = await Log.open(self.url)
        for number in range(count):
            await log.append(said(number))
            if is_rewritten and number == count // 2:
                await self._rewrite()
        found = await log.page(CHANNEL)
        await log.close()
        return found

    async def _rewrite(self) -> None:
        await ask(self.server.port, "BGREWRITEAOF")
        async with asyncio.timeout(30):
            while b"aof_rewrite_in_progress:0" not in await ask(self.server.port, "INFO", "persistence"):
                pass  # each look is a round trip

    async def snapshot(self) -> None:
        """An RDB file, and nothing else."""
        await ask(self.server.port, "SAVE")

    def keep(self) -> None:
        """From now on each damage is done to the disk as it is."""
        self.server.kill()
        shutil.copytree(self.server.folder, self._kept)

    def files(self, marked: bytes = b"") -> list[Path]:
        """The files that hold data; those with this in them."""
        found = [file for file in sorted(self._kept.rglob("*")) if file.suffix in {".aof", ".rdb"}]
        return [file for file in found if marked in file.read_bytes()]

    async def started_with(self, file: Path, at: int, bit: int, *extra: str) -> bool:
        """Flip a bit and start; false when Redis refuses."""
        self.server.kill()
        shutil.rmtree(self.server.folder)
        shutil.copytree(self._kept, self.server.folder)
        damaged = self.server.folder / file.relative_to(self._kept)
        data = bytearray(damaged.read_bytes())
        data[at] ^= 1 << bit
        damaged.write_bytes(data)
        self.server.start(*extra)
        ready = asyncio.create_task(self.server.ready())
        while not ready.done() and self.server.is_running:
            await asyncio.wait([ready], timeout=0.02)
        ready.cancel()
        await asyncio.gather(ready, return_exceptions=True)
        return self.server.is_running

    async def read(self) -> tuple[list[Entry], list[str]]:
        """The events as the hub reads them, and what an audit says."""
        try:
            log = await StoredLog.open(self.url)
        except StreamsError as error:
            return [], [str(error)]
        if log is None:
            return [], ["there is no log"]
        found: list[Entry] = []
        try:
            while page := await log.page(CHANNEL, found[-1].id.decode() if found else "0"):
                found += page
            return found, (await verify_log(log, CHANNEL)).faults
        except (StreamsError, CommandFailed) as error:
            return found, [str(error)]
        finally:
            log.close()


@pytest.fixture(params=sorted(SERVERS))
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Disk]:
    """One for each server this machine has."""
    made = Disk(request.param, tmp_path)
    yield made
    made.server.kill()


def outcome(before: list[Entry], after: list[Entry], faults: list[str]) -> str:
    """The fate of the events: every one that is shown is one that was stored, or the audit has named something."""
    stored = {entry[2:]: entry.seq for entry in before}
    shown = [entry for entry in after if not entry.is_damaged]
    if altered := [entry for entry in shown if entry[2:] not in stored]:
        return f"SERVED: {altered[0]}"
    if faults:
        return "named"
    if [entry[1:] for entry in shown] != [entry[1:] for entry in before][: len(shown)]:
        return "HOLE"
    if len(shown) < len(before):
        return "cut off at the end by Redis"
    return "as it was" if shown == before else "another id in the same order"


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_a_flipped_bit_anywhere_in_the_append_only_file(disk: Disk) -> None:
    """In the part a rewrite made, and in the commands after it."""
    before = await disk.written(40, is_rewritten=True)
    disk.keep()
    chance, found = random.Random(9), Counter[str]()
    for _ in range(FLIPS):
        file = chance.choice(disk.files(MARK))
        at, bit = chance.randrange(file.stat().st_size), chance.randrange(8)
        found[outcome(before, *await disk.read()) if await disk.started_with(file, at, bit) else "refused"] += 1

    print(disk.server.port, dict(found))
    assert not [name for name in found if name.startswith("SERVED") or name == "HOLE"], found
    assert found["refused"]


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_a_flipped_bit_in_a_payload_of_the_append_only_file_is_named(disk: Disk) -> None:
    """Redis loads it; nobody is shown it, and the audit names the event."""
    before = await disk.written(20, is_rewritten=False)
    disk.keep()
    (file,) = disk.files(MARK)
    place = file.read_bytes().index(b"fox 7")

    assert await disk.started_with(file, place, 1)
    after, faults = await disk.read()

    assert [entry.seq for entry in after if entry.is_damaged] == [8]
    assert [entry for entry in after if entry.seq != 8] == [entry for entry in before if entry.seq != 8]
    assert faults == [f"event {before[7].id.decode()} is damaged: its bytes do not match their checksum"]


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_a_flipped_bit_in_a_snapshot_is_refused(disk: Disk) -> None:
    """RDB files end with a CRC-64 that Redis looks at."""
    await disk.written(20, is_rewritten=False)
    await disk.snapshot()
    disk.keep()
    (file,) = [file for file in disk.files() if file.suffix == ".rdb" and "base" not in file.name]
    for other in disk.files():
        if other != file:
            other.unlink()
    chance = random.Random(3)
    for _ in range(4):
        at, bit = chance.randrange(9, file.stat().st_size), chance.randrange(8)
        assert not await disk.started_with(file, at, bit, "--appendonly", "no")


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_who_follows_is_told_of_a_gap_and_the_others_are_served(disk: Disk) -> None:
    """A reader from the beginning gets what is before it and is told of a gap; history leaves it out; folds pass over it."""
    await disk.written(20, is_rewritten=False)
    disk.keep()
    (file,) = disk.files(MARK)
    assert await disk.started_with(file, file.read_bytes().index(b"fox 7"), 1)

    channel = CHANNEL.wire
    async with running_node(disk.url) as node, client(node.ws_url, token("ann", "acme")) as reader:
        opened = await reader.subscribe(channel, after="0")
        before = await reader.events(7)
        told = await reader.expect("channel.subscribed", channel=channel)
        await reader.say(channel, "new")
        (new,) = await reader.events(1)
        page = await read_history(node.hub.log.replay, CHANNEL, HistoryQuery(after="0"))
        back = await read_history(node.hub.log.replay, CHANNEL, HistoryQuery(limit=50))
        broken_count = node.hub.states.broken_count

    gap = told["payload"]["gap"]
    texts = [message["text"] for message in opened["state"]["messages"]]
    assert ([event["seq"] for event in before], new["seq"]) == ([1, 2, 3, 4, 5, 6, 7], 21)
    assert (gap["reason"], gap["from_seq"], gap["to_seq"]) == ("trimmed", 8, 20)
    assert [entry.seq for entry in page.events] == [entry.seq for entry in back.events]
    assert [entry.seq for entry in page.events] == [seq for seq in range(1, 22) if seq != 8]
    assert page.gap == back.gap == Gap(GapReason.TRIMMED, 8, 8)
    assert (len(texts), broken_count) == (19, 1)
    assert opened["state"]["count"] == 20


@pytest.mark.slow
async def test_a_damaged_snapshot_of_a_state_is_not_used(log: Log, tenant: str) -> None:
    """The state is folded from the log instead."""
    channel, snapshots = Channel(tenant, Kind.CONVERSATION, "1"), Snapshots(log)
    await snapshots.save(channel, Snapshot("e", b'{"title":"one"}'))
    key = log.keys.snapshot(channel)
    stored = await log.redis.get(key)
    found = await snapshots.load(channel)

    await log.redis.set(key, stored.replace(b"one", b"two"))

    assert found == Snapshot("e", b'{"title":"one"}')
    assert await snapshots.load(channel) is None
