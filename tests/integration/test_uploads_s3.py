"""Files through a real S3 endpoint over HTTP, each way; the endpoint hanging, or answering 503; the archive there, locked.

The endpoint is localstack-core: it enforces signatures, expiry and checksums, but has no latency, throttling or regions.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Self

import boto3
import pytest
from botocore.exceptions import ClientError

from hub.client import HubClient
from hub.storage.archive import StoreArchive
from hub.storage.choice import ARCHIVE_PREFIX
from hub.storage.s3 import S3Settings, S3Store
from hub.storage.store import composite, sha256_of
from streams.archive.keeper import Keeper
from streams.archive.retention import ObjectLock, parse_retention
from streams.channel import parse_channel
from streams.errors import ArchiveUnavailable
from streams.redis.log import Log
from support.archive_rig import SIGNER, hot_ids, write, write_until_refused
from support.redis_server import RedisServer
from support.s3_server import CREDENTIALS, S3Server, why_missing
from support.uploads import (
    CHANNEL,
    MIB,
    WAYS,
    FileHub,
    bring_multipart,
    complete,
    download,
    ending,
    file_hub,
    request,
    send_chunk,
    some_bytes,
    uploader,
)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(why_missing() is not None, reason=str(why_missing())),
    pytest.mark.timeout(400),
]


@pytest.fixture(scope="module")
def s3() -> Iterator[S3Server]:
    server = S3Server()
    yield server
    server.close()


class Proxy:
    """A proxy before the endpoint: the next `refusals` connections are answered 503, all others pass."""

    def __init__(self, port: int) -> None:
        self.refusals = 0
        self.port = 0
        self._behind = port
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for writer in list(self._open):
            writer.transport.abort()
        await self._server.wait_closed()

    def cut(self) -> None:
        """End every connection, so that the next request comes over a new one."""
        for writer in list(self._open):
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        try:
            if self.refusals:
                self.refusals -= 1
                await reader.readuntil(b"\r\n\r\n")
                writer.write(b"HTTP/1.1 503 Slow Down\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                await writer.drain()
                return
            up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self._behind)
            self._open.add(up_writer)
            await asyncio.gather(_pipe(reader, up_writer), _pipe(up_reader, writer))
            self._open.discard(up_writer)
        except (OSError, asyncio.IncompleteReadError):
            return
        finally:
            self._open.discard(writer)
            writer.close()


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    finally:
        writer.close()


@pytest.fixture
async def proxy(s3: S3Server) -> AsyncIterator[Proxy]:
    async with Proxy(s3.port) as found:
        yield found


@pytest.fixture
async def hub(
    redis_url: str, tenant: str, tmp_path: Path, s3: S3Server, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[FileHub]:
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    settings = {"s3_bucket": s3.bucket(), "s3_endpoint_url": f"http://127.0.0.1:{proxy.port}", "s3_region": "us-east-1"}
    async with file_hub(redis_url, tenant, tmp_path, **settings) as found:
        yield found


@pytest.mark.parametrize(
    "size", [1, 5 * MIB + 1, *(pytest.param(size, marks=pytest.mark.long) for size in (5 * MIB - 1, 5 * MIB, 18 * MIB))]
)
@pytest.mark.parametrize("strategy", WAYS)
async def test_a_file_arrives(hub: FileHub, strategy: str, size: int) -> None:
    """As with the local store: verified against the stored bytes, and the same bytes come back."""
    data = some_bytes(size)
    async with uploader(hub) as socket:
        authorized = await request(socket, size, strategy=strategy, sha256=sha256_of(data))

        await WAYS[strategy](socket, authorized, data)
        end = await complete(socket, authorized)

        assert end["type"] == "file.ready", end
        assert end["payload"]["checksum"]["value"] == sha256_of(data)
        assert (await download(socket, authorized["upload_id"])).content == data
        assert await hub.left() == [f"{hub.tenant}/{authorized['upload_id']}"]


@pytest.mark.parametrize(
    "strategy", [pytest.param(name, marks=pytest.mark.long) for name in ("multipart", "single", "socket")]
)
async def test_200_mb(hub: FileHub, strategy: str, tmp_path: Path) -> None:
    """A large file by the SDK; the digests the store verified make up its checksum."""
    path, data = tmp_path / "large.bin", some_bytes(200 * 1000 * 1000)
    path.write_bytes(data)
    async with HubClient(hub.node.url, hub.token()) as client:
        found = await client.upload(CHANNEL, path, strategy=strategy)

    way = found.ready["checksum"]["type"]
    assert way == ("composite" if strategy == "multipart" else "full")
    parts = [sha256_of(data[start : start + 8 * MIB]) for start in range(0, len(data), 8 * MIB)]
    assert found.ready["checksum"]["value"] == (composite(parts) if way == "composite" else sha256_of(data))
    async with uploader(hub) as socket:
        assert (await download(socket, found.file_id)).content == data


async def test_parts_by_the_first_urls(hub: FileHub) -> None:
    """URLs without digests work too; verification then reads the bytes."""
    data = some_bytes(9 * MIB)
    async with uploader(hub) as socket:
        authorized = await request(socket, len(data), strategy="multipart")
        await bring_multipart(socket, authorized, data, checked=False)

        end = await complete(socket, authorized)

        assert end["payload"]["checksum"] == {"algorithm": "sha256", "type": "full", "value": sha256_of(data)}


@pytest.mark.long
async def test_wrong_checksum_leaves_nothing(hub: FileHub) -> None:
    """A file that is another than claimed is gone from the bucket."""
    async with uploader(hub) as socket:
        for strategy, size in (("single", 100), ("multipart", 9 * MIB), ("socket", 6 * MIB)):
            data = some_bytes(size)
            authorized = await request(socket, size, strategy=strategy)
            await WAYS[strategy](socket, authorized, data)
            end = await complete(socket, authorized, b"other")
            assert end["payload"]["reason"] == "checksum"

    assert await hub.left() == []


async def test_cancel_leaves_no_parts(hub: FileHub) -> None:
    """Parts of a cancelled upload are aborted."""
    async with uploader(hub) as socket:
        authorized = await request(socket, 12 * MIB, strategy="socket")
        for offset in range(0, 6 * MIB, MIB // 2):
            await send_chunk(socket, authorized["upload_id"], offset, bytes(MIB // 2), binary=False)
        await socket.answer("file.upload.cancel", {"upload_id": authorized["upload_id"]}, CHANNEL)
        await ending(socket, authorized["upload_id"])

    assert await hub.left() == []


@pytest.mark.parametrize("refusals", [1, 12])
@pytest.mark.long
async def test_503(hub: FileHub, proxy: Proxy, tmp_path: Path, refusals: int) -> None:
    """A store that answers 503, few times or many, delays an upload over the socket and does not break it."""
    path, data = tmp_path / "a.bin", some_bytes(12 * MIB)
    path.write_bytes(data)

    def refuse(sent: int, _total: int) -> None:
        nonlocal refusals
        if sent > 3 * MIB and refusals:
            proxy.refusals, refusals = refusals, 0
            proxy.cut()

    async with HubClient(hub.node.url, hub.token()) as client:
        found = await client.upload(CHANNEL, path, strategy="socket", on_progress=refuse)

    assert found.ready["checksum"]["value"] == sha256_of(data)
    assert proxy.refusals == 0


async def test_store_hangs_and_comes_back(hub: FileHub, s3: S3Server) -> None:
    """While the store hangs chunks of the next part are taken still, and chat is answered; then the upload goes on."""
    data = some_bytes(7 * MIB)
    async with uploader(hub) as socket:
        authorized = await request(socket, len(data), strategy="socket")
        upload_id = authorized["upload_id"]
        s3.stop()
        try:
            for offset in range(0, 6 * MIB, MIB // 2):
                answer = await send_chunk(socket, upload_id, offset, data[offset : offset + MIB // 2], binary=False)
                assert answer["accepted"]
            assert answer["stored_offset"] == 0
            assert (await socket.say(CHANNEL, "still here"))["type"] == "message.received"
        finally:
            s3.resume()
        while answer["next_offset"] < len(data):
            offset = answer["next_offset"]
            answer = await send_chunk(socket, upload_id, offset, data[offset : offset + MIB // 2], binary=False)
        end = await complete(socket, authorized, data)

        assert end["type"] == "file.ready"


def _archive_on(s3: S3Server, monkeypatch: pytest.MonkeyPatch, lock: ObjectLock | None) -> tuple[StoreArchive, str]:
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    bucket = s3.bucket(is_lockable=lock is not None)
    store = S3Store(S3Settings(bucket, endpoint_url=s3.url, timeout_s=0.3, attempts=1))
    return StoreArchive(store, ARCHIVE_PREFIX, lock), bucket


async def test_the_archive_is_locked(
    s3: S3Server, tenant: str, monkeypatch: pytest.MonkeyPatch, lone_redis: RedisServer
) -> None:
    """Segments, manifests and checkpoints cannot be removed by who has the keys of the bucket; the keeper goes on."""
    archive, bucket = _archive_on(s3, monkeypatch, ObjectLock("COMPLIANCE", 30))
    place = parse_channel(tenant, "conversation:a")
    own = await Log.open(lone_redis.url)
    at_work = Keeper(own, archive, parse_retention("*=hot_count:10"), SIGNER, 60.0)
    for _ in range(2):
        await write(own, place, 40)
        await at_work.turn()
    await own.close()

    client = boto3.session.Session(*CREDENTIALS.values()).client("s3", endpoint_url=s3.url, region_name="us-east-1")
    kinds = set()
    for version in client.list_object_versions(Bucket=bucket)["Versions"]:
        key = version["Key"]
        kind = next((one for one in ("segment", "manifest", "checkpoint") if f"/{one}/" in key), None)
        kinds.add(kind)
        if kind is None:
            continue
        retention = client.get_object_retention(Bucket=bucket, Key=key)["Retention"]
        assert retention["Mode"] == "COMPLIANCE"
        assert retention["RetainUntilDate"] > datetime.now(UTC) + timedelta(days=29)
        with pytest.raises(ClientError, match="AccessDenied"):
            client.delete_object(Bucket=bucket, Key=key, VersionId=version["VersionId"])
    assert {"segment", "manifest", "checkpoint"} < kinds
    client.close()
    await archive.close()


async def test_the_archive_hangs_while_redis_fills(
    s3: S3Server, tenant: str, monkeypatch: pytest.MonkeyPatch, lone_redis: RedisServer
) -> None:
    """All that was acknowledged stays, whatever Redis refuses; the next turn archives it."""
    archive, _ = _archive_on(s3, monkeypatch, None)
    own = await Log.open(lone_redis.url)
    place, at_work = (
        parse_channel(tenant, "conversation:a"),
        Keeper(own, archive, parse_retention("*=hot_count:10"), SIGNER, 60),
    )
    await write(own, place, 40)
    s3.stop()
    ids = await write_until_refused(own, place)
    with pytest.raises(ArchiveUnavailable):
        await at_work.turn()
    assert await hot_ids(own, place) >= set(ids)
    s3.resume()
    await at_work.turn()
    assert (at_work.archived_count, len(await hot_ids(own, place))) == (40 + len(ids) - 10, 10)
    assert await write(own, place, 1)
    await own.close()
    await archive.close()
