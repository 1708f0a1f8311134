"""Files as clients that know only the documents meet them: what a refusal looks like from their side of the wire."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from hub.storage.store import sha256_of
from support.nodes import running_node
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

PAGE = "https://app.example"
PREFLIGHT = {"Origin": PAGE, "Access-Control-Request-Method": "PUT"}


@pytest.fixture
async def hub(redis_url: str, tenant: str, tmp_path: Path) -> AsyncIterator[FileHub]:
    """A node that takes files, open to one page of another origin."""
    async with file_hub(redis_url, tenant, tmp_path, allowed_origins=frozenset({PAGE})) as found:
        yield found


@pytest.mark.parametrize("name", ["é" * 255, "😀" * 255])
async def test_a_name_has_255_characters_however_many_bytes(hub: FileHub, name: str) -> None:
    """EVENTS 8 counts code points: such a file goes in, and comes out under its whole name."""
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


async def test_a_page_of_another_origin_may_put_and_get(hub: FileHub) -> None:
    """The list that lets a page open a socket lets it carry out what it was signed, by the headers it was given."""
    data = b"from a page"
    async with uploader(hub) as alice, httpx.AsyncClient(timeout=30) as http:
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
async def test_a_page_may_send_what_stores_take(hub: FileHub, header: str) -> None:
    """Each header S3 takes with a PUT passes the preflight of the local store too (NOTES 8)."""
    async with httpx.AsyncClient(base_url=hub.node.url, timeout=30) as http:
        answer = await http.options("/_store/t/f", headers=PREFLIGHT | {"Access-Control-Request-Headers": header})

    assert answer.status_code == 200
    assert header in answer.headers["access-control-allow-headers"].lower()


async def test_a_refusal_can_be_read_by_the_page(hub: FileHub) -> None:
    """Without the header on a 403, a page could not tell a signature that is over from a network that is down."""
    async with httpx.AsyncClient(base_url=hub.node.url, timeout=30) as http:
        answer = await http.put("/_store/t/f?signature=0", headers={"Origin": PAGE}, content=b"x")

    assert answer.status_code == 403
    assert answer.headers["access-control-allow-origin"] == PAGE


async def test_pages_that_are_not_listed_get_no_word(hub: FileHub) -> None:
    """Neither by preflight nor by answer; nor does anybody of a hub without a list."""
    foreign = {"Origin": "https://evil.example"}
    async with httpx.AsyncClient(base_url=hub.node.url, timeout=30) as http:
        preflight = await http.options("/_store/t/f", headers=PREFLIGHT | foreign)
        answer = await http.get("/_store/t/f", headers=foreign)

    assert "access-control-allow-origin" not in preflight.headers
    assert "access-control-allow-origin" not in answer.headers
