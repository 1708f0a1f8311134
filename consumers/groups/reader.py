"""Reads one handler's work: a channel's events one at a time and in order, channels concurrently, within bounds."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Iterable
from functools import partial

from consumers.groups.delivery import Delivery
from consumers.groups.handler import StartFrom
from consumers.tasks import end_tasks
from streams.redis.calls import Calls
from streams.redis.groups import GroupLost, Groups, Work

IN_HAND_MAX = 1_000
"""Work read and not done. A worker that dies leaves at most this much to its successor."""
READ_MAX = 200
BLOCK_MS = 1_000
"""Longest wait for work; giving up a partition waits as long, for a read that may still return some of its work."""
ORPHAN_IDLE_MS = 15_000
"""Work delivered to this worker and under way nowhere after this time was lost between Redis and a dead connection."""
_log = logging.getLogger(__name__)


class GroupReader:
    """Reads one group's work in its worker's partitions, and has it handled."""

    def __init__(self, delivery: Delivery, groups: Groups, calls: Calls, block_ms: int = BLOCK_MS) -> None:
        self._delivery = delivery
        self._groups = groups
        self._calls = calls
        self._block_ms = block_ms
        self._tokens: dict[int, int] = {}
        self._queues: dict[str, deque[Work]] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._in_hand: set[str] = set()
        self._changed = asyncio.Event()
        self._reading = asyncio.Lock()
        self._may_have_lost = False

    @property
    def name(self) -> str:
        """The handler's name, which is the group's."""
        return self._delivery.handler.name

    @property
    def partitions(self) -> tuple[int, ...]:
        """The partitions whose work is read."""
        return tuple(self._tokens)

    async def take(self, partition: int, token: int) -> None:
        """Begins with a partition: first the unfinished work of its last worker, then new work."""
        await self._groups.ensure(partition, self.name)
        if self._delivery.handler.start_from is StartFrom.BEGINNING:
            await self._groups.add_history(partition, self.name, self._delivery.handler.types)
        self._tokens[partition] = token
        await self._reclaim(partition, idle_ms=0)
        self._changed.set()

    async def leave(self, partition: int, *, is_lost: bool) -> None:
        """Stops with a partition: at once if it was lost, else after the work under way."""
        self._tokens.pop(partition, None)
        prefix = f"{partition}:"
        tasks = [task for key, task in self._tasks.items() if key.startswith(prefix)]
        if not is_lost and tasks:
            await asyncio.wait(tasks, timeout=5.0)
        await end_tasks(tasks)
        if not is_lost:
            async with self._reading:  # a read under way may still return its work, which the next worker then claims
                pass

    async def run(self) -> None:
        """Reads and hands out work until cancelled, which ends the work under way and leaves it pending.

        Raises:
            LogUnavailable: Redis is unreachable. The work under way goes on.
        """
        try:
            while True:
                await self._wait_until_useful()
                try:
                    await self._read()
                except GroupLost:
                    _log.warning("the group %s was lost; creating it again", self.name)
                    self._may_have_lost = True
        except asyncio.CancelledError:
            await end_tasks(list(self._tasks.values()))
            raise
        finally:
            self._may_have_lost = True

    async def reclaim_orphans(self) -> None:
        """Claims work that was delivered to this group long ago and is under way nowhere."""
        for partition in self.partitions:
            with contextlib.suppress(GroupLost):  # the reading loop will notice it, too
                await self._reclaim(partition, ORPHAN_IDLE_MS)

    async def _wait_until_useful(self) -> None:
        while not self._tokens or len(self._in_hand) >= IN_HAND_MAX:
            self._changed.clear()
            await self._changed.wait()

    async def _read(self) -> None:
        if self._may_have_lost:  # a lost reply may have been a delivery
            for partition in self.partitions:
                await self._groups.ensure(partition, self.name, was_there=True)
                await self._reclaim(partition, idle_ms=0)
            self._may_have_lost = False
        async with self._reading:
            found = await self._groups.read(
                self._calls, self.name, self._delivery.worker, self.partitions, limit=READ_MAX, block_ms=self._block_ms
            )
            await self._hand_out(found)

    async def _reclaim(self, partition: int, idle_ms: int) -> None:
        in_hand = {key.partition(":")[2] for key in self._in_hand if key.startswith(f"{partition}:")}
        found = await self._groups.claim(partition, self.name, self._delivery.worker, idle_ms=idle_ms, skip=in_hand)
        await self._hand_out(found)

    async def _hand_out(self, found: Iterable[Work]) -> None:
        unwanted: dict[int, list[str]] = {}
        for work in found:
            if work.only in {"", self.name} and work.type in self._delivery.handler.types:
                self._enqueue(work)
            else:
                unwanted.setdefault(work.partition, []).append(work.id)
        for partition, ids in unwanted.items():
            if (token := self._tokens.get(partition)) is not None:
                await self._groups.ack(partition, self.name, token, ids)

    def _enqueue(self, work: Work) -> None:
        key = f"{work.partition}:{work.path}"
        self._in_hand.add(f"{work.partition}:{work.id}")
        self._queues.setdefault(key, deque()).append(work)
        if key not in self._tasks:
            task = self._tasks[key] = asyncio.create_task(self._settle_channel(key), name=f"{self.name} {key}")
            task.add_done_callback(partial(self._ended, key))

    async def _settle_channel(self, key: str) -> None:
        queue = self._queues[key]
        try:
            while queue:
                await self._settle(queue.popleft())
        finally:
            self._let_go(key)

    def _ended(self, key: str, task: asyncio.Task[None]) -> None:
        if self._tasks.get(key) is task:  # it was cancelled before its first step, and so never came to its own end
            self._let_go(key)

    def _let_go(self, key: str) -> None:
        """Forgets a channel; what waits in it stays pending, to be claimed again."""
        for work in self._queues.pop(key):
            self._in_hand.discard(f"{work.partition}:{work.id}")
        del self._tasks[key]
        self._changed.set()

    async def _settle(self, work: Work) -> None:
        try:
            token = self._tokens.get(work.partition)
            if token is not None:
                await self._delivery.settle(work, token)
        finally:
            self._in_hand.discard(f"{work.partition}:{work.id}")
            self._changed.set()
