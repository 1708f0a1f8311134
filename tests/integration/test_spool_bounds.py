"""Bytes of files on their way into the store are bounded on a node's disk, by user and in all, however they come."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from hub.storage.local import CHECKSUM_HEADER, PUTS_BY_OWNER_MAX, LocalRequest, LocalStore, TooManyPuts
from hub.storage.spool_budget import SpoolBudget, SpoolFull
from hub.storage.store import NewObject, sha256_of
from support.uploads import FileHub, complete, file_hub, request, send_chunk, some_bytes, uploader

CHUNK = 64 * 1024
SIZE = 6 * 1024 * 1024


def spooled_bytes(hub: FileHub) -> int:
    """Bytes of parts in the spool."""
    return sum(path.stat().st_size for path in hub.store.spool.glob("*.part"))


async def test_uploads_that_were_left_make_room_for_further_ones(redis_url: str, tenant: str, tmp_path: Path) -> None:
    """Begun and cancelled again and again, each left its part for ten minutes; now a user has so many bytes there, and no more."""
    data = some_bytes(SIZE)
    async with file_hub(redis_url, tenant, tmp_path) as hub, uploader(hub) as socket:
        hub.store.budget = SpoolBudget(owner_max_bytes=3 * CHUNK)
        first = await request(socket, SIZE, strategy="socket")
        await send_chunk(socket, first["upload_id"], 0, data[:CHUNK], binary=False)
        held = []
        for _ in range(8):
            left = await request(socket, SIZE, strategy="socket")
            taken = await send_chunk(socket, left["upload_id"], 0, data[:CHUNK], binary=False)
            assert taken.get("accepted"), taken
            await socket.answer("file.upload.cancel", {"upload_id": left["upload_id"]}, "conversation:files")
            held.append(spooled_bytes(hub))
        again = await send_chunk(socket, first["upload_id"], CHUNK, data[CHUNK : 2 * CHUNK], binary=False)
        offset = again["next_offset"]
        hub.store.budget = SpoolBudget()
        while offset < SIZE:
            answer = await send_chunk(socket, first["upload_id"], offset, data[offset : offset + CHUNK], binary=False)
            offset = answer["next_offset"]
        end = await complete(socket, first, data)

    assert max(held) <= 3 * CHUNK
    assert (again["accepted"], again["next_offset"]) == (False, 0)
    assert end["type"] == "file.ready"


async def test_a_full_node_asks_for_the_same_chunk_again(redis_url: str, tenant: str, tmp_path: Path) -> None:
    """Nothing of the chunk is taken, and nothing of the upload is lost: 4013 until there is room."""
    data = some_bytes(2 * CHUNK)
    async with file_hub(redis_url, tenant, tmp_path) as hub, uploader(hub) as socket:
        authorized = await request(socket, len(data), strategy="socket")
        hub.store.budget = budget = SpoolBudget(node_max_bytes=CHUNK)
        budget.add("somebody/else", 1)
        full = await send_chunk(socket, authorized["upload_id"], 0, data[:CHUNK], binary=False)
        budget.give_back("somebody/else", 1)
        taken = await send_chunk(socket, authorized["upload_id"], 0, data[:CHUNK], binary=False)
        hub.store.budget = SpoolBudget()
        await send_chunk(socket, authorized["upload_id"], CHUNK, data[CHUNK:], binary=False)
        end = await complete(socket, authorized, data)

    assert (full["code"], full["retry_after_ms"]) == (4013, 1_000)
    assert taken["next_offset"] == CHUNK
    assert end["type"] == "file.ready"


async def test_one_user_does_not_take_all_puts_of_a_node(tmp_path: Path) -> None:
    """By number and by bytes; somebody else's PUT is received meanwhile, and what ended makes room."""
    store = LocalStore(tmp_path, time.time)
    store.budget = SpoolBudget(owner_max_bytes=100 * PUTS_BY_OWNER_MAX)

    async def ticket(number: int, owner: str, size: int = 100) -> LocalRequest:
        data = b"x" * size
        signed = await store.sign_put(
            NewObject(f"acme/{owner}-{number}", size, "text/plain", sha256_of(data)), 60, owner
        )
        query = dict(pair.split("=") for pair in signed.url.partition("?")[2].split("&"))
        return LocalRequest(
            "PUT", f"acme/{owner}-{number}", query, {**signed.headers, CHECKSUM_HEADER: sha256_of(data)}
        )

    begun = asyncio.Semaphore(0)

    async def stalling():
        yield b"x"
        begun.release()
        await asyncio.Event().wait()

    async def whole(size: int = 100):
        yield b"x" * size

    large = await ticket(0, "acme/mallory", 100 * PUTS_BY_OWNER_MAX)
    held = [asyncio.create_task(store.receive(await ticket(1, "acme/mallory"), stalling()))]
    await begun.acquire()
    with pytest.raises(TooManyPuts):  # too many bytes
        await store.receive(large, whole())
    for number in range(2, PUTS_BY_OWNER_MAX + 1):
        held.append(asyncio.create_task(store.receive(await ticket(number, "acme/mallory"), stalling())))
        await begun.acquire()
    with pytest.raises(TooManyPuts):
        await store.receive(await ticket(99, "acme/mallory"), whole())
    assert await store.receive(await ticket(1, "acme/alice"), whole())
    for task in held:
        task.cancel()
    await asyncio.gather(*held, return_exceptions=True)

    assert store.budget.held_bytes == 0
    assert await store.receive(await ticket(99, "acme/mallory"), whole())
    await store.close()


def test_a_budget_is_by_owner_and_in_all() -> None:
    """One piece beyond the bound is taken where nothing else is held: it could never be taken otherwise."""
    budget = SpoolBudget(node_max_bytes=100, owner_max_bytes=60)
    budget.require("a", 90)
    budget.add("a", 50)
    with pytest.raises(SpoolFull) as of_owner:
        budget.require("a", 20)
    budget.require("b", 50)
    budget.add("b", 50)
    with pytest.raises(SpoolFull) as of_node:
        budget.require("c", 1)
    budget.give_back("a", 50)
    budget.require("c", 50)

    assert (of_owner.value.owner, of_node.value.owner) == ("a", "")
