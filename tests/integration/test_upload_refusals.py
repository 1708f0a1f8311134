"""Uploads that must not get through: each its code or its reason, and nothing left behind in the store."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from hub.storage.store import sha256_of
from support.nodes import running_node
from support.socket_client import client
from support.uploads import (
    CHANNEL,
    MIB,
    WAYS,
    FileHub,
    binary_answer,
    bring_multipart,
    bring_single,
    bring_socket,
    complete,
    download,
    ending,
    file_hub,
    finishing_uploads,
    put,
    request,
    send_chunk,
    some_bytes,
    uploader,
)

PAGE = "https://app.example"
PREFLIGHT = {"Origin": PAGE, "Access-Control-Request-Method": "PUT"}


@pytest.fixture
async def hub(redis_url: str, tenant: str, tmp_path: Path) -> AsyncIterator[FileHub]:
    async with file_hub(redis_url, tenant, tmp_path) as found:
        yield found


@pytest.mark.parametrize(("changes", "code", "field"), [
    ({"filename": "../../etc/passwd"}, 4005, "filename"),
    ({"filename": "nul\x00byte"}, 4005, "filename"),
    ({"filename": "x" * 300}, 4005, "filename"),
    ({"filename": "ü" * 256}, 4005, "filename"),
    ({"filename": "gpj.\u202eexe"}, 4005, "filename"),
    ({"filename": ".."}, 4005, "filename"),
    ({"mime": "text/html"}, 4017, "mime"),
    ({"mime": "no type"}, 4005, "mime"),
    ({"size": 10**15}, 4017, "size"),
    ({"size": -1}, 4005, "size"),
    ({"sha256": "abc"}, 4005, "sha256"),
])  # fmt: skip # a case a row
async def test_bad_requests(hub: FileHub, changes: dict[str, Any], code: int, field: str) -> None:
    """A name, type or size that is not taken is refused before anything is stored."""
    payload = {"filename": "a", "size": 1, "mime": "text/plain"} | changes
    async with uploader(hub) as socket:
        answer = await socket.answer("file.upload.request", payload, CHANNEL)
        history = await socket.answer("channel.history", {"types": ["file.*"]}, CHANNEL)

    assert answer["payload"]["code"] == code
    assert answer["payload"]["details"][0]["field"] == field
    assert history["payload"]["events"] == []
    assert await hub.left() == []


@pytest.mark.parametrize("strategy", ["single", "multipart", "socket"])
async def test_wrong_checksum(hub: FileHub, strategy: str) -> None:
    """A file that is not the one whose digest was claimed fails as checksum, and is gone."""
    data = some_bytes(6 * MIB)
    async with uploader(hub) as socket:
        authorized = await request(socket, len(data), strategy=strategy)
        await WAYS[strategy](socket, authorized, data)

        end = await complete(socket, authorized, b"other")

    assert (end["type"], end["payload"]["reason"]) == ("file.upload.failed", "checksum")
    assert await hub.left() == []


async def test_wrong_checksum_of_a_part(hub: FileHub) -> None:
    """A part that is not what its sender claims in the end fails the upload."""
    data = some_bytes(9 * MIB)
    async with uploader(hub) as socket:
        authorized = await request(socket, len(data), strategy="multipart")
        await bring_multipart(socket, authorized, data, checked=False)
        claim = {"upload_id": authorized["upload_id"], "parts": [{"n": 2, "sha256": sha256_of(b"other")}]}

        await socket.answer("file.upload.complete", claim, CHANNEL)
        end = await ending(socket, authorized["upload_id"])

    assert end["payload"]["reason"] == "checksum"
    assert await hub.left() == []


async def test_wrong_size(hub: FileHub) -> None:
    """Fewer bytes than announced fail as size; more are refused by the store and by the socket."""
    async with uploader(hub) as socket, httpx.AsyncClient(timeout=30) as http:
        nothing = await request(socket, 100)
        short = await request(socket, 9 * MIB, strategy="multipart")
        long = await request(socket, 3)
        chunked = await request(socket, 3, strategy="socket")
        assert await put(http, short["multipart"]["parts"][0], some_bytes(8 * MIB)) == 200
        headers = long["single"]["headers"] | {"content-length": "4"}
        refused = await http.put(long["single"]["url"], headers=headers, content=b"abcd")
        beyond = await send_chunk(socket, chunked["upload_id"], 0, b"abcd", binary=False)

        ends = [await complete(socket, upload) for upload in (nothing, short)]
        missing = await socket.answer("file.upload.complete", {"upload_id": chunked["upload_id"]}, CHANNEL)

    assert [end["payload"]["reason"] for end in ends] == ["size", "size"]
    assert refused.status_code == 403
    assert beyond["code"] == 4017
    assert (missing["payload"]["code"], missing["payload"]["details"]) == (
        4021,
        [{"field": "next_offset", "problem": "is 0"}],
    )
    assert await hub.left() == []


async def test_a_page_under_another_name(hub: FileHub) -> None:
    """HTML that calls itself a picture, and a program that calls itself one, fail as type."""
    async with uploader(hub) as socket:
        reasons = []
        for data in (b"<!DOCTYPE html><script>alert(1)</script>", b"\x7fELF" + bytes(60)):
            authorized = await request(socket, len(data), mime="image/png", filename="a.png")
            await bring_single(socket, authorized, data)
            reasons.append((await complete(socket, authorized))["payload"]["reason"])

    assert reasons == ["type", "type"]
    assert await hub.left() == []


async def test_chunk_after_complete(hub: FileHub) -> None:
    """Once the claim is stored no chunk is taken any more."""
    async with uploader(hub) as socket:
        authorized = await request(socket, 3, strategy="socket")
        await bring_socket(socket, authorized, b"abc")
        await complete(socket, authorized)

        answer = await send_chunk(socket, authorized["upload_id"], 0, b"abc", binary=False)

    assert answer["code"] == 4021


async def test_somebody_elses_upload(hub: FileHub) -> None:
    """In the same channel it is 4003, and a manager may cancel it; from elsewhere it is not there."""
    grants = {"conversation:*": ["read", "upload"]}
    foreign = {"upload_id": "", "sent": 1}
    async with uploader(hub) as alice, client(hub.node.ws_url, hub.token("mallory", grants=grants)) as mallory:
        authorized = await request(alice, 9 * MIB, strategy="multipart")
        foreign["upload_id"] = upload_id = authorized["upload_id"]
        codes = [
            (await mallory.answer(type_, payload, CHANNEL))["payload"]["code"]
            for type_, payload in (
                ("file.upload.sign", {"upload_id": upload_id, "parts": [{"n": 1}]}),
                ("file.upload.status", {"upload_id": upload_id}),
                ("file.upload.progress", foreign),
                ("file.upload.complete", {"upload_id": upload_id}),
                ("file.upload.cancel", {"upload_id": upload_id}),
            )
        ]
        chunk = await send_chunk(mallory, upload_id, 0, b"x", binary=False)
        elsewhere = await mallory.answer("file.upload.status", {"upload_id": upload_id}, "conversation:other")
        async with client(hub.node.ws_url, hub.token("boss")) as boss:
            managed = await boss.answer("file.upload.cancel", {"upload_id": upload_id}, CHANNEL)

    assert codes == [4003] * 5
    assert chunk["code"] == 4003
    assert elsewhere["payload"]["code"] == 4018
    assert managed["type"] == "ack"


async def test_another_tenants_upload(hub: FileHub, redis_url: str, tmp_path: Path) -> None:
    """Another tenant's upload does not exist, as text and as binary chunk."""
    other = FileHub(hub.node, hub.finisher, f"{hub.tenant}-x")
    async with uploader(hub) as alice, uploader(other, binary=True) as mallory:
        authorized = await request(alice, 9, strategy="socket")
        upload_id = authorized["upload_id"]

        answers = [
            (await mallory.answer("file.upload.status", {"upload_id": upload_id}, CHANNEL))["payload"],
            (await mallory.answer("file.url", {"file_id": upload_id}, CHANNEL))["payload"],
            await send_chunk(mallory, upload_id, 0, b"x", binary=False),
            await send_chunk(mallory, upload_id, 0, b"x", binary=True),
        ]

    assert [answer["code"] for answer in answers] == [4018] * 4
    assert answers[3]["details"] == [{"field": "upload_id", "problem": f"is {upload_id}"}]


async def test_reader_may_not_upload(hub: FileHub) -> None:
    """Uploading is an action of its own; a binary chunk is held to it too."""
    grants = {"conversation:*": ["read"]}
    async with client(hub.node.ws_url, hub.token("eve", grants=grants), capabilities=["binary_chunks"]) as eve:
        payload = {"filename": "a", "size": 1, "mime": "text/plain"}
        asked = await eve.answer("file.upload.request", payload, CHANNEL)
        async with uploader(hub, "eve") as allowed:
            authorized = await request(allowed, 3, strategy="socket")
        chunk = await send_chunk(eve, authorized["upload_id"], 0, b"abc", binary=True)

    assert (asked["payload"]["code"], chunk["code"]) == (4003, 4003)


async def test_damaged_and_misplaced_chunks(hub: FileHub) -> None:
    """A chunk with a wrong checksum or offset is answered with where to go on; a repeated one is accepted again."""
    async with uploader(hub, binary=True) as socket:
        authorized = await request(socket, 9, strategy="socket")
        upload_id = authorized["upload_id"]
        payload = {"upload_id": upload_id, "offset": 0, "data": "YWJj", "sha256": sha256_of(b"other")}
        damaged = (await socket.answer("file.chunk", payload, CHANNEL))["payload"]
        ahead = await send_chunk(socket, upload_id, 3, b"def", binary=True)
        first = await send_chunk(socket, upload_id, 0, b"abc", binary=True)
        again = await send_chunk(socket, upload_id, 0, b"abc", binary=True)
        broken = bytearray(29 + 3)
        broken[0] = 1
        broken[1:17] = bytes.fromhex(upload_id)
        broken[24] = 3
        await socket.send_raw(bytes(broken))
        crc = await binary_answer(socket)
        await socket.send_raw(b"\x07nonsense")
        nonsense = (await socket.expect("connection.error"))["payload"]

    assert (damaged["accepted"], damaged["problem"], damaged["next_offset"]) == (False, "checksum", 0)
    assert (ahead["accepted"], ahead["problem"], ahead["next_offset"]) == (False, "offset", 0)
    assert (first["accepted"], again["accepted"], again["next_offset"]) == (True, True, 3)
    assert (crc["accepted"], crc["problem"], crc["next_offset"]) == (False, "checksum", 3)
    assert nonsense["code"] == 4005


async def test_url_used_after_the_end(hub: FileHub) -> None:
    """A signed PUT that is used after its upload was cancelled leaves nothing: the reaper looks once more."""
    async with uploader(hub) as socket, httpx.AsyncClient(timeout=30) as http:
        authorized = await request(socket, 3)
        await socket.answer("file.upload.cancel", {"upload_id": authorized["upload_id"]}, CHANNEL)
        await ending(socket, authorized["upload_id"])
        assert await put(http, authorized["single"], b"abc") == 200
        assert await hub.left() != []

        hub.pass_s(3600)
        await hub.finisher.reap()

    assert await hub.left() == []


async def test_limits_by_settings(redis_url: str, tenant: str, tmp_path: Path) -> None:
    """Size, a tenant's sum and types are the operator's; room comes back when an upload fails, and stays taken by files."""
    limits = {"upload_size_limit_bytes": 600, "upload_tenant_limit_bytes": 1_000, "upload_types": "image/*, text/plain"}
    async with file_hub(redis_url, tenant, tmp_path, **limits) as hub, uploader(hub) as socket:

        async def ask(size: int, mime: str = "text/plain") -> dict[str, Any]:
            wish = {"filename": "a", "size": size, "mime": mime}
            return (await socket.answer("file.upload.request", wish, CHANNEL))["payload"]

        first = await ask(600)
        refused = [await ask(601), await ask(401), await ask(1, "application/pdf")]
        await socket.answer("file.upload.cancel", {"upload_id": first["upload_id"]}, CHANNEL)
        await ending(socket, first["upload_id"])
        kept = await ask(600)
        await bring_single(socket, kept, b"a" * 600)
        assert (await complete(socket, kept))["type"] == "file.ready"
        full = await ask(401)

    assert [answer["code"] for answer in [*refused, full]] == [4017] * 4
    assert [answer["details"][0]["field"] for answer in [*refused, full]] == ["size", "size", "mime", "size"]


@pytest.fixture
async def open_hub(redis_url: str, tenant: str, tmp_path: Path) -> AsyncIterator[FileHub]:
    """A node that takes files, open to one page of another origin."""
    async with file_hub(redis_url, tenant, tmp_path, allowed_origins=frozenset({PAGE})) as found:
        yield found


@pytest.mark.parametrize("name", ["é" * 255, "😀" * 255])
async def test_a_name_has_255_characters_however_many_bytes(hub: FileHub, name: str) -> None:
    """The limit counts code points: such a file goes in, and comes out under its whole name."""
    async with uploader(hub) as alice:
        authorized = await request(alice, 3, filename=name)
        async with httpx.AsyncClient(timeout=30) as http:
            await http.put(authorized["single"]["url"], headers=authorized["single"]["headers"], content=b"abc")
        ready = await complete(alice, authorized)
        answer = await download(alice, ready["payload"]["file_id"])

    assert ready["payload"]["filename"] == name
    assert answer.content == b"abc"


@pytest.mark.parametrize("size", [1, 12 * MIB])
async def test_whoever_sends_all_before_it_reads_still_sees_the_refusal(hub: FileHub, size: int) -> None:
    """A body under a signature that does not hold is answered 403, whatever its size, and not cut off by a reset."""
    data = some_bytes(size)
    async with uploader(hub) as alice, httpx.AsyncClient(timeout=30) as http:
        signed = (await request(alice, size, strategy="single"))["single"]
        answer = await http.put(signed["url"] + "0", headers=signed["headers"], content=data)

    assert answer.status_code == 403
    assert answer.headers["connection"] == "close"


async def test_a_part_that_comes_after_the_cancel_is_answered_404(hub: FileHub) -> None:
    """The upload ended elsewhere: 8 MiB of a part meet a status, by which a client knows to ask how it stands."""
    async with uploader(hub) as alice, httpx.AsyncClient(timeout=30) as http:
        authorized = await request(alice, 12 * MIB, strategy="multipart")
        await alice.answer("file.upload.cancel", {"upload_id": authorized["upload_id"]}, CHANNEL)
        await ending(alice, authorized["upload_id"])
        part = authorized["multipart"]["parts"][0]
        answer = await http.put(part["url"], headers=part["headers"], content=bytes(8 * MIB))

    assert answer.status_code == 404


async def test_a_chunk_right_after_the_cancel_is_refused(hub: FileHub) -> None:
    """The node that took the chunks before does not go on with what it knew of the upload then."""
    async with uploader(hub) as alice:
        authorized = await request(alice, 3 * MIB, strategy="socket")
        upload_id = authorized["upload_id"]
        await send_chunk(alice, upload_id, 0, bytes(1000), binary=False)
        await alice.answer("file.upload.cancel", {"upload_id": upload_id}, CHANNEL)
        payload = {"upload_id": upload_id, "offset": 1000, "data": "AAAA"}
        late = await alice.answer("file.chunk", payload, CHANNEL)

    assert late["payload"].get("code") in {4021, 4022}


async def test_a_chunk_for_a_file_that_was_finished_on_another_node_is_refused(
    hub: FileHub, redis_url: str, tmp_path: Path
) -> None:
    """The first node holds half of it still; the second finished it: a chunk to the first one is 4021."""
    data = some_bytes(600_000)
    async with (
        running_node(redis_url, data_dir=str(tmp_path)) as second,
        finishing_uploads(redis_url, hub.store) as finisher,
    ):
        elsewhere = FileHub(second, finisher, hub.tenant)
        async with uploader(hub) as alice, uploader(elsewhere) as again:
            authorized = await request(alice, len(data), strategy="socket")
            upload_id = authorized["upload_id"]
            await send_chunk(alice, upload_id, 0, data[:1000], binary=False)
            status = await again.answer("file.upload.status", {"upload_id": upload_id}, CHANNEL)
            await bring_socket(again, status["payload"], data)
            await complete(again, status["payload"], data)
            payload = {"upload_id": upload_id, "offset": 1000, "data": "AAAA"}
            late = await alice.answer("file.chunk", payload, CHANNEL)

    assert late["payload"].get("code") == 4021


async def test_a_page_of_another_origin_may_put_and_get(open_hub: FileHub) -> None:
    """The list that lets a page open a socket lets it carry out what it was signed, by the headers it was given."""
    data = b"from a page"
    async with uploader(open_hub) as alice, httpx.AsyncClient(timeout=30) as http:
        authorized = await request(alice, len(data), sha256=sha256_of(data))
        signed = authorized["single"]
        wanted = {"Access-Control-Request-Headers": ",".join(signed["headers"].keys() - {"content-length"})}
        preflight = await http.options(signed["url"], headers=PREFLIGHT | wanted)
        put = await http.put(signed["url"], headers={**signed["headers"], "Origin": PAGE}, content=data)
        ready = await complete(alice, authorized)
        address = await alice.answer("file.url", {"file_id": ready["payload"]["file_id"]}, CHANNEL)
        got = await http.get(address["payload"]["url"], headers={"Origin": PAGE})

    assert preflight.status_code == 200
    assert [answer.headers["access-control-allow-origin"] for answer in (preflight, put, got)] == [PAGE] * 3
    assert put.status_code == got.status_code == 200
    assert got.content == data


@pytest.mark.parametrize("header", ["content-md5", "x-amz-checksum-sha256", "if-none-match", "content-type", "range"])
async def test_a_page_may_send_what_stores_take(open_hub: FileHub, header: str) -> None:
    """Each header S3 takes with a PUT passes the preflight of the local store too."""
    async with open_hub.node.http() as http:
        answer = await http.options("/_store/t/f", headers=PREFLIGHT | {"Access-Control-Request-Headers": header})

    assert answer.status_code == 200
    assert header in answer.headers["access-control-allow-headers"].lower()


async def test_a_refusal_can_be_read_by_the_page(open_hub: FileHub) -> None:
    """Without the header on a 403, a page could not tell a signature that is over from a network that is down."""
    async with open_hub.node.http() as http:
        answer = await http.put("/_store/t/f?signature=0", headers={"Origin": PAGE}, content=b"x")

    assert answer.status_code == 403
    assert answer.headers["access-control-allow-origin"] == PAGE


async def test_pages_that_are_not_listed_get_no_word(open_hub: FileHub) -> None:
    """Neither by preflight nor by answer; nor does anybody of a hub without a list."""
    foreign = {"Origin": "https://evil.example"}
    async with open_hub.node.http() as http:
        preflight = await http.options("/_store/t/f", headers=PREFLIGHT | foreign)
        answer = await http.get("/_store/t/f", headers=foreign)

    assert "access-control-allow-origin" not in preflight.headers
    assert "access-control-allow-origin" not in answer.headers
