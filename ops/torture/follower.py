"""One SDK client that follows a channel, is cut at random, and remembers every byte."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence

from hub.client import Event, HubClient
from ops.torture.plan import Seen


class Follower:
    """Follows one channel from its beginning for as long as it runs.

    Attributes:
        seen: every event handed out, in order.
        cuts: how often the plug was pulled.
    """

    def __init__(self, number: int, urls: Sequence[str], token: str, channel: str, seed: int) -> None:
        self.number = number
        self.channel = channel
        self.seen: list[Seen] = []
        self.cuts = 0
        self._random = random.Random(f"{seed}:{number}")
        urls = list(urls)
        self._random.shuffle(urls)
        self._client = HubClient(urls, token, connect_timeout_s=60.0, jitter=self._random.random)
        self._grew = asyncio.Event()

    @property
    def hub_faults(self) -> tuple[int, int]:
        """Holes and repeats the hub sent, which the SDK mended: the lists hide them, so they are counted."""
        return self._client.hub_faults

    async def run(self, cut_every_s: float, calm: asyncio.Event) -> None:
        """Follow until cancelled; be cut until `calm` is set."""
        async with self._client as hub:
            cutter = asyncio.create_task(self._cut(cut_every_s, calm))
            try:
                async for event in hub.subscribe(self.channel, after="0", state=False):
                    if isinstance(event, Event):
                        self.seen.append((event.seq, event.id, event.raw))
                        self._grew.set()
            finally:
                cutter.cancel()

    async def reached(self, seq: int) -> None:
        """Until an event with this seq, or a later one, was seen."""
        while not self.seen or self.seen[-1][0] < seq:
            self._grew.clear()
            await self._grew.wait()

    async def _cut(self, every_s: float, calm: asyncio.Event) -> None:
        while not calm.is_set():
            await asyncio.sleep(self._random.expovariate(1 / every_s))
            if not calm.is_set():
                self._client.cut()
                self.cuts += 1
