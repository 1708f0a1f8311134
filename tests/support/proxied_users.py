"""SDK users behind proxies: each writes to and follows a channel of its own while the nodes are restarted one after the other."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from hub.client import Event, HubClient, Subscribed
from streams.channel import Channel, Kind
from streams.redis.log import Log
from support.nodes import NodeProcess, token
from support.sdk_followers import Seen, compare, read_all

PACE_S: Final = 0.05
"""Pause between two messages of a user, so that two cores serve all users."""
LEAST: Final = 10
"""Messages that each user writes at least."""


@dataclass(slots=True)
class ProxiedUser:
    """One user: a client that writes and a client that reads, both through the same address.

    Attributes:
        sent: the event of each message that the hub acknowledged, as seq.
        transports: the ways to the hub that the reader has used.
        starts: the number of times that the reader's subscription began, at first and after each lost connection.
        problems: errors that the user saw.
    """

    name: str
    url: str
    tenant: str
    sent: list[int] = field(default_factory=list)
    seen: list[Seen] = field(default_factory=list)
    transports: set[str] = field(default_factory=set)
    starts: int = 0
    problems: list[str] = field(default_factory=list)
    hub_faults: tuple[int, int] = (0, 0)
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def channel(self) -> Channel:
        """The user's own channel."""
        return Channel(self.tenant, Kind.CONVERSATION, self.name)

    async def run(self, calm: asyncio.Event) -> None:
        """Write until `calm` is set, and read until everything written was read."""
        try:
            async with asyncio.TaskGroup() as group:
                reading = group.create_task(self._read())
                await group.create_task(self._write(calm))
                while len(self.seen) < len(self.sent):
                    self._news.clear()
                    async with asyncio.timeout(60):
                        await self._news.wait()
                reading.cancel()
        except* Exception as group_error:
            self.problems += [repr(error) for error in group_error.exceptions]
            self._news.set()

    async def started(self) -> None:
        """Wait until a message has come back."""
        while not self.seen and not self.problems:
            self._news.clear()
            await self._news.wait()

    async def wrote(self, count: int) -> None:
        """Wait until that many messages are acknowledged."""
        while len(self.sent) < count and not self.problems:
            self._news.clear()
            await self._news.wait()

    async def _write(self, calm: asyncio.Event) -> None:
        async with HubClient(self.url, token(self.name, self.tenant)) as hub:
            number = 0
            while not calm.is_set():
                number += 1
                self.sent.append((await hub.send(self.channel.wire, f"{number} from {self.name}")).seq)
                self._news.set()
                await asyncio.sleep(PACE_S)

    async def _read(self) -> None:
        async with HubClient(self.url, token(self.name, self.tenant)) as hub:
            try:
                async for item in hub.subscribe(self.channel.wire, after="0", state=False, with_receipts=True):
                    if isinstance(item, Event):
                        self.seen.append((item.seq, item.id, item.raw))
                        self._news.set()
                    self.starts += isinstance(item, Subscribed)
                    self.transports.add(str(hub.transport))
            finally:
                self.hub_faults = hub.hub_faults

    async def check(self, log: Log) -> list[str]:
        """The differences from a perfect run: errors, events lost, repeated or out of order, for the writer or the reader."""
        stored = await read_all(log, self.channel)
        problems = self.problems + [fault.problem for fault in compare(0, self.channel.wire, self.seen, stored)]
        if self.sent != [seq for seq, _, _ in stored]:
            problems.append(f"acknowledged: {self.sent}, stored: {[seq for seq, _, _ in stored]}")
        if self.hub_faults != (0, 0):
            problems.append(f"the hub sent holes and repeats: {self.hub_faults}")
        return problems


async def rolling_restart(
    nodes: Sequence[NodeProcess],
    users: Sequence[ProxiedUser],
    slow_users: Sequence[ProxiedUser] = (),
    *,
    rounds: int = 1,
) -> None:
    """Restart each node once all users but the slow ones are at work; each comes back before the next one goes."""
    calm = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        for user in (*users, *slow_users):
            group.create_task(user.run(calm))
        async with asyncio.timeout(60):
            await asyncio.gather(*(user.started() for user in users))
        for _ in range(rounds):
            for node in nodes:
                await asyncio.to_thread(node.terminate)
                node.start()
                await node.wait_ready()
        await asyncio.gather(*(user.started() for user in slow_users))
        async with asyncio.timeout(60):  # a quick restart, or a slow machine: a few messages would prove little
            await asyncio.gather(*(user.wrote(LEAST) for user in (*users, *slow_users)))
        calm.set()
