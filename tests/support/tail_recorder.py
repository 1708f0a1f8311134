"""A listener of the tail that records what it receives and lets a test wait for it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from streams.channel import Channel
from streams.cursor import Look
from streams.envelope import Entry
from streams.redis.log import Log
from streams.redis.tail import Watched


class TailRecorder:
    """Watches one channel.

    With `is_mending` it reacts to a break as a node does if the log continues: the tail reads on from there.
    """

    def __init__(self, log: Log, channel: Channel, *, is_mending: bool = True) -> None:
        self.log = log
        self.channel = channel
        self.entries: list[Entry] = []
        self.signals: list[Entry] = []
        self.break_count = 0
        self.epoch = ""
        self.watched: Watched | None = None
        self._is_mending = is_mending
        self._news = asyncio.Event()

    @property
    def seqs(self) -> list[int]:
        """The seqs received, in order."""
        return [entry.seq for entry in self.entries]

    async def watch(self) -> Look:
        """Watch the channel from its head."""
        look = await self.log.look(self.channel)
        self.epoch = look.epoch
        self.watched = self.log.tail_of(self.channel).watch(self.channel, look.head, look.live_id, self)
        return look

    def unwatch(self) -> None:
        """Stop watching."""
        assert self.watched is not None
        self.log.tail_of(self.channel).unwatch(self.watched)
        self.watched = None

    def events(self, entries: list[Entry]) -> None:
        """Called by the tail with new events."""
        self.entries += entries
        self._news.set()

    def live(self, entries: list[Entry]) -> None:
        """Called by the tail with new live entries."""
        self.signals += entries
        self._news.set()

    def is_of(self, epoch: str) -> bool:
        """Called by the tail: true if this is the channel's known epoch."""
        return epoch == self.epoch

    def broken(self) -> None:
        """Called by the tail after a break: the cursor must be checked against the log."""
        self.break_count += 1
        self._news.set()
        if self._is_mending and self.watched is not None:
            self.log.tail_of(self.channel).move(self.watched, self.watched.position, self.watched.live_id)

    async def until(self, *, events: int = 0, signals: int = 0, breaks: int = 0, timeout_s: float = 30.0) -> None:
        """Wait until this many events, signals and breaks were received."""
        async with asyncio.timeout(timeout_s):
            while len(self.entries) < events or len(self.signals) < signals or self.break_count < breaks:
                self._news.clear()
                await self._news.wait()


@contextmanager
def deaf(log: Log) -> Iterator[None]:
    """Let the tail of `log` receive no bell entries inside the block, as when its event loop is busy."""
    wire = log.servers.by_partition[0].tail._bells.wire
    assert wire is not None
    transport = wire._transport
    assert transport is not None
    transport.pause_reading()
    try:
        yield
    finally:
        transport.resume_reading()  # also on a wire that was meanwhile given up as hung
