"""Files end to end over real sockets and HTTP: each way, each size that bites, and what everybody else sees of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from hub.storage.store import sha256_of
from hub.uploads.verification import ScanResult, ScanVerdict
from streams.records.uploads import UploadRecord
from support.socket_client import client
from support.uploads import (
    CHANNEL,
    MIB,
    WAYS,
    FileHub,
    bring_multipart,
    bring_single,
    bring_socket,
    complete,
    download,
    ending,
    file_hub,
    put,
    request,
    send_chunk,
    some_bytes,
    uploader,
)

SIZES = [1, 5 * MIB - 1, 5 * MIB, 5 * MIB + 1, 17 * MIB + 3]


@pytest.fixture
async def hub(redis_url: str, tenant: str, tmp_path: Path) -> AsyncIterator[FileHub]:
    async with file_hub(redis_url, tenant, tmp_path) as found:
        yield found


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("strategy", WAYS)
async def test_a_file_arrives(hub: FileHub, strategy: str, size: int) -> None:
    """The bytes sent are the bytes stored, verified before the file is ready, whatever the way and the size."""
    data = some_bytes(size)
    async with uploader(hub) as socket:
        authorized = await request(socket, size, strategy=strategy, sha256=sha256_of(data))
        assert authorized["strategy"] == strategy

        await WAYS[strategy](socket, authorized, data)
        end = await complete(socket, authorized)

        assert end["type"] == "file.ready", end
        assert end["payload"]["checksum"] == {"algorithm": "sha256", "type": "full", "value": sha256_of(data)}
        assert end["payload"]["size"] == size
        assert (await download(socket, authorized["upload_id"])).content == data
        assert await hub.left() == [f"{hub.tenant}/{authorized['upload_id']}"]


async def test_parts_by_the_first_urls(hub: FileHub) -> None:
    """The URLs that come with the authorisation work without digests; verification then reads the bytes."""
    data = some_bytes(9 * MIB)
    async with uploader(hub) as socket:
        authorized = await request(socket, len(data), strategy="multipart")
        assert [part["n"] for part in authorized["multipart"]["parts"]] == [1, 2]

        await bring_multipart(socket, authorized, data, checked=False)
        end = await complete(socket, authorized, data)

        assert end["payload"]["checksum"]["value"] == sha256_of(data)


async def test_composite_checksum_without_a_claim(hub: FileHub) -> None:
    """Parts the store verified need no reading again: the composite checksum is published."""
    data = some_bytes(9 * MIB)
    async with uploader(hub) as socket:
        authorized = await request(socket, len(data), strategy="multipart")

        await bring_multipart(socket, authorized, data)
        end = await complete(socket, authorized)

        assert end["payload"]["checksum"]["type"] == "composite"
        assert end["payload"]["checksum"]["value"].endswith("-2")


@pytest.mark.parametrize("strategy", ["auto", "single", "multipart", "socket"])
async def test_an_empty_file(hub: FileHub, strategy: str) -> None:
    """No bytes are a file too; it has no parts, so `multipart` becomes one PUT."""
    async with uploader(hub) as socket:
        authorized = await request(socket, 0, strategy=strategy)
        if authorized["strategy"] == "single":
            await bring_single(socket, authorized, b"")

        end = await complete(socket, authorized, b"")

        assert end["type"] == "file.ready", end
        assert end["payload"]["checksum"]["value"] == sha256_of(b"")


async def test_binary_chunks(hub: FileHub) -> None:
    """Binary messages carry the same file; a small one is sent so by `auto` to who announced it."""
    data = some_bytes(100_000)
    async with uploader(hub, binary=True) as socket:
        authorized = await request(socket, len(data))
        assert authorized["strategy"] == "socket"

        await bring_socket(socket, authorized, data, binary=True)
        end = await complete(socket, authorized, data)

        assert end["type"] == "file.ready"


async def test_binary_needs_the_capability(hub: FileHub) -> None:
    """A binary message from a client that announced nothing closes with 1003."""
    async with uploader(hub) as socket:
        await socket.send_raw(b"\x01" + bytes(40))

        assert await socket.closed() == 1003


async def test_the_story_as_events(hub: FileHub) -> None:
    """Facts are events in the channel with their causes, progress is a signal, and neither has bytes or URLs."""
    data = some_bytes(1000)
    async with uploader(hub, "bob") as follower, uploader(hub) as socket:
        authorized = await request(socket, len(data), strategy="socket", filename="Grüße.txt", mime="text/plain")
        await bring_socket(socket, authorized, data)
        await complete(socket, authorized, data)
        await ending(follower, authorized["upload_id"])

        stored = [frame for frame in follower.seen if frame.get("type", "").startswith("file.") and "seq" in frame]
        assert [event["type"] for event in stored] == ["file.upload.request", "file.upload.complete", "file.ready"]
        assert stored[2]["actor"]["kind"] == "system"
        assert stored[2]["meta"] == {"correlation": stored[1]["id"], "causation": stored[1]["id"]}
        assert stored[2]["payload"]["scan"] == {"engine": "none", "verdict": "skipped"}
        assert (authorized["id"], authorized["seq"]) == (stored[0]["id"], stored[0]["seq"])
        (progress,) = [f["payload"] for f in follower.seen if f["type"] == "file.upload.progress"]
        assert progress == {
            "upload_id": authorized["upload_id"], "user": "alice", "sent": 1000, "total": 1000, "state": "uploading",
        }  # fmt: skip # a table
        assert not any("_store" in text for text in follower.raw)


async def test_a_repeated_request_is_the_same_upload(hub: FileHub) -> None:
    """The same command gives the same upload with fresh URLs, and takes no second slot."""
    payload = {"filename": "a", "size": 3, "mime": "text/plain"}
    async with uploader(hub) as socket:
        await socket.send("file.upload.request", payload, CHANNEL, id_="once")
        first = (await socket.expect("file.upload.authorized"))["payload"]
        await socket.send("file.upload.request", payload, CHANNEL, id_="once")
        again = (await socket.expect("file.upload.authorized"))["payload"]
        await socket.send("file.upload.request", payload | {"size": 4}, CHANNEL, id_="once")
        conflict = await socket.expect("connection.error")

    assert (again["upload_id"], again["id"], again["seq"]) == (first["upload_id"], first["id"], first["seq"])
    assert (first["duplicate"], again["duplicate"]) == (False, True)
    assert conflict["payload"]["code"] == 4009


async def test_a_repeated_complete_is_answered_again(hub: FileHub) -> None:
    """The same complete is the same event, even after the file is ready; another one is 4021 with the state."""
    async with uploader(hub) as socket:
        authorized = await request(socket, 3)
        await bring_single(socket, authorized, b"abc")
        claim = {"upload_id": authorized["upload_id"]}
        await socket.send("file.upload.complete", claim, CHANNEL, id_="done")
        first = await socket.expect("ack", re="done")
        await ending(socket, authorized["upload_id"])
        await socket.send("file.upload.complete", claim, CHANNEL, id_="done")
        again = await socket.expect("ack", re="done")
        other = await socket.answer("file.upload.complete", claim, CHANNEL)

    assert (first["payload"]["id"], again["payload"]["duplicate"]) == (again["payload"]["id"], True)
    assert other["payload"]["code"] == 4021
    assert other["payload"]["details"] == [{"field": "state", "problem": "is ready"}]


async def test_cancel(hub: FileHub) -> None:
    """A cancelled upload fails as cancelled, its bytes are gone before that is said, and nothing may follow."""
    data = some_bytes(6 * MIB)
    async with uploader(hub) as socket:
        authorized = await request(socket, len(data), strategy="socket")
        await send_chunk(socket, authorized["upload_id"], 0, data[: 256 * 1024], binary=False)

        answer = await socket.answer(
            "file.upload.cancel", {"upload_id": authorized["upload_id"], "reason": "wrong file"}, CHANNEL
        )
        end = await ending(socket, authorized["upload_id"])

        assert await hub.left() == []
        assert end["payload"] == {"upload_id": authorized["upload_id"], "reason": "cancelled", "message": "wrong file"}
        assert end["meta"]["causation"] == answer["payload"]["id"]
        for type_, payload in (
            ("file.upload.complete", {}),
            ("file.upload.cancel", {}),
            ("file.upload.sign", {"parts": [{"n": 1}]}),
            ("file.url", {}),
        ):
            name = "file_id" if type_ == "file.url" else "upload_id"
            refused = await socket.answer(type_, payload | {name: authorized["upload_id"]}, CHANNEL)
            assert refused["payload"]["code"] == 4021, refused


async def test_resume_by_key_on_another_node(hub: FileHub, redis_url: str, tmp_path: Path) -> None:
    """After its node is gone a client finds its upload by its own key and goes on from what was stored."""
    data = some_bytes(12 * MIB)
    async with uploader(hub) as socket:
        authorized = await request(socket, len(data), strategy="socket", resume_key="my-file")
        offset = 0
        while offset < 11 * MIB:
            answer = await send_chunk(
                socket, authorized["upload_id"], offset, data[offset : offset + 400_000], binary=False
            )
            offset = answer["next_offset"]

    async with file_hub(redis_url, hub.tenant, tmp_path) as other, uploader(other) as socket:
        status = (await socket.answer("file.upload.status", {"resume_key": "my-file"}, CHANNEL))["payload"]
        assert status["upload_id"] == authorized["upload_id"]
        assert status["done"]["next_offset"] == 10 * MIB

        await bring_socket(socket, status, data)
        end = await complete(socket, status, data)

        assert end["type"] == "file.ready"


async def test_resume_parts(hub: FileHub) -> None:
    """An interrupted upload in parts says which are there, and signs only the others."""
    data = some_bytes(20 * MIB)
    async with uploader(hub) as socket:
        authorized = await request(socket, len(data), strategy="multipart")
        async with httpx.AsyncClient(timeout=30) as http:
            second = authorized["multipart"]["parts"][1]
            assert await put(http, second, data[8 * MIB : 16 * MIB]) == 200

        status = (await socket.answer("file.upload.status", {"upload_id": authorized["upload_id"]}, CHANNEL))["payload"]

        assert [(part["n"], part["size"]) for part in status["done"]["parts"]] == [(2, 8 * MIB)]
        assert [part["n"] for part in status["multipart"]["parts"]] == [1, 3]
        async with httpx.AsyncClient(timeout=30) as http:
            for part in status["multipart"]["parts"]:
                start = (part["n"] - 1) * 8 * MIB
                assert await put(http, part, data[start : start + 8 * MIB]) == 200
        assert (await complete(socket, status, data))["type"] == "file.ready"


async def test_progress_of_a_direct_upload(hub: FileHub) -> None:
    """A sender that puts bytes past the hub reports its progress, and followers are told with name and total."""
    async with uploader(hub, "bob") as follower, uploader(hub) as socket:
        authorized = await request(socket, 100)

        await socket.send("file.upload.progress", {"upload_id": authorized["upload_id"], "sent": 40}, CHANNEL, id_=None)
        told = (await follower.expect("file.upload.progress"))["payload"]

    assert told == {
        "upload_id": authorized["upload_id"], "user": "alice", "sent": 40, "total": 100, "state": "uploading",
    }  # fmt: skip # a table


async def test_downloads_are_for_readers(hub: FileHub) -> None:
    """An address is given to who may read the channel, for a file that is ready, and for nothing else."""
    async with uploader(hub) as socket, client(hub.node.ws_url, hub.token("eve", grants={"team:*": ["*"]})) as eve:
        authorized = await request(socket, 3)
        early = await socket.answer("file.url", {"file_id": authorized["upload_id"]}, CHANNEL)
        await bring_single(socket, authorized, b"abc")
        await complete(socket, authorized)

        unknown = await socket.answer("file.url", {"file_id": "0" * 32}, CHANNEL)
        elsewhere = await socket.answer("file.url", {"file_id": authorized["upload_id"]}, "conversation:other")
        forbidden = await eve.answer("file.url", {"file_id": authorized["upload_id"]}, CHANNEL)

    codes = [answer["payload"]["code"] for answer in (early, unknown, elsewhere, forbidden)]
    assert codes == [4021, 4018, 4018, 4003]


async def test_inline_is_for_harmless_types(hub: FileHub) -> None:
    """In place only what is on the list and is what it says; everything else is a download under its own name."""
    picture = b"\x89PNG\r\n\x1a\n" + bytes(50)
    async with uploader(hub) as socket:
        served = []
        for data, mime, name in (
            (picture, "image/png", "a.png"),
            (picture, "image/jpeg", "b.jpg"),
            (b"<svg>", "image/svg+xml", "Ü.svg"),
        ):
            authorized = await request(socket, len(data), mime=mime, filename=name)
            await bring_single(socket, authorized, data)
            assert (await complete(socket, authorized))["type"] == "file.ready"
            served.append(await download(socket, authorized["upload_id"], disposition="inline"))

    assert [answer.headers["content-disposition"] for answer in served] == [
        'inline; filename="a.png"', 'attachment; filename="b.jpg"', "attachment; filename=\"_.svg\"; filename*=UTF-8''%C3%9C.svg",
    ]  # fmt: skip # a table
    assert all(answer.headers["x-content-type-options"] == "nosniff" for answer in served)


class Suspicious:
    """A scanner that finds what it is told to find."""

    async def scan(self, upload: UploadRecord, content: AsyncIterator[bytes]) -> ScanResult:
        found = b"EICAR" in b"".join([piece async for piece in content])
        return ScanResult("suspicious", ScanVerdict.INFECTED if found else ScanVerdict.CLEAN, "EICAR")


async def test_scanner(redis_url: str, tenant: str, tmp_path: Path) -> None:
    """A scanner looks between verification and ready; what it rejects is gone."""
    async with file_hub(redis_url, tenant, tmp_path, scanner=Suspicious()) as hub, uploader(hub) as socket:
        ends = []
        for data in (b"harmless", b"x EICAR x"):
            authorized = await request(socket, len(data))
            await bring_single(socket, authorized, data)
            ends.append(await complete(socket, authorized))

        assert ends[0]["payload"]["scan"] == {"engine": "suspicious", "verdict": "clean"}
        assert (ends[1]["type"], ends[1]["payload"]["reason"]) == ("file.upload.failed", "infected")
        assert await hub.left() == [f"{tenant}/{ends[0]['payload']['file_id']}"]


async def test_uploads_in_the_snapshot(hub: FileHub) -> None:
    """A joiner is told of the open uploads and their progress; an ended one is not among them."""
    data = some_bytes(1000)
    async with uploader(hub) as socket, client(hub.node.ws_url, hub.token("bob")) as bob:
        authorized = await request(socket, len(data), strategy="socket", filename="b.txt")
        before = (await bob.subscribe(CHANNEL))["state"]["uploads"]
        await socket.send("file.upload.progress", {"upload_id": authorized["upload_id"], "sent": 400}, CHANNEL)
        await bob.expect("file.upload.progress")
        meanwhile = (await bob.answer("channel.state", {}, CHANNEL))["payload"]["state"]["uploads"]
        await bring_socket(socket, authorized, data)
        await complete(socket, authorized)
        after = (await bob.answer("channel.state", {}, CHANNEL))["payload"]["state"]["uploads"]

    shown = {"upload_id": authorized["upload_id"], "user": "alice", "filename": "b.txt", "total": 1000}
    assert before == [shown | {"sent": 0, "state": "requested"}]
    assert meanwhile == [shown | {"sent": 400, "state": "uploading"}]
    assert after == []


async def test_request_over_http(hub: FileHub) -> None:
    """Without a socket too: 201 with the way and absolute addresses, 200 when repeated, and a file in the end."""
    headers = {"Authorization": f"Bearer {hub.token()}", "Idempotency-Key": "h1"}
    body = {"type": "file.upload.request", "payload": {"filename": "a", "size": 3, "mime": "text/plain"}}
    async with hub.node.http() as http, uploader(hub) as socket:
        first = await http.post(f"/v1/channels/{CHANNEL}/events", headers=headers, json=body)
        again = await http.post(f"/v1/channels/{CHANNEL}/events", headers=headers, json=body)
        authorized = first.json()
        assert await put(http, authorized["single"], b"abc") == 200
        claim = {"type": "file.upload.complete", "payload": {"upload_id": authorized["upload_id"]}}
        done = await http.post(
            f"/v1/channels/{CHANNEL}/events", headers=headers | {"Idempotency-Key": "h2"}, json=claim
        )
        end = await ending(socket, authorized["upload_id"])

    assert (first.status_code, again.status_code, done.status_code) == (201, 200, 201)
    assert again.json()["upload_id"] == authorized["upload_id"]
    assert authorized["single"]["url"].startswith(hub.node.url)
    assert end["type"] == "file.ready"


async def test_ten_open_uploads(hub: FileHub) -> None:
    """The eleventh open upload of a user is 4017; when one ends there is room again; others are not concerned."""
    async with uploader(hub) as socket, uploader(hub, "bob") as bob:
        opened = [await request(socket, 3) for _ in range(10)]
        refused = await socket.answer(
            "file.upload.request", {"filename": "a", "size": 1, "mime": "text/plain"}, CHANNEL
        )
        await request(bob, 3)
        await socket.answer("file.upload.cancel", {"upload_id": opened[0]["upload_id"]}, CHANNEL)
        await ending(socket, opened[0]["upload_id"])

        assert refused["payload"]["code"] == 4017
        assert (await request(socket, 3))["upload_id"]
