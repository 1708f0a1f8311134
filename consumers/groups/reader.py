"""Reads one handler's work: a channel's events one at a time and in order, channels concurrently, within limits.

Older work always comes first: work that was delivered to another consumer, or in a reply that was lost, is claimed before newer
work of its partition is handed out. Redis delivers in order, so any older unfinished work is pending when newer work has been
read.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Container, Iterable
from functools import partial

from consumers.groups.delivery import Delivery
from consumers.groups.handler import StartFrom
from consumers.tasks import end_tasks
from streams.redis.calls import Calls
from streams.redis.groups import GroupLost, Groups, Work

IN_HAND_MAX = 1_000
"""Maximum amount of work read but not finished, and so the most that a dying worker leaves to its successor."""
READ_MAX = 200
BLOCK_MS = 1_000
"""Longest wait for work. Releasing a partition waits as long, because a read in progress may still return some of its work."""
ORPHAN_IDLE_MS = 15_000
"""Work delivered to this worker that is not in progress after this time, in milliseconds, was lost with a broken connection."""
_log = logging.getLogger(__name__)


class GroupReader:
    """Reads one group's work in its worker's partitions and passes it to the delivery.

    The consumer name is the worker's; after a lost reply it gets a new suffix. So work pending under any other name is known
    not to be in progress here and can be claimed.

    Args:
        delivery: processes the work.
        groups: the consumer groups.
        calls: the calls over a connection of its own, for reads that block.
        worker: the worker's name.
        block_ms: longest wait for work.
        scope: the partitions that the connection reaches; None for all. Others are ignored.
    """

    def __init__(
        self,
        delivery: Delivery,
        groups: Groups,
        calls: Calls,
        worker: str,
        block_ms: int = BLOCK_MS,
        *,
        scope: Container[int] | None = None,
    ) -> None:
        self._scope = scope
        self._delivery = delivery
        self._groups = groups
        self._calls = calls
        self._worker = worker
        self._block_ms = block_ms
        self._losses_count = 0
        self._tokens: dict[int, int] = {}
        self._unsure: set[int] = set()
        self._queues: dict[str, deque[Work]] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._in_hand: set[str] = set()
        self._changed = asyncio.Event()
        self._reading = asyncio.Lock()
        self._may_have_lost = False

    @property
    def name(self) -> str:
        """The handler's name, which is also the name of its group."""
        return self._delivery.handler.name

    @property
    def partitions(self) -> tuple[int, ...]:
        """The partitions whose work is read."""
        return tuple(self._tokens)

    @property
    def _consumer(self) -> str:
        return f"{self._worker}-{self._losses_count}" if self._losses_count else self._worker

    async def take(self, partition: int, token: int) -> None:
        """Start working on a partition: first the unfinished work of its previous worker, then new work."""
        if self._scope is not None and partition not in self._scope:
            return
        await self._groups.ensure(partition, self.name)
        if self._delivery.handler.start_from is StartFrom.BEGINNING:
            await self._groups.add_history(partition, self.name, self._delivery.handler.types)
        found = await self._claim(partition)
        self._tokens[partition] = token  # not earlier, because a read would hand out newer work before the claimed work
        await self._hand_out(found)
        self._changed.set()

    async def leave(self, partition: int, *, is_lost: bool) -> None:
        """Stop working on a partition: at once if it was lost, otherwise after the work in progress."""
        if self._scope is not None and partition not in self._scope:
            return
        self._tokens.pop(partition, None)
        prefix = f"{partition}:"
        tasks = [task for key, task in self._tasks.items() if key.startswith(prefix)]
        if not is_lost and tasks:
            await asyncio.wait(tasks, timeout=5.0)
        await end_tasks(tasks)
        if not is_lost:
            async with self._reading:  # a read in progress may still return work, which the next worker then claims
                pass

    async def run(self) -> None:
        """Reads and hands out work until cancelled, which also ends the work in progress and leaves it pending.

        Raises:
            LogUnavailable: Redis is unreachable. Work in progress continues.
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

    async def find_orphans(self) -> None:
        """Look for work that was delivered elsewhere, or long ago, and is not in progress; the next read claims it."""
        partitions = self.partitions
        with contextlib.suppress(GroupLost):  # the reading loop will notice it, too
            self._unsure |= await self._groups.strays(partitions, self.name, self._consumer)
            for partition in partitions:
                pending = await self._groups.pending(partition, self.name, ORPHAN_IDLE_MS)
                if not pending <= self._in_hand_of(partition):
                    self._unsure.add(partition)

    async def _wait_until_useful(self) -> None:
        while not self._tokens or len(self._in_hand) >= IN_HAND_MAX:
            self._changed.clear()
            await self._changed.wait()

    async def _read(self) -> None:
        if self._may_have_lost:  # a lost reply may have delivered work, and the request may still arrive and do so
            self._losses_count += 1
            for partition in self.partitions:
                await self._groups.ensure(partition, self.name, was_there=True)
            self._unsure.update(self.partitions)
            self._may_have_lost = False
        async with self._reading:
            await self._reclaim()
            if not (tokens := dict(self._tokens)):
                return
            found = await self._groups.read(
                self._calls, self.name, self._consumer, tokens, limit=READ_MAX, block_ms=self._block_ms
            )
            if not found:
                return
            self._unsure |= await self._groups.strays({work.partition for work in found}, self.name, self._consumer)
            self._unsure.update(number for number, token in tokens.items() if self._tokens.get(number) != token)
            await self._hand_out(work for work in found if work.partition not in self._unsure)

    async def _reclaim(self) -> None:
        """Claim and hand out, in order, the pending work of partitions where older work may exist."""
        for partition in self._unsure & self._tokens.keys():
            token = self._tokens.get(partition)
            if token is None:
                continue  # released meanwhile: it stays marked until it is taken again
            self._unsure.discard(partition)
            found = await self._claim(partition)
            if self._tokens.get(partition) == token:
                await self._hand_out(found)

    async def _claim(self, partition: int) -> list[Work]:
        in_hand = self._in_hand_of(partition)
        found = await self._groups.claim(partition, self.name, self._consumer, skip=in_hand)
        await self._groups.drop_consumers(partition, self.name, self._consumer)
        return found

    def _in_hand_of(self, partition: int) -> set[str]:
        prefix = f"{partition}:"
        return {key.removeprefix(prefix) for key in self._in_hand if key.startswith(prefix)}

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
        if self._tasks.get(key) is task:  # cancelled before its first step, so it never ran its own cleanup
            self._let_go(key)

    def _let_go(self, key: str) -> None:
        """Forget a channel; its waiting work stays pending and will be claimed again."""
        for work in self._queues.pop(key):
            self._in_hand.discard(f"{work.partition}:{work.id}")
        del self._tasks[key]
        self._changed.set()

    async def _settle(self, work: Work) -> None:
        try:
            token = self._tokens.get(work.partition)
            if token is None:
                return
            is_ours = await self._delivery.settle(work, token, self._consumer)
            if not is_ours and self._tokens.get(work.partition) == token:
                del self._tokens[
                    work.partition
                ]  # taken over: another worker may be handling this event, and the later ones wait for it
        finally:
            self._in_hand.discard(f"{work.partition}:{work.id}")
            self._changed.set()
