"""Sockets cut, nodes killed, stores away: the file arrives exactly once, or its upload ends with a reason."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from hub.storage.local import LocalStore
from hub.storage.store import StoredPart, StoreUnavailable
from hub.uploads.limits import UploadLimits
from support.nodes import NodeProcess, token
from support.socket_client import client
from support.uploads import (
    CHANNEL,
    MIB,
    FileHub,
    bring_socket,
    complete,
    download,
    ending,
    file_hub,
    finishing_uploads,
    request,
    send_chunk,
    some_bytes,
    uploader,
)

CHUNK_BYTES = 256 * 1024


@pytest.fixture
async def hub(redis_url: str, tenant: str, tmp_path: Path) -> AsyncIterator[FileHub]:
    async with file_hub(redis_url, tenant, tmp_path) as found:
        yield found


async def ends_of(socket: Any) -> list[str]:
    """Every event that ended an upload of the channel."""
    page = await socket.answer("channel.history", {"types": ["file.ready", "file.upload.failed"]}, CHANNEL)
    return [event["type"] for event in page["payload"]["events"]]


@pytest.mark.parametrize("every", [1, 3, 7])
@pytest.mark.parametrize("binary", [False, True])
async def test_socket_cut_after_every_kth_chunk(hub: FileHub, every: int, binary: bool) -> None:
    """However often the socket is cut, also before a part is whole, the upload goes on where it was."""
    data = some_bytes(6 * MIB)
    status: dict[str, Any] = {}
    cuts = 0
    while status.get("done", {}).get("next_offset", 0) < len(data):
        async with uploader(hub, binary=binary) as socket:
            if not status:
                status = await request(socket, len(data), strategy="socket", resume_key="k")
            else:
                answer = await socket.answer("file.upload.status", {"resume_key": "k"}, CHANNEL)
                status = answer["payload"]
            offset = status["done"]["next_offset"]
            for _ in range(every):
                piece = data[offset : offset + CHUNK_BYTES]
                if not piece:
                    break
                answer = await send_chunk(socket, status["upload_id"], offset, piece, binary=binary)
                offset = answer["next_offset"]
            socket.reset()
            cuts += 1
    async with uploader(hub) as socket:
        end = await complete(socket, status, data)

        assert end["type"] == "file.ready", end
        assert cuts >= 24 // every
        assert (await download(socket, status["upload_id"])).content == data
        assert await ends_of(socket) == ["file.ready"]
    assert list(hub.store.spool.iterdir()) == []


@pytest.mark.slow
async def test_node_killed_mid_upload(redis_url: str, tenant: str, tmp_path: Path) -> None:
    """A killed node costs at most what it had not brought to the store; the client goes on at another."""
    data = some_bytes(12 * MIB)
    nodes = first, second = [NodeProcess(redis_url, HUB_DATA=str(tmp_path)) for _ in range(2)]
    store = LocalStore(tmp_path / "files", lambda: 0.0)
    try:
        await asyncio.gather(first.wait_ready(), second.wait_ready())
        async with finishing_uploads(redis_url, store):
            async with client(first.ws_url, token("alice", tenant)) as socket:
                authorized = await request(socket, len(data), strategy="socket")
                offset = stored = 0
                while offset < 8 * MIB or not stored:  # a chunk sent again tells how much the store has by now
                    at = min(offset, 8 * MIB - CHUNK_BYTES)
                    told = await send_chunk(
                        socket, authorized["upload_id"], at, data[at : at + CHUNK_BYTES], binary=False
                    )
                    offset, stored = told["next_offset"], told["stored_offset"]
                first.kill()
            async with client(second.ws_url, token("alice", tenant)) as socket:
                await socket.subscribe(CHANNEL, after="0")
                status = (await socket.answer("file.upload.status", {"upload_id": authorized["upload_id"]}, CHANNEL))[
                    "payload"
                ]
                assert status["done"]["next_offset"] == 5 * MIB

                await bring_socket(socket, status, data)
                end = await complete(socket, status, data)

                assert end["type"] == "file.ready", end
                assert (await download(socket, authorized["upload_id"])).content == data
                assert await ends_of(socket) == ["file.ready"]
    finally:
        for node in nodes:
            node.close()
        await store.close()


class Moody(LocalStore):
    """A store some of whose next calls fail: `failing` says how often, by name."""

    failing: Counter[str]
    has_failed: asyncio.Event

    def _fail(self, name: str) -> None:
        if self.failing[name]:
            self.failing[name] -= 1
            self.has_failed.set()
            raise StoreUnavailable("the store answered 503")

    async def write_part(self, key: str, handle: str, part: StoredPart, source: Path) -> None:
        self._fail("write_part")
        await super().write_part(key, handle, part, source)

    async def parts(self, key: str, handle: str) -> list[StoredPart]:
        self._fail("parts")
        return await super().parts(key, handle)

    async def finish(self, key: str, handle: str, parts: Sequence[StoredPart]) -> None:
        self._fail("finish")
        await super().finish(key, handle, parts)


@pytest.fixture
def moody(hub: FileHub) -> Moody:
    """The hub's own store, made moody."""
    store = hub.store
    store.__class__ = Moody
    assert isinstance(store, Moody)
    store.failing, store.has_failed = Counter(), asyncio.Event()
    return store


async def test_store_away_while_chunks_come(hub: FileHub, moody: Moody) -> None:
    """A part the store does not take is asked for again, after a pause; the file is whole in the end."""
    data = some_bytes(11 * MIB)
    refused = 0
    async with uploader(hub) as socket:
        authorized = await request(socket, len(data), strategy="socket")
        moody.failing["write_part"] = 1
        offset = 0
        while offset < len(data):
            piece = data[offset : offset + 512 * 1024]
            answer = await send_chunk(socket, authorized["upload_id"], offset, piece, binary=False)
            if not answer["accepted"]:
                refused += 1
                assert (answer["problem"], answer["next_offset"], answer["window"]) == ("offset", 0, 0)
            offset = answer["next_offset"]
        end = await complete(socket, authorized, data)

        assert refused == 1
        assert end["type"] == "file.ready"
        assert (await download(socket, authorized["upload_id"])).content == data


async def test_store_away_while_verifying(hub: FileHub, moody: Moody) -> None:
    """Verification is tried again; the file is ready once."""
    data = some_bytes(6 * MIB)
    async with uploader(hub) as socket:
        authorized = await request(socket, len(data), strategy="socket")
        await bring_socket(socket, authorized, data)
        moody.failing.update(parts=1, finish=1)

        end = await complete(socket, authorized, data)

        assert end["type"] == "file.ready"
        assert await ends_of(socket) == ["file.ready"]


async def test_store_away_for_good(hub: FileHub, moody: Moody) -> None:
    """A file that could not be verified for a quarter of an hour fails as storage, once, and its parts are gone."""
    data = some_bytes(6 * MIB)
    async with uploader(hub) as socket:
        authorized = await request(socket, len(data), strategy="socket")
        await bring_socket(socket, authorized, data)
        moody.failing["finish"] = 1_000
        await socket.answer("file.upload.complete", {"upload_id": authorized["upload_id"]}, CHANNEL)
        await moody.has_failed.wait()
        hub.pass_s(16 * 60)

        await hub.finisher.reap()
        end = await ending(socket, authorized["upload_id"])

        assert (end["type"], end["payload"]["reason"]) == ("file.upload.failed", "storage")
        assert await ends_of(socket) == ["file.upload.failed"]
        assert await hub.left() == []


def _channel(hub: FileHub) -> Any:
    from streams.channel import parse_channel

    return parse_channel(hub.tenant, CHANNEL)


async def test_abandoned_uploads_are_reaped(hub: FileHub) -> None:
    """After a day an upload nobody completed fails as expired, its parts gone; a later chunk is 4022."""
    data = some_bytes(6 * MIB)
    async with uploader(hub) as socket:
        begun = await request(socket, len(data), strategy="socket")
        await send_chunk(socket, begun["upload_id"], 0, data[: 512 * 1024], binary=False)
        parts = await request(socket, 20 * MIB, strategy="multipart")
        hub.pass_s(UploadLimits().life_s + 1)

        await hub.finisher.reap()
        ends = [await ending(socket, upload["upload_id"]) for upload in (begun, parts)]
        status = await socket.answer("file.upload.status", {"upload_id": begun["upload_id"]}, CHANNEL)

        assert [end["payload"]["reason"] for end in ends] == ["expired", "expired"]
        assert ends[0]["meta"]["causation"] == begun["id"]
        assert status["payload"]["code"] == 4022
        assert await hub.left() == []


async def test_reaper_and_claim_at_once(hub: FileHub) -> None:
    """Whoever comes first decides: of a claim and the reaper exactly one ends the upload."""
    async with uploader(hub) as socket:
        authorized = await request(socket, 3, strategy="socket")
        await bring_socket(socket, authorized, b"abc")
        hub.pass_s(UploadLimits().life_s + 1)

        await socket.send("file.upload.complete", {"upload_id": authorized["upload_id"]}, CHANNEL)
        await asyncio.gather(*[hub.finisher.reap() for _ in range(5)])
        await ending(socket, authorized["upload_id"])

        assert len(await ends_of(socket)) == 1


async def test_node_died_before_the_record(hub: FileHub) -> None:
    """A request whose node died on the spot still ends: the reaper fails it from the event alone."""
    async with uploader(hub) as socket:
        authorized = await request(socket, 3)
        channel, records = _channel(hub), hub.node.hub.uploads.records
        await hub.node.hub.log.redis.delete(records._record_key(channel, authorized["upload_id"]))
        hub.pass_s(UploadLimits().life_s + 1)

        await hub.finisher.reap()
        end = await ending(socket, authorized["upload_id"])

        assert end["payload"]["reason"] == "expired"
