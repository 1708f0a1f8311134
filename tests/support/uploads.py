"""Uploads in tests: a node, a worker that completes them, and a client that sends bytes in each of the three ways."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import itertools
import time
from base64 import b64encode
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from consumers.handlers.files import FileReactions
from hub.storage.store import ObjectStore, sha256_of
from hub.uploads.chunks import encode_binary
from hub.uploads.finishing import UploadFinisher
from hub.uploads.limits import UploadLimits
from hub.uploads.verification import NoScanner, Scanner
from streams.redis.log import Log
from support.consumer_rig import Rig
from support.nodes import Node, running_node, token
from support.socket_client import Json, SocketClient, client

CHANNEL = "conversation:files"
MIB = 1024 * 1024
_STARTS = itertools.count(1_000, 1_000)


def some_bytes(size: int) -> bytes:
    """Bytes without repetition between parts; always the same for the same size."""
    block = b"".join(hashlib.sha256(index.to_bytes(4, "big")).digest() for index in range(min(size, MIB) // 32 + 1))
    return (block * (size // len(block) + 1))[:size]


@dataclass(slots=True)
class FileHub:
    """A node that accepts files, and the worker's upload finisher on the same store."""

    node: Node
    finisher: UploadFinisher
    tenant: str

    @property
    def store(self) -> ObjectStore:
        uploads = self.node.hub.uploads
        assert uploads is not None
        return uploads.store

    def token(self, user: str = "alice", **claims: Any) -> str:
        return token(user, self.tenant, **claims)

    def pass_s(self, seconds: float) -> None:
        """Advance the finisher's clock by this many seconds."""
        later = self.finisher._clock() + seconds
        self.finisher._clock = lambda: later

    async def left(self) -> list[str]:
        """All objects and unfinished uploads of this tenant in the store."""
        pending = [found.key for found in await self.store.pending(f"{self.tenant}/")]
        return await self.store.keys(f"{self.tenant}/") + pending


@contextlib.asynccontextmanager
async def finishing_uploads(
    redis_url: str, store: ObjectStore, limits: UploadLimits | None = None, scanner: Scanner | None = None
):
    """Run a worker that completes uploads; yields its finisher."""
    log = await Log.open(redis_url)
    try:
        finisher = UploadFinisher(log, store, limits or UploadLimits(), scanner or NoScanner(), time.time)
        async with Rig(log, FileReactions(finisher)):
            yield finisher
    finally:
        await log.close()


@contextlib.asynccontextmanager
async def file_hub(
    redis_url: str, tenant: str, folder: Path, *, scanner: Scanner | None = None, **settings: Any
) -> AsyncIterator[FileHub]:
    """Run a node and a worker on one store."""
    async with running_node(redis_url, data_dir=str(folder), **settings) as node:
        uploads = node.hub.uploads
        assert uploads is not None
        async with finishing_uploads(redis_url, uploads.store, scanner=scanner) as finisher:
            yield FileHub(node, finisher, tenant)


@contextlib.asynccontextmanager
async def uploader(hub: FileHub, user: str = "alice", *, binary: bool = False) -> AsyncIterator[SocketClient]:
    """A client that is subscribed to the channel."""
    capabilities = ["binary_chunks"] if binary else []
    async with client(hub.node.ws_url, hub.token(user), capabilities=capabilities) as socket:
        # Command IDs are per user, so sockets of one user must not share any.
        socket._ids = itertools.count(next(_STARTS))
        await socket.subscribe(CHANNEL, after="0")
        await socket.expect("channel.resumed")
        yield socket


async def request(socket: SocketClient, size: int, **changes: Any) -> Json:
    """Request an upload; returns the payload of `file.upload.authorized`."""
    payload = {"filename": "a.bin", "size": size, "mime": "application/octet-stream"} | changes
    answer = await socket.answer("file.upload.request", payload, CHANNEL)
    assert answer["type"] == "file.upload.authorized", answer
    found: Json = answer["payload"]
    return found


async def put(http: httpx.AsyncClient, signed: Json, data: bytes) -> int:
    """Carry out a signed PUT; returns the status."""
    answer = await http.put(signed["url"], headers=signed["headers"], content=data)
    return answer.status_code


async def bring_single(socket: SocketClient, authorized: Json, data: bytes) -> None:
    async with httpx.AsyncClient(timeout=30) as http:
        assert await put(http, authorized["single"], data) == 200


async def bring_multipart(socket: SocketClient, authorized: Json, data: bytes, *, checked: bool = True) -> None:
    """Upload every part, requesting URLs 50 at a time with digests (`checked`), or using those of the authorisation."""
    way = authorized["multipart"]
    size, numbers = way["part_size"], range(1, way["part_count"] + 1)
    async with httpx.AsyncClient(timeout=30) as http:
        signed = {} if checked else {part["n"]: part for part in way["parts"]}
        for n in numbers:
            piece = data[(n - 1) * size : n * size]
            if n not in signed:
                page = [
                    {"n": m, **({"sha256": sha256_of(data[(m - 1) * size : m * size])} if checked else {})}
                    for m in numbers[n - 1 : n + 49]
                ]
                wish = {"upload_id": authorized["upload_id"], "parts": page}
                answer = await socket.answer("file.upload.sign", wish, CHANNEL)
                assert answer["type"] == "file.upload.authorized", answer
                signed |= {part["n"]: part for part in answer["payload"]["multipart"]["parts"]}
            assert await put(http, signed[n], piece) == 200


async def send_chunk(socket: SocketClient, upload_id: str, offset: int, data: bytes, *, binary: bool) -> Json:
    """Send a chunk; returns the payload of its answer."""
    if binary:
        await socket.send_raw(encode_binary(upload_id, offset, data))
        return await binary_answer(socket)
    payload = {"upload_id": upload_id, "offset": offset, "data": b64encode(data).decode(), "sha256": sha256_of(data)}
    return (await socket.answer("file.chunk", payload, CHANNEL))["payload"]


async def binary_answer(socket: SocketClient) -> Json:
    """The next answer to a binary chunk: a reply without `re`, as opposed to a signal to subscribers."""
    while True:
        frame = await socket.next()
        if "actor" not in frame and frame["type"] in {"file.upload.progress", "connection.error"}:
            found: Json = frame["payload"]
            return found


async def bring_socket(socket: SocketClient, authorized: Json, data: bytes, *, binary: bool = False) -> None:
    """Send chunk after chunk, each after the answer to the previous one."""
    offset, size = authorized["done"]["next_offset"], authorized["socket"]["chunk_size"]
    while offset < len(data):
        answer = await send_chunk(socket, authorized["upload_id"], offset, data[offset : offset + size], binary=binary)
        assert answer.get("accepted"), answer
        offset = answer["next_offset"]


WAYS: dict[str, Callable[..., Any]] = {"single": bring_single, "multipart": bring_multipart, "socket": bring_socket}


async def complete(socket: SocketClient, authorized: Json, data: bytes | None = None) -> Json:
    """Report that all bytes are sent; returns the event that ends the upload."""
    claim = {"upload_id": authorized["upload_id"], **({"sha256": sha256_of(data)} if data is not None else {})}
    answer = await socket.answer("file.upload.complete", claim, CHANNEL)
    assert answer["type"] == "ack", answer
    return await ending(socket, authorized["upload_id"])


async def ending(socket: SocketClient, upload_id: str) -> Json:
    """Wait for the event that ends an upload."""
    for frame in socket.seen[: socket._at]:
        if _ends(frame, upload_id):
            return frame
    while True:
        frame = await socket.next()
        if _ends(frame, upload_id):
            return frame


def _ends(frame: Json, upload_id: str) -> bool:
    if frame["type"] not in {"file.ready", "file.upload.failed"}:
        return False
    return upload_id in {frame["payload"].get("file_id"), frame["payload"].get("upload_id")}


async def download(socket: SocketClient, file_id: str, **wish: str) -> httpx.Response:
    """Download a file from a newly requested URL."""
    answer = await socket.answer("file.url", {"file_id": file_id, **wish}, CHANNEL)
    assert answer["type"] == "file.url", answer
    async with httpx.AsyncClient(timeout=30) as http:
        return await http.get(answer["payload"]["url"])


async def within(seconds: float, work: Any) -> Any:
    """The result of an awaitable, or TimeoutError after this many seconds."""
    async with asyncio.timeout(seconds):
        return await work
