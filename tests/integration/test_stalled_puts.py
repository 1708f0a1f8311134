"""Signed PUTs that stall: one at a time for each part, a bound for each file, a least pace."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hub.storage import local
from hub.storage.local import PUTS_BY_KEY_MAX, LocalRequest, LocalStore, TooManyPuts, TooSlow

SIZE = 1_000


async def stalling(begun: asyncio.Event) -> AsyncIterator[bytes]:
    """One byte, and then silence."""
    yield b"x"
    begun.set()
    await asyncio.Event().wait()


async def whole() -> AsyncIterator[bytes]:
    """All the bytes announced."""
    yield b"x" * SIZE


def part_of(handle: str, n: int) -> LocalRequest:
    """The signed PUT of a part, as it is after its signature was checked."""
    return LocalRequest("PUT", "acme/f1", {"upload": handle, "part": str(n)}, {"content-length": str(SIZE)})


async def test_a_part_is_received_once_at_a_time_and_a_file_by_few(tmp_path: Path) -> None:
    """150 parallel PUTs of one URL that stalled held 273 MB; one is taken, the others are told to come again."""
    store = LocalStore(tmp_path, time.time)
    handle = await store.begin("acme/f1", "text/plain", is_checked=True)
    held = []
    for n in range(1, PUTS_BY_KEY_MAX + 1):
        begun = asyncio.Event()
        held.append(asyncio.create_task(store.receive(part_of(handle, n), stalling(begun))))
        await begun.wait()

    with pytest.raises(TooManyPuts):
        await store.receive(part_of(handle, 1), whole())
    with pytest.raises(TooManyPuts):
        await store.receive(part_of(handle, 99), whole())
    for task in held:
        task.cancel()
    await asyncio.gather(*held, return_exceptions=True)

    assert await store.receive(part_of(handle, 1), whole())
    await store.close()


async def test_a_body_that_stalls_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It had no deadline. Nothing of it stays in the spool."""
    monkeypatch.setattr(local, "GRACE_S", 0.05)
    store = LocalStore(tmp_path, time.time)
    handle = await store.begin("acme/f1", "text/plain", is_checked=True)

    with pytest.raises(TooSlow):
        await store.receive(part_of(handle, 1), stalling(asyncio.Event()))

    assert list(store.spool.iterdir()) == []
    await store.close()


async def test_a_body_that_stalls_after_a_fast_beginning_is_given_up_as_soon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its first 1.9 MB, come at once, bought it two minutes of silence."""
    monkeypatch.setattr(local, "GRACE_S", 0.05)
    store = LocalStore(tmp_path, time.time)
    handle = await store.begin("acme/f1", "text/plain", is_checked=True)
    size = 4_000_000
    ticket = LocalRequest("PUT", "acme/f1", {"upload": handle, "part": "1"}, {"content-length": str(size)})

    async def fast_then_still() -> AsyncIterator[bytes]:
        yield b"x" * 1_900_000
        await asyncio.Event().wait()

    async with asyncio.timeout(10):
        with pytest.raises(TooSlow):
            await store.receive(ticket, fast_then_still())

    assert list(store.spool.iterdir()) == []
    await store.close()


async def test_a_busy_disk_is_not_held_against_the_sender(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The only thread was busy for longer than a sender may be silent, and the sender was told to be too slow."""
    monkeypatch.setattr(local, "GRACE_S", 0.05)
    store = LocalStore(tmp_path, time.time, threads=1)
    handle = await store.begin("acme/f1", "text/plain", is_checked=True)
    size, is_free = 2_000_000, threading.Event()
    ticket = LocalRequest("PUT", "acme/f1", {"upload": handle, "part": "1"}, {"content-length": str(size)})
    occupying: list[asyncio.Task[bool]] = []

    async def at_once() -> AsyncIterator[bytes]:
        occupying.append(asyncio.create_task(store._threads.run(is_free.wait)))
        await asyncio.sleep(0)  # it has the thread now
        asyncio.get_running_loop().call_later(0.3, is_free.set)
        yield b"x" * size

    assert await store.receive(ticket, at_once())
    assert await asyncio.gather(*occupying) == [True]
    await store.close()
