"""Work reaches a handler in the order of its channel's events, whatever became of the replies and requests that carried it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

import pytest

from consumers.groups.handler import Effects, Source
from consumers.groups.reader import GroupReader
from consumers.handlers.settings import SettingsReactions
from streams.channel import Channel
from streams.envelope import Actor, Draft, Guard
from streams.errors import LogUnavailable
from streams.records.leases import Leases
from streams.records.settings import settings_guard_name
from streams.redis.calls import Calls
from streams.redis.log import Log
from support.consumer_rig import POLL_S, Recorder, Rig, conversation, say
from support.link import linked
from support.redis_server import RedisServer

LIFE_MS = 60_000
"""No lease ends meanwhile: each test gives and takes the partition itself."""


@pytest.fixture
def lone_redis() -> Iterator[RedisServer]:
    """A server of this test alone, on a port, so that a link can lead to it."""
    server = RedisServer(on_port=True)
    yield server
    server.close()


@pytest.fixture
async def lone_log(lone_redis: RedisServer) -> AsyncIterator[Log]:
    """The log on a server of this test alone."""
    log = await Log.open(lone_redis.url)
    yield log
    await log.close()


@dataclass(frozen=True, slots=True)
class Place:
    """A channel and its partition, in the eyes of the test."""

    log: Log
    channel: Channel
    partition: int

    async def pending(self, group: str) -> dict[str, int]:
        """The group's pieces of work that were delivered and are not done, by consumer."""
        key = self.log.keys.work(self.partition)
        rows = (await self.log.redis.xpending(key, group))["consumers"]
        return {row["name"].decode(): row["pending"] for row in rows}

    async def give_to(self, rig: Rig) -> None:
        """The partition is this worker's from now on, as after its lease was lost by whoever had it."""
        await self.log.redis.hset(self.log.keys.lease(self.partition).decode(), "until", "0")
        token = await Leases(self.log, rig.worker).acquire_partition(self.partition, LIFE_MS)
        for reader in rig.readers:
            await reader.take(self.partition, token)


def place_of(log: Log, channel: Channel) -> Place:
    return Place(log, channel, log.keys.of(channel).partition)


def port_of(server: RedisServer) -> int:
    return urlsplit(server.url).port or 0


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Waits for something in Redis, which has no event for it."""
    async with asyncio.timeout(30):
        while not await condition():  # noqa: ASYNC110 - it has no event
            await asyncio.sleep(POLL_S)


@contextlib.asynccontextmanager
async def reading(reader: GroupReader) -> AsyncIterator[None]:
    """The reader reads, and begins again after each failure."""

    async def again_and_again() -> None:
        while True:
            with contextlib.suppress(LogUnavailable):
                await reader.run()

    task = asyncio.create_task(again_and_again())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_partition_is_not_read_before_what_was_left_behind_is_claimed(
    lone_redis: RedisServer, tenant: str
) -> None:
    """The claim is slow, and the reader reads on meanwhile: it has other partitions."""
    handler = Recorder(tenant=tenant)
    async with linked("127.0.0.1", port_of(lone_redis)) as link:
        log, slow = await Log.open(lone_redis.url), await Log.open(link.url)
        place, other = place_of(log, conversation(tenant, "a")), place_of(log, other_partition(log, tenant))
        rig = Rig(slow, handler)
        reads = Calls.at(lone_redis.url, "quick")
        reader = GroupReader(rig.delivery(handler), rig.groups, reads, rig.worker, 20)
        rig.readers = [reader]
        for at in (place, other):
            await rig.groups.ensure(at.partition, handler.name)
        await say(log, place.channel, "first")
        await rig.groups.read(reads, handler.name, "dead", [place.partition], limit=10, block_ms=1_000)
        await say(log, place.channel, "second")
        await other.give_to(rig)

        async with reading(reader):
            with link.delayed(0.2):
                await place.give_to(rig)
            await handler.until(lambda: len(handler.seen) == 2, within_s=30)

        assert [text for _, text in handler.seen] == ["first", "second"]
        reads.close()
        await rig.crash()
        await slow.close()
        await log.close()


async def test_work_whose_reply_was_swallowed_comes_before_newer_work_after_a_take_over(
    lone_redis: RedisServer, lone_log: Log, tenant: str
) -> None:
    """A worker's read waits in Redis when its link dies, and gets the first event after another worker took the partition."""
    old, new = Recorder(tenant=tenant, name="h"), Recorder(tenant=tenant, name="h")
    place = place_of(lone_log, conversation(tenant, "a"))
    async with linked("127.0.0.1", port_of(lone_redis)) as link:
        dying, rig = Rig(lone_log, old), Rig(lone_log, new)
        reads = Calls.at(link.url, "dying")
        reader = dying.readers[0] = GroupReader(dying.delivery(old), dying.groups, reads, dying.worker, 60_000)
        await place.give_to(dying)
        async with reading(reader):
            await until(lambda: is_blocked(lone_log))
            with link.dropped():
                await place.give_to(rig)
                await say(lone_log, place.channel, "first")
                await until(lambda: has_pending(place, "h"))
                async with reading(rig.readers[0]):
                    await say(lone_log, place.channel, "second")
                    await new.until(lambda: len(new.seen) == 2, within_s=30)

        assert [text for _, text in new.seen] == ["first", "second"]
        assert old.seen == []
        reads.close()
        await rig.crash()
        await dying.crash()


async def test_a_read_that_reaches_redis_after_its_worker_gave_it_up_does_not_reorder(
    lone_redis: RedisServer, lone_log: Log, tenant: str
) -> None:
    """The worker has claimed what was pending and reads again; only then its former request arrives, and takes the first event."""
    handler = Recorder(tenant=tenant)
    place = place_of(lone_log, conversation(tenant, "a"))
    async with linked("127.0.0.1", port_of(lone_redis)) as link:
        rig = Rig(lone_log, handler)
        reads = Calls.at(link.url, "late")
        reader = rig.readers[0] = GroupReader(rig.delivery(handler), rig.groups, reads, rig.worker, 20)
        await place.give_to(rig)
        link.holds = b"XREADGROUP"
        async with reading(reader), asyncio.timeout(60):
            former = await link.held.get()
            present = await link.held.get()  # the former one was given up, and what was pending claimed
            link.holds = None
            await say(lone_log, place.channel, "first")
            former.let_through()
            await until(lambda: has_pending(place, handler.name))
            await say(lone_log, place.channel, "second")
            present.let_through()
            await handler.until(lambda: len(handler.seen) == 2, within_s=30)

        assert [text for _, text in handler.seen] == ["first", "second"]
        reads.close()
        await rig.crash()


async def test_work_that_a_late_read_took_is_found_without_newer_work(
    lone_redis: RedisServer, lone_log: Log, tenant: str
) -> None:
    """Nothing else comes for the partition: the upkeep of a worker finds it."""
    handler = Recorder(tenant=tenant)
    place = place_of(lone_log, conversation(tenant, "a"))
    rig = Rig(lone_log, handler)
    await place.give_to(rig)
    await say(lone_log, place.channel, "first")
    late = Calls.at(lone_redis.url, "late")
    await rig.groups.read(late, handler.name, "overtaken", [place.partition], limit=10, block_ms=1_000)

    await rig.readers[0].find_orphans()
    async with reading(rig.readers[0]):
        await handler.until(lambda: len(handler.seen) == 1, within_s=10)

    late.close()
    await rig.crash()


async def test_an_overtaken_worker_leaves_the_next_events_to_the_other(lone_log: Log, tenant: str) -> None:
    """It learns of it when it acknowledges the first one, and does not go on with what it has in hand."""
    may_end, has_begun = asyncio.Event(), asyncio.Event()

    async def react(_source: Source, _effects: Effects) -> None:
        has_begun.set()
        await may_end.wait()

    old, new = Recorder(react, tenant=tenant, name="h"), Recorder(tenant=tenant, name="h")
    place = place_of(lone_log, conversation(tenant, "a"))
    overtaken, rig = Rig(lone_log, old), Rig(lone_log, new)
    await place.give_to(overtaken)
    async with reading(overtaken.readers[0]):
        await say(lone_log, place.channel, "first")
        await say(lone_log, place.channel, "second")
        await has_begun.wait()
        await place.give_to(rig)
        may_end.set()

        async def has_left() -> bool:
            return not overtaken.readers[0].partitions

        await until(has_left)
        await new.until(lambda: len(new.seen) == 2, within_s=10)

    assert [text for _, text in new.seen] == ["first", "second"]
    assert [text for _, text in old.seen] == ["first"]
    await overtaken.crash()
    await rig.crash()


async def test_each_change_of_settings_is_told_when_a_reply_was_swallowed(
    lone_redis: RedisServer, lone_log: Log, tenant: str
) -> None:
    """`conversation.updated` names every change, with the revision that its sender was told."""
    place = place_of(lone_log, conversation(tenant, "a"))
    reactions = SettingsReactions(lone_log)
    rig = Rig(lone_log, reactions)
    await place.give_to(rig)
    assert await configure(lone_log, place.channel, "one") == 1
    late = Calls.at(lone_redis.url, "late")
    await rig.groups.read(late, reactions.name, "overtaken", [place.partition], limit=10, block_ms=1_000)
    async with reading(rig.readers[0]):
        assert await configure(lone_log, place.channel, "two") == 2

        async def both_told() -> bool:
            return len(await told(lone_log, place.channel)) == 2

        await until(both_told)

    assert await told(lone_log, place.channel) == [(1, "one"), (2, "two")]
    late.close()
    await rig.crash()


async def test_consumers_of_workers_that_are_gone_are_forgotten(
    lone_redis: RedisServer, lone_log: Log, tenant: str
) -> None:
    """Each worker reads under a name of its own, which ends when the partition is taken over and nothing of it is left."""
    place = place_of(lone_log, conversation(tenant, "a"))
    late = Calls.at(lone_redis.url, "late")
    for number in range(5):
        handler = Recorder(tenant=tenant, name="h")
        rig = Rig(lone_log, handler)
        await place.give_to(rig)
        async with reading(rig.readers[0]):
            await say(lone_log, place.channel, str(number))
            await handler.until(lambda seen=handler.seen: bool(seen), within_s=10)
            await until(lambda: has_pending(place, "h", 0))
        await rig.crash()

    consumers = await lone_log.redis.xinfo_consumers(lone_log.keys.work(place.partition), "h")
    assert [row["name"].decode() for row in consumers] == [rig.worker]
    late.close()


def other_partition(log: Log, tenant: str) -> Channel:
    """A channel that lies in another partition than `conversation:a`."""
    taken = log.keys.of(conversation(tenant, "a")).partition
    channels = (conversation(tenant, f"b{number}") for number in range(100))
    return next(channel for channel in channels if log.keys.of(channel).partition != taken)


async def is_blocked(log: Log) -> bool:
    """True while somebody's read waits in Redis, other than the log's own."""
    return any(client["cmd"] == "xreadgroup" for client in await log.redis.client_list())


async def has_pending(place: Place, group: str, count: int = 1) -> bool:
    """True when so many pieces of work are pending."""
    return sum((await place.pending(group)).values()) == count


async def configure(log: Log, channel: Channel, title: str) -> int:
    """Append a chat.configure as the edge does; returns the revision that its sender is told."""
    guard = Guard(settings_guard_name(channel), increments=("revision",))
    data = f'{{"settings":{{"title":"{title}"}}}}'.encode()
    draft = Draft(channel, "chat.configure", data, Actor("user", "alice"), guards=(guard,), is_wanted=True)
    return (await log.append(draft)).results[0]


async def told(log: Log, channel: Channel) -> list[tuple[int, str]]:
    """Each `conversation.updated` of the channel: its revision and the title it brings."""
    updates = [entry.payload for entry in await log.page(channel) if entry.type == b"conversation.updated"]
    return [(update["revision"], update["changes"]["title"]) for update in updates]
