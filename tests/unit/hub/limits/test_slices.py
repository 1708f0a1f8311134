"""Slices: one part of long work in an iteration of the loop, first come first served; short pages beside live work."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from hub.limits.slices import SERVING_S, SHORT_PAGE_EVENTS, Slices
from streams.redis.replay import PAGE_EVENTS


class Iterations:
    """Counts the iterations of the loop."""

    def __init__(self) -> None:
        self.count = 0
        self._loop = asyncio.get_running_loop()
        self._next = self._loop.call_soon(self._pass)

    def _pass(self) -> None:
        self.count += 1
        self._next = self._loop.call_soon(self._pass)

    def close(self) -> None:
        """Stops counting."""
        self._next.cancel()


@pytest.fixture
async def iterations() -> AsyncIterator[Iterations]:
    """The iterations of this test's loop."""
    counted = Iterations()
    yield counted
    counted.close()


async def test_each_iteration_has_one_part_of_the_work_and_who_asks_first_is_first(iterations: Iterations) -> None:
    """Twenty tasks with five parts each, of which all are ready at once."""
    slices, asked, done = Slices(), list[int](), list[tuple[int, int]]()

    async def work(number: int) -> None:
        for _ in range(5):
            asked.append(number)
            await slices.turn()
            done.append((iterations.count, number))

    await asyncio.gather(*(work(number) for number in range(20)))

    assert len({count for count, _ in done}) == len(done) == 100
    assert [number for _, number in done] == asked
    assert slices.waiting_count == 0


async def test_what_runs_without_a_task_waits_in_the_same_row(iterations: Iterations) -> None:
    """The first part runs at once, each of the others in an iteration of its own."""
    slices, done, over = Slices(), list[tuple[int, str]](), asyncio.Event()

    async def wait() -> None:
        await slices.turn()
        done.append((iterations.count, "task"))

    slices.run(lambda: done.append((iterations.count, "first")))
    assert [name for _, name in done] == ["first"]
    waiting = asyncio.create_task(wait())
    await asyncio.sleep(0)
    slices.run(lambda: done.append((iterations.count, "call")))
    slices.run(over.set)
    await over.wait()
    await waiting

    assert [name for _, name in done] == ["first", "task", "call"]
    assert len({count for count, _ in done}) == 3


async def test_a_task_that_is_cancelled_while_it_waits_holds_nobody_up() -> None:
    """Its slice passes, and the next one has its own."""
    slices, done = Slices(), list[int]()

    async def work(number: int) -> None:
        await slices.turn()
        done.append(number)

    tasks = [asyncio.create_task(work(number)) for number in range(4)]
    await asyncio.sleep(0)
    tasks[1].cancel()
    await asyncio.wait(tasks)

    assert done == [0, 2, 3]


async def test_those_that_have_gone_take_no_slice(iterations: Iterations) -> None:
    """After an outage thousands of clients may give up while they wait, and come again behind those that they were."""
    slices, done = Slices(), list[int]()

    async def work() -> None:
        await slices.turn()
        done.append(iterations.count)

    tasks = [asyncio.create_task(work()) for _ in range(100)]
    await asyncio.sleep(0)
    for task in tasks[1:-1]:
        task.cancel()
    await asyncio.wait(tasks)

    assert len(done) == slices.granted_count == 2
    assert done[1] - done[0] <= 3


async def test_pages_are_short_while_others_are_served_and_for_a_moment_after() -> None:
    """Nobody is there to be held up by a long page once nothing was written or told for a while."""
    served, now = 0, 100.0
    slices = Slices(lambda: served, lambda: now)

    assert slices.page().events == SHORT_PAGE_EVENTS  # nothing is known yet
    now += SERVING_S
    assert slices.page().events == PAGE_EVENTS
    served += 1
    assert slices.page().events == SHORT_PAGE_EVENTS
    now += SERVING_S / 2
    served += 1
    assert slices.page().events == SHORT_PAGE_EVENTS
    now += SERVING_S / 2
    assert slices.page().events == SHORT_PAGE_EVENTS
    now += SERVING_S / 2
    assert slices.page().events == PAGE_EVENTS


async def test_nothing_waits_while_nobody_is_served(iterations: Iterations) -> None:
    """All that is ready runs together, and one after the other again once somebody is served; who waited before is not left."""
    served, now = 0, 100.0
    slices, done = Slices(lambda: served, lambda: now), list[int]()

    async def work() -> None:
        await slices.turn()
        done.append(iterations.count)

    together = [asyncio.create_task(work()) for _ in range(5)]
    await asyncio.sleep(0)
    now += SERVING_S
    assert slices.is_free
    together += [asyncio.create_task(work()) for _ in range(5)]
    await asyncio.wait(together)
    served += 1
    apart = [asyncio.create_task(work()) for _ in range(5)]
    await asyncio.wait(apart)

    assert len(set(done[-5:])) == 5
    assert len(set(done[:10])) <= 6
    assert slices.granted_count == len(done) == 15
