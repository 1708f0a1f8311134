"""A partition that changes hands at an awkward moment: none of its work is left lying, and none is given up unbegun."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from consumers.groups.handler import StartFrom
from streams.channel import Channel
from streams.errors import CommandRefused
from streams.records.leases import Leases
from streams.redis.log import Log
from support.consumer_rig import QUICK, Recorder, Rig, conversation, say
from support.redis_server import RedisServer

LIFE_MS = 60_000
"""No lease ends meanwhile: the test itself takes and leaves the partition."""


@pytest.fixture
async def lone_log(lone_redis: RedisServer) -> AsyncIterator[Log]:
    """The log on a server of this test alone."""
    log = await Log.open(lone_redis.url)
    yield log
    await log.close()


class Taking:
    """A handler's reader that is told by the test which partition it has, and one piece of work that nobody finished."""

    def __init__(self, log: Log, handler: Recorder, channel: Channel) -> None:
        self.log, self.handler, self.channel = log, handler, channel
        self.partition = log.keys.of(channel).partition
        self.rig = Rig(log, handler)
        self.reader = self.rig.readers[0]
        self.leases = Leases(log, self.rig.worker)

    async def leave_work_behind(self, text: str) -> None:
        """An event whose work was read by a worker that is no more."""
        groups = self.rig.groups
        await groups.ensure(self.partition, self.handler.name)
        await say(self.log, self.channel, text)
        found = await groups.read(
            self.rig.reads[0], self.handler.name, "dead", [self.partition], limit=10, block_ms=1_000
        )
        assert len(found) == 1

    async def take(self) -> None:
        """The partition is the reader's from now on: it claims what was left behind."""
        await self.reader.take(self.partition, await self.leases.acquire_partition(self.partition, LIFE_MS))


async def test_a_partition_lost_before_its_work_was_begun_is_worked_when_it_comes_back(
    lone_log: Log, tenant: str
) -> None:
    """The lease was lost in the very moment in which its work was handed out; the worker gets it again later."""
    handler = Recorder(tenant=tenant)
    taking = Taking(lone_log, handler, conversation(tenant, "a"))
    await taking.leave_work_behind("asked")

    await taking.take()
    await taking.reader.leave(taking.partition, is_lost=True)  # no task had a turn in between
    await taking.take()

    await handler.until(lambda: handler.seen == [("conversation:a", "asked")], within_s=10)
    await taking.rig.crash()


async def test_work_that_was_taken_over_and_never_begun_is_not_given_up(lone_log: Log, tenant: str) -> None:
    """Taking over counts as no attempt, however often: workers and Redis may come and go as they like."""
    handler = Recorder(tenant=tenant)
    taking = Taking(lone_log, handler, conversation(tenant, "a"))
    await taking.leave_work_behind("asked")
    for number in range(QUICK.attempts_max + 2):
        claimed = await taking.rig.groups.claim(taking.partition, handler.name, f"dead{number}")
        assert [work.type for work in claimed] == ["chat.message"]

    await taking.take()

    await handler.until(lambda: handler.seen == [("conversation:a", "asked")], within_s=10)
    assert await taking.rig.groups.parked() == []
    await taking.rig.crash()


async def test_a_partition_that_cannot_be_taken_is_taken_by_no_reader(lone_log: Log, tenant: str) -> None:
    """One of two readers fails: the other one reads nothing either, the other partitions are worked, and in the end this one."""
    ready, failing = Recorder(tenant=tenant), Recorder(tenant=tenant, start_from=StartFrom.BEGINNING)
    broken = lone_log.keys.of(conversation(tenant, "broken"))
    await lone_log.redis.hset(broken.meta.decode(), "seq", "1")
    await lone_log.redis.set(broken.stream, "not a stream")
    rig = Rig(lone_log, ready, failing)

    with pytest.raises(CommandRefused):
        await rig.partitions.turn()
    others = set(range(lone_log.keys.partitions)) - {broken.partition}
    assert [set(reader.partitions) for reader in rig.readers] == [others, others]
    assert set(rig.partitions.held) == others

    await lone_log.redis.delete(broken.stream)
    await rig.partitions.turn()
    assert [set(reader.partitions) for reader in rig.readers] == [others | {broken.partition}] * 2
    await rig.partitions.close()
