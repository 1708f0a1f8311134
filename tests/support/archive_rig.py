"""A keeper on a real Redis and a real folder, which can be killed at any await."""

from __future__ import annotations

import asyncio
import ctypes
import time
from collections.abc import Coroutine, Generator
from contextlib import suppress
from pathlib import Path
from typing import Any

from hub.storage.archive import StoreArchive
from hub.storage.local import LocalStore
from streams.archive.keeper import Keeper
from streams.archive.notes import Signer
from streams.archive.retention import parse_retention
from streams.channel import Channel
from streams.envelope import Actor, Draft
from streams.errors import StreamsError
from streams.redis.log import Log

SIGNER = Signer("hub.test", bytes(range(32)))


def archive_in(folder: Path) -> StoreArchive:
    """The archive in a folder."""
    return StoreArchive(LocalStore(folder, time.time))


def keeper(log: Log, folder: Path, retention: str = "*=hot_count:10") -> Keeper:
    """A keeper with this policy."""
    return Keeper(log, archive_in(folder), parse_retention(retention), SIGNER, 60.0)


async def write(log: Log, channel: Channel, count: int, text: str = "hello") -> list[str]:
    """Append messages in this order; their IDs."""
    drafts = (
        Draft(channel, "chat.message", f'{{"text":"{text} {number}"}}'.encode(), Actor("user", "alice"))
        for number in range(count)
    )
    return [appended.id for appended in await asyncio.gather(*map(log.append, drafts))]


async def write_until_refused(log: Log, channel: Channel) -> list[str]:
    """Fill a Redis that gets a limit of 2 MB more than it uses; the IDs of what was acknowledged."""
    await log.read_memory()
    await log.redis.config_set("maxmemory", log.memory[0] + 2_097_152)
    found: list[str] = []
    try:
        while True:
            found += await write(log, channel, 1, "x" * 4_000)
    except StreamsError:
        return found


async def hot_ids(log: Log, channel: Channel) -> set[str]:
    """The IDs of all events in Redis."""
    raw = await log.calls_of(channel).call("XRANGE", log.keys.of(channel).stream, "-", "+")
    return {entry[0].decode() for entry in raw}


class KilledAt:
    """Awaits a coroutine that ends for ever at its n-th await; what it has sent by then takes effect.

    Attributes:
        is_finished: the coroutine ended before.
    """

    def __init__(self, work: Coroutine[Any, Any, object], awaits: int) -> None:
        self._work, self._left = work, awaits
        self.is_finished = False

    def __await__(self) -> Generator[Any, None, None]:
        steps = self._work.__await__()
        failure: Exception | None = None
        while True:
            try:
                waited = steps.send(None) if failure is None else steps.throw(failure)
            except StopIteration:
                self.is_finished = True
                return
            if self._left == 0:
                for part in (steps, self._work):  # never collected: a process that dies runs no clean-up either
                    ctypes.pythonapi.Py_IncRef(ctypes.py_object(part))
                with suppress(Exception):  # nobody is told any more
                    yield waited
                return
            self._left -= 1
            failure = None
            try:
                yield waited
            except Exception as error:  # of what it waited for: it is told, as a task tells it
                failure = error
