"""Keeps the runs a worker is at: renews their leases, and hears when they should stop.

Tasks of its own, which no agent can hold up unless it blocks the whole loop; then the leases end, and that is right.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import Final, NamedTuple

from consumers.runs.control import Control, Stop
from consumers.runs.services import Services
from streams.channel import Channel
from streams.errors import LogUnavailable
from streams.records.run_hints import listen

POLL_S: Final = 1.0
"""The flag behind the hint: a lost hint costs a second."""
_log = logging.getLogger(__name__)


class Kept(NamedTuple):
    """A segment under way."""

    channel: Channel
    run_id: str
    holder: str
    control: Control


class Keeper:
    """The segments this worker is at."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._kept: dict[tuple[str, str], Kept] = {}
        self._hinted = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    def add(self, kept: Kept) -> None:
        """Look after this segment from now on."""
        self._kept[kept.channel.path, kept.run_id] = kept
        self._services.meters.runs_active = len(self._kept)
        self._idle.clear()

    def remove(self, kept: Kept) -> None:
        """The segment is over."""
        if self._kept.get((kept.channel.path, kept.run_id)) is kept:
            del self._kept[kept.channel.path, kept.run_id]
        self._services.meters.runs_active = len(self._kept)
        if not self._kept:
            self._idle.set()

    async def run(self) -> None:
        """Renew, poll and listen, for ever."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._renew_always(), name="run-leases")
            group.create_task(self._poll_always(), name="run-flags")
            group.create_task(listen(self._services.log.redis, self._hint), name="run-hints")

    async def drain(self, within_s: float) -> None:
        """Let the segments finish for a while, then hand over those that have not."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await self._idle.wait()
        for kept in list(self._kept.values()):
            kept.control.throw(Stop.HAND_OVER)
        await self._idle.wait()

    def _hint(self, path: str, run_id: str) -> None:
        if (path, run_id) in self._kept:
            self._hinted.set()

    async def _renew_always(self) -> None:
        services = self._services
        while True:
            await asyncio.sleep(services.lease_ms / 3000)
            kept = list(self._kept.values())
            try:
                alive = await services.leases.renew_runs(
                    [(one.channel, one.run_id, one.holder) for one in kept], services.lease_ms
                )
            except LogUnavailable as error:
                _log.debug("run leases wait for Redis: %s", error)
                continue
            for one, is_alive in zip(kept, alive, strict=True):
                if not is_alive:
                    one.control.throw(Stop.FENCED)

    async def _poll_always(self) -> None:
        while True:
            self._hinted.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(POLL_S):
                    await self._hinted.wait()
            with contextlib.suppress(LogUnavailable):
                await self._poll()

    async def _poll(self) -> None:
        kept = list(self._kept.values())
        for one, flags in zip(
            kept, await self._services.store.flags([(one.channel, one.run_id) for one in kept]), strict=True
        ):
            if flags.holder != one.holder:
                one.control.throw(Stop.FENCED)
            elif flags.cancel:
                one.control.throw(Stop.CANCEL_NOW if flags.cancel == "force" else Stop.CANCEL)
            one.control.steers = flags.steers
