"""Handlers on a real Redis: order, parallel channels, retries, parking, lost groups, takeover."""

from __future__ import annotations

import asyncio

import pytest

from consumers.groups.handler import DONE, Effects, Outcome, Park, Retry, Source, StartFrom
from streams.channel import Channel, Kind
from streams.redis.log import Log
from support.consumer_rig import POLL_S, KillAt, Recorder, Rig, conversation, say

NOTE = "team.notification"


async def test_events_of_a_channel_are_handled_in_order(log: Log, tenant: str) -> None:
    """One channel's events reach a handler one at a time and in the order of the log."""
    handler = Recorder(tenant=tenant)

    async with Rig(log, handler):
        for number in range(50):
            await say(log, conversation(tenant, "a"), str(number))
        await handler.until(lambda: len(handler.seen) == 50)

    assert [("conversation:a", str(number)) for number in range(50)] == handler.seen


async def test_a_poison_event_is_parked_and_delays_only_its_channel(log: Log, tenant: str) -> None:
    """An event that always fails is parked after its attempts; other channels are handled meanwhile, its own goes on after it."""
    calm = asyncio.Event()

    async def react(source: Source, _effects: Effects) -> None:
        if source.payload["text"] == "poison":
            await calm.wait()  # the others must come through while this one is still failing
            raise RuntimeError("always")

    handler = Recorder(react, tenant=tenant)

    async with Rig(log, handler) as rig:
        await say(log, conversation(tenant, "bad"), "poison")
        await say(log, conversation(tenant, "bad"), "next")
        for number in range(20):
            await say(log, conversation(tenant, f"good{number}"), "fine")
        await handler.until(lambda: len(handler.seen) == 20)
        calm.set()
        await handler.until(lambda: ("conversation:bad", "next") in handler.seen)
        parked = await rig.groups.parked(handler.name)

    assert [(f"{tenant}:conversation:bad", "chat.message", 3)] == [(p.path, p.type, p.attempts) for p in parked]
    assert "RuntimeError: always" in parked[0].reason


async def test_parked_work_can_be_put_back_once(log: Log, tenant: str) -> None:
    """Put back, it is handled again by the handler that gave it up, and by no other."""
    is_mended = False

    def react(_source: Source, _effects: Effects) -> Outcome:
        return DONE if is_mended else Park("not yet")

    handler, other = Recorder(react, tenant=tenant), Recorder(tenant=tenant)

    async with Rig(log, handler, other) as rig:
        await say(log, conversation(tenant, "a"), "x")
        await handler.until(lambda: len(handler.seen) == 1)
        await other.until(lambda: len(other.seen) == 1)
        while not (parked := await rig.groups.parked(handler.name)):  # noqa: ASYNC110 - it has no event
            await asyncio.sleep(0)  # the handler returned; its parking is a round trip away
        is_mended = True
        assert await rig.groups.put_back(parked[0].id)
        await handler.until(lambda: len(handler.seen) == 2)

        assert not await rig.groups.put_back(parked[0].id)
        assert len(other.seen) == 1


async def test_retry_keeps_its_place_in_the_channel(log: Log, tenant: str) -> None:
    """An event that is tried again is done before the next one of its channel."""
    tries: list[str] = []

    def react(source: Source, _effects: Effects) -> Outcome:
        tries.append(str(source.payload["text"]))
        return Retry("later", 0.01) if tries.count("first") < 3 else DONE

    handler = Recorder(react, tenant=tenant)

    async with Rig(log, handler):
        await say(log, conversation(tenant, "a"), "first")
        await say(log, conversation(tenant, "a"), "second")
        await handler.until(lambda: "second" in tries)

    assert tries == ["first", "first", "first", "second"]


@pytest.mark.parametrize("point", ["before_handle", "before_append", "after_append", "before_ack", "after_ack"])
async def test_an_effect_happens_once_wherever_the_worker_dies(log: Log, tenant: str, point: str) -> None:
    """Killed at any await, the next worker does the event again, and the log holds the effect once."""
    inbox = Channel(tenant, Kind.USER, "out")

    async def react(source: Source, effects: Effects) -> None:
        for place in ("one", "two"):
            await effects.append(inbox, NOTE, {"kind": "k", "title": f"{source.payload['text']} {place}"})

    first = Recorder(react, tenant=tenant)
    fault = KillAt(point, nth=2 if point in {"before_append", "after_append"} else 1)

    async with Rig(log, first, faults=fault) as doomed:
        await say(log, conversation(tenant, "a"), "x")
        async with asyncio.timeout(40):
            await fault.happened.wait()
        await doomed.crash()
    second = Recorder(react, tenant=tenant, name=first.name)
    async with Rig(log, second):
        await say(log, conversation(tenant, "a"), "y")
        await second.until(lambda: ("conversation:a", "y") in second.seen)

    titles = [entry.payload["title"] for entry in await log.page(inbox)]
    assert titles == ["x one", "x two", "y one", "y two"]


@pytest.mark.parametrize("point", ["before_park", "after_park"])
async def test_parking_happens_once_wherever_the_worker_dies(log: Log, tenant: str, point: str) -> None:
    """A worker killed around parking leaves the event parked exactly once."""
    first = Recorder(lambda *_: Park("no"), tenant=tenant)
    fault = KillAt(point)

    async with Rig(log, first, faults=fault) as doomed:
        await say(log, conversation(tenant, "a"), "x")
        async with asyncio.timeout(40):
            await fault.happened.wait()
        await doomed.crash()
    second = Recorder(
        lambda source, _: Park("no") if source.payload["text"] == "x" else DONE, tenant=tenant, name=first.name
    )
    async with Rig(log, second) as rig:
        await say(log, conversation(tenant, "a"), "y")
        await second.until(lambda: ("conversation:a", "y") in second.seen)
        parked = await rig.groups.parked(first.name)

    assert [row.reason for row in parked] == ["no"]


async def test_a_lost_group_is_made_again_and_nothing_is_left_out(log: Log, tenant: str) -> None:
    """A group destroyed under its reader comes back, with all the work there still is."""
    handler = Recorder(tenant=tenant)
    channel = conversation(tenant, "a")

    async with Rig(log, handler):
        await say(log, channel, "before")
        await handler.until(lambda: ("conversation:a", "before") in handler.seen)
        for partition in range(log.keys.partitions):
            await log.redis.xgroup_destroy(log.keys.work(partition), handler.name)
        await say(log, channel, "after")
        await handler.until(lambda: ("conversation:a", "after") in handler.seen)


async def test_a_new_handler_may_begin_with_history(log: Log, tenant: str) -> None:
    """`BEGINNING` handles what was stored before the handler was there, once; `NOW` does not."""
    for number in range(5):
        await say(log, conversation(tenant, "old"), str(number))
    eager = Recorder(start_from=StartFrom.BEGINNING, tenant=tenant)
    late = Recorder(tenant=tenant)

    async with Rig(log, eager, late):
        await eager.until(lambda: len(eager.seen) == 5)
    again = Recorder(start_from=StartFrom.BEGINNING, tenant=tenant, name=eager.name)
    async with Rig(log, again):
        await say(log, conversation(tenant, "old"), "new")
        await again.until(lambda: len(again.seen) == 1)

    assert [str(number) for number in range(5)] == [text for _, text in eager.seen]
    assert late.seen == []
    assert again.seen == [("conversation:old", "new")]


async def test_two_workers_share_the_partitions(log: Log, tenant: str) -> None:
    """A second worker gets half of the partitions, and all of them when the first one dies."""
    one, two = Recorder(tenant=tenant), Recorder(tenant=tenant)
    two.name = one.name

    async with Rig(log, one) as first, Rig(log, two) as second:
        async with asyncio.timeout(40):
            while len(second.partitions.held) != 4 or len(first.partitions.held) != 4:  # noqa: ASYNC110 - it has no event
                await asyncio.sleep(POLL_S)
        assert set(range(8)) == set(first.partitions.held) | set(second.partitions.held)
        await first.crash()
        for number in range(16):
            await say(log, conversation(tenant, f"c{number}"), "x")
        await two.until(lambda: len(two.seen) == 16)


async def test_work_is_trimmed_behind_every_group(log: Log, tenant: str) -> None:
    """The work stream keeps what some group still needs, and nothing else."""
    handler = Recorder(tenant=tenant)
    channel = conversation(tenant, "a")
    partition = channel.partition_of(log.keys.partitions)

    async with Rig(log, handler) as rig:
        for row in await log.redis.xinfo_groups(log.keys.work(partition)):
            if row["name"].decode() != handler.name:  # other tests' groups keep their work
                await log.redis.xgroup_destroy(log.keys.work(partition), row["name"])
        for number in range(30):
            await say(log, channel, str(number))
        await handler.until(lambda: len(handler.seen) == 30)
        async with asyncio.timeout(40):
            while (await rig.groups.backlog(partition, handler.name)).pending:  # noqa: ASYNC110 - it has no event
                await asyncio.sleep(0)
        await rig.groups.trim(partition)

        assert await log.redis.xlen(log.keys.work(partition)) <= 1
        assert (await rig.groups.backlog(partition, handler.name))[:2] == (0, 0)
