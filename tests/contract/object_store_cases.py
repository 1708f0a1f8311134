"""The contract of every ObjectStore, as cases run on the local folder, a real S3 endpoint and, where it is faithful enough, moto.

A test class gives the fixtures `store` and `http` (a client that reaches signed addresses).
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path

import httpx
import pytest

from hub.storage.store import (
    AlreadyStored,
    BadContent,
    Download,
    NewObject,
    ObjectStore,
    SignedRequest,
    StoredPart,
    UploadGone,
    composite,
    sha256_of,
)

MIB = 1024 * 1024
PART = 5 * MIB
PNG = b"\x89PNG\r\n\x1a\n" + bytes(100)


def new_key() -> str:
    return f"acme/{secrets.token_hex(16)}"


def spooled(store: ObjectStore, data: bytes) -> Path:
    path = store.spool / f"caller-{secrets.token_hex(8)}"
    path.write_bytes(data)
    return path


async def content(store: ObjectStore, key: str, start: int = 0, size: int | None = None) -> bytes:
    return b"".join([piece async for piece in store.read(key, start, size)])


async def send(http: httpx.AsyncClient, signed: SignedRequest, data: bytes, **changed: str) -> httpx.Response:
    headers = {**signed.headers, **changed}
    return await http.request(signed.method, signed.url, headers=headers, content=data)


class PlainCases:
    """Cases that need no enforcement: moto passes these too."""

    async def test_object_put_is_there(self, store: ObjectStore) -> None:
        """A stored object can be looked at, read and listed, and is gone after delete."""
        key = new_key()

        await store.put(NewObject(key, len(PNG), "image/png", sha256_of(PNG)), spooled(store, PNG))

        stored = await store.look(key)
        assert stored is not None
        assert stored.size == len(PNG)
        assert await content(store, key) == PNG
        assert await store.keys("acme/") == [key]
        await store.delete(key)
        assert await store.look(key) is None
        assert await store.keys("") == []

    async def test_keys_begin_with_a_prefix_and_follow_one(self, store: ObjectStore) -> None:
        """Sorted as text, whatever folders they lie in; the key that they shall follow need not exist."""
        keys = ["acme/a", "acme/a.p/1", "acme/b/c", "acme/bc", "acme/bd", "other/b"]
        for key in keys:
            await store.put(NewObject(key, len(PNG), "image/png", sha256_of(PNG)), spooled(store, PNG))

        assert await store.keys("acme/b") == ["acme/b/c", "acme/bc", "acme/bd"]
        assert await store.keys("acme/", "acme/b/b") == ["acme/b/c", "acme/bc", "acme/bd"]
        assert await store.keys("acme/", "acme/b/c") == ["acme/bc", "acme/bd"]
        assert await store.keys("acme/", "acme/bd") == []
        assert await store.keys("", "acme/a") == keys[1:]
        for key in keys:
            await store.delete(key)

    async def test_empty_object(self, store: ObjectStore) -> None:
        """An object of no bytes is an object."""
        key = new_key()

        await store.put(NewObject(key, 0, "text/plain", sha256_of(b"")), spooled(store, b""))

        stored = await store.look(key)
        assert stored is not None
        assert stored.size == 0
        assert await content(store, key) == b""

    async def test_missing_object(self, store: ObjectStore) -> None:
        """A missing object is None, no bytes, and deleted without complaint."""
        key = new_key()

        await store.delete(key)

        assert await store.look(key) is None
        assert await content(store, key) == b""

    async def test_objects_are_never_overwritten(self, store: ObjectStore) -> None:
        """A second put of a key is refused and changes nothing."""
        key = new_key()
        await store.put(NewObject(key, 1, "text/plain"), spooled(store, b"a"))

        with pytest.raises(AlreadyStored):
            await store.put(NewObject(key, 1, "text/plain"), spooled(store, b"b"))

        assert await content(store, key) == b"a"

    async def test_parts_make_an_object(self, store: ObjectStore) -> None:
        """Parts written in any order, one of them twice, become one object; the last version of a part counts."""
        key, first, second = new_key(), os.urandom(PART), os.urandom(7)
        handle = await store.begin(key, "text/plain", is_checked=True)
        for n, data in ((2, second), (1, bytes(PART)), (1, first)):
            await store.write_part(key, handle, StoredPart(n, len(data), sha256_of(data)), spooled(store, data))
        assert await store.look(key) is None

        parts = await store.parts(key, handle)
        await store.finish(key, handle, parts)

        assert [(part.n, part.size) for part in parts] == [(1, PART), (2, 7)]
        assert await content(store, key) == first + second
        assert await store.pending("acme/") == []

    async def test_read_crosses_parts(self, store: ObjectStore) -> None:
        """A range is the same bytes whatever parts it lies in."""
        key, data = new_key(), os.urandom(PART + 100)
        handle = await store.begin(key, "text/plain", is_checked=True)
        for n, piece in ((1, data[:PART]), (2, data[PART:])):
            await store.write_part(key, handle, StoredPart(n, len(piece), sha256_of(piece)), spooled(store, piece))
        await store.finish(key, handle, await store.parts(key, handle))

        for start, size in ((0, 4096), (PART - 10, 20), (PART + 5, 1000), (PART - 1, None)):
            end = None if size is None else start + size
            assert await content(store, key, start, size) == data[start:end]

    async def test_aborted_upload_is_gone(self, store: ObjectStore) -> None:
        """After abort nothing is left, a second abort is nothing, and every other call says that it is gone."""
        key = new_key()
        handle = await store.begin(key, "text/plain", is_checked=True)
        await store.write_part(key, handle, StoredPart(1, 3, sha256_of(b"abc")), spooled(store, b"abc"))
        assert [(pending.key, pending.handle) for pending in await store.pending("acme/")] == [(key, handle)]

        await store.abort(key, handle)
        await store.abort(key, handle)

        assert await store.pending("") == []
        with pytest.raises(UploadGone):
            await store.parts(key, handle)

    async def test_small_parts_are_refused(self, store: ObjectStore) -> None:
        """Every part but the last has at least 5 MiB."""
        key = new_key()
        handle = await store.begin(key, "text/plain", is_checked=True)
        for n in (1, 2):
            await store.write_part(key, handle, StoredPart(n, 3, sha256_of(b"abc")), spooled(store, b"abc"))

        with pytest.raises(BadContent):
            await store.finish(key, handle, await store.parts(key, handle))

        assert await store.look(key) is None
        await store.abort(key, handle)
        assert await store.pending("") == []


class EnforcingCases(PlainCases):
    """Cases of what a store verifies. moto does not."""

    async def test_wrong_checksum_is_not_stored(self, store: ObjectStore) -> None:
        """Bytes with another digest than announced leave nothing behind, as object and as part."""
        key = new_key()
        handle = await store.begin(key, "text/plain", is_checked=True)

        with pytest.raises(BadContent):
            await store.put(NewObject(key, 3, "text/plain", sha256_of(b"other")), spooled(store, b"abc"))
        with pytest.raises(BadContent):
            await store.write_part(key, handle, StoredPart(1, 3, sha256_of(b"other")), spooled(store, b"abc"))

        assert await store.look(key) is None
        assert await store.parts(key, handle) == []
        await store.abort(key, handle)

    async def test_part_after_abort(self, store: ObjectStore) -> None:
        """A part of an upload that was aborted is refused and leaves nothing."""
        key = new_key()
        handle = await store.begin(key, "text/plain", is_checked=True)
        await store.abort(key, handle)

        with pytest.raises(UploadGone):
            await store.write_part(key, handle, StoredPart(1, 3, sha256_of(b"abc")), spooled(store, b"abc"))

        assert await store.pending("") == []

    async def test_checksum_of_an_object(self, store: ObjectStore) -> None:
        """The store knows the digest of what it verified while receiving."""
        key = new_key()

        await store.put(NewObject(key, 3, "text/plain", sha256_of(b"abc")), spooled(store, b"abc"))

        stored = await store.look(key)
        assert stored is not None
        assert (stored.size, stored.sha256, stored.composite) == (3, sha256_of(b"abc"), None)

    async def test_composite_of_checked_parts(self, store: ObjectStore) -> None:
        """Checked parts are listed with their digests, and the object's checksum is the composite of them."""
        key, pieces = new_key(), (os.urandom(PART), b"end")
        handle = await store.begin(key, "text/plain", is_checked=True)
        for n, data in enumerate(pieces, 1):
            await store.write_part(key, handle, StoredPart(n, len(data), sha256_of(data)), spooled(store, data))

        parts = await store.parts(key, handle)
        await store.finish(key, handle, parts)

        digests = [sha256_of(data) for data in pieces]
        assert [part.sha256 for part in parts] == digests
        stored = await store.look(key)
        assert stored is not None
        assert (stored.size, stored.sha256, stored.composite) == (PART + 3, None, composite(digests))

    async def test_signed_put(self, store: ObjectStore, http: httpx.AsyncClient) -> None:
        """A signed PUT stores exactly what was announced, once."""
        key = new_key()
        signed = await store.sign_put(NewObject(key, len(PNG), "image/png", sha256_of(PNG)), 60)

        first = await send(http, signed, PNG)
        second = await send(http, signed, PNG)

        assert (first.status_code, second.status_code) == (200, 412)
        stored = await store.look(key)
        assert stored is not None
        assert (stored.size, stored.sha256) == (len(PNG), sha256_of(PNG))

    async def test_signed_put_binds_headers(self, store: ObjectStore, http: httpx.AsyncClient) -> None:
        """Another length, type, checksum, key or signature than the signed one is 403, and nothing is stored."""
        key = new_key()
        signed = await store.sign_put(NewObject(key, 3, "image/png", sha256_of(b"abc")), 60)
        other = SignedRequest("PUT", signed.url.replace(key, new_key()), signed.headers)
        forged = SignedRequest("PUT", signed.url[:-4] + "0000", signed.headers)
        bare = SignedRequest("PUT", signed.url, {k: v for k, v in signed.headers.items() if "checksum" not in k})

        answers = [
            await send(http, signed, b"abc", **{"content-type": "text/html"}),
            await send(http, signed, b"abcd", **{"content-length": "4"}),
            await send(http, signed, b"abd", **{"x-amz-checksum-sha256": sha256_of(b"abd")}),
            await send(http, bare, b"abc"),
            await send(http, other, b"abc"),
            await send(http, forged, b"abc"),
        ]

        assert [answer.status_code for answer in answers] == [403] * 6
        assert await store.keys("") == []

    async def test_signed_put_verifies_content(self, store: ObjectStore, http: httpx.AsyncClient) -> None:
        """Other bytes under a signed checksum are 400, and nothing is stored."""
        key = new_key()
        signed = await store.sign_put(NewObject(key, 3, "image/png", sha256_of(b"abc")), 60)

        answer = await send(http, signed, b"abd")

        assert answer.status_code == 400
        assert await store.keys("") == []

    async def test_signed_requests_expire(self, store: ObjectStore, http: httpx.AsyncClient) -> None:
        """Past its time a signed request is 403."""
        signed = await store.sign_put(NewObject(new_key(), 3, "image/png"), -5)

        answer = await send(http, signed, b"abc")

        assert answer.status_code == 403
        assert await store.keys("") == []

    async def test_signed_parts(self, store: ObjectStore, http: httpx.AsyncClient) -> None:
        """Parts put by signed requests are verified, listed, and become an object."""
        key, pieces = new_key(), [os.urandom(PART), b"end"]
        handle = await store.begin(key, "text/plain", is_checked=True)
        plan = [StoredPart(n, len(data), sha256_of(data)) for n, data in enumerate(pieces, 1)]

        first, second = await store.sign_parts(key, handle, plan, 60)
        wrong = await send(http, second, b"eno")
        answers = [await send(http, first, pieces[0]), await send(http, second, pieces[1])]

        assert wrong.status_code == 400
        assert [answer.status_code for answer in answers] == [200, 200]
        parts = await store.parts(key, handle)
        assert [(part.n, part.size, part.sha256) for part in parts] == [(p.n, p.size, p.sha256) for p in plan]
        await store.finish(key, handle, parts)
        assert await content(store, key) == b"".join(pieces)

    async def test_signed_parts_without_digest(self, store: ObjectStore, http: httpx.AsyncClient) -> None:
        """An upload begun unchecked takes parts without digests; the size is still signed."""
        key = new_key()
        handle = await store.begin(key, "text/plain", is_checked=False)
        (signed,) = await store.sign_parts(key, handle, [StoredPart(1, 3)], 60)

        longer = await send(http, signed, b"abcd", **{"content-length": "4"})
        answer = await send(http, signed, b"abc")

        assert (longer.status_code, answer.status_code) == (403, 200)
        await store.finish(key, handle, await store.parts(key, handle))
        assert await content(store, key) == b"abc"

    async def test_part_of_an_aborted_upload(self, store: ObjectStore, http: httpx.AsyncClient) -> None:
        """A signed part of an upload that was aborted is 404 and leaves nothing."""
        key = new_key()
        handle = await store.begin(key, "text/plain", is_checked=True)
        (signed,) = await store.sign_parts(key, handle, [StoredPart(1, 3, sha256_of(b"abc"))], 60)
        await store.abort(key, handle)

        answer = await send(http, signed, b"abc")

        assert answer.status_code == 404
        assert await store.pending("") == []

    async def test_signed_get(self, store: ObjectStore, http: httpx.AsyncClient) -> None:
        """A signed GET answers the bytes under the type and disposition that were signed; changed or late it is 403."""
        key = new_key()
        await store.put(NewObject(key, len(PNG), "image/png"), spooled(store, PNG))
        download = Download('attachment; filename="a.png"', "application/octet-stream")

        url = await store.sign_get(key, download, 60)
        late = await store.sign_get(key, download, -5)
        answers = [await http.get(url), await http.get(url.replace("attachment", "inline")), await http.get(late)]
        part = await http.get(url, headers={"range": "bytes=1-3"})

        assert [answer.status_code for answer in answers] == [200, 403, 403]
        assert answers[0].content == PNG
        assert answers[0].headers["content-disposition"] == 'attachment; filename="a.png"'
        assert answers[0].headers["content-type"] == "application/octet-stream"
        assert (part.status_code, part.content) == (206, PNG[1:4])
