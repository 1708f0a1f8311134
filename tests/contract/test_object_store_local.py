"""The local folder keeps the object store's contract, its signed requests served by the hub's own routes."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from contract.object_store_cases import PNG, EnforcingCases, content, new_key, send, spooled
from hub.http.local_store import router
from hub.storage.local import LocalStore
from hub.storage.local_files import LocalFiles
from hub.storage.store import BadContent, Download, NewObject


class TestLocalStore(EnforcingCases):
    """See EnforcingCases; below what only a folder of our own has to prove."""

    @pytest.fixture
    async def store(self, tmp_path: Path) -> AsyncIterator[LocalStore]:
        store = LocalStore(tmp_path, time.time)
        yield store
        await store.close()
        left = [path.name for path in store.spool.iterdir() if not path.name.startswith("caller-")]
        assert left == []

    @pytest.fixture
    async def http(self, store: LocalStore) -> AsyncIterator[httpx.AsyncClient]:
        app = FastAPI()
        app.state.local_store = store
        app.include_router(router)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://hub") as client:
            yield client

    async def test_downloads_are_inert(self, store: LocalStore, http: httpx.AsyncClient) -> None:
        """Every download says nosniff and a sandbox, so that nothing uploaded runs in our origin."""
        key = new_key()
        await store.put(NewObject(key, len(PNG), "image/png"), spooled(store, PNG))

        answer = await http.get(await store.sign_get(key, Download("attachment", "image/png"), 60))

        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "sandbox" in answer.headers["content-security-policy"]

    async def test_two_processes_share_a_folder(
        self, store: LocalStore, http: httpx.AsyncClient, tmp_path: Path
    ) -> None:
        """A URL signed by one node is served by another: the signing key is the folder's."""
        other = LocalStore(tmp_path, time.time)
        signed = await other.sign_put(NewObject(new_key(), 3, "text/plain"), 60)

        answer = await send(http, signed, b"abc")

        assert answer.status_code == 200
        await other.close()

    @pytest.mark.parametrize("key", ["../out", "a/../../out", "", "/etc/passwd"])
    async def test_no_key_leaves_the_folder(self, store: LocalStore, key: str) -> None:
        """A key that points outside is refused; ours never do."""
        source = spooled(store, b"abc")

        with pytest.raises(BadContent):
            await store.put(NewObject(key, 3, "text/plain"), source)

    async def test_body_cut_short(self, store: LocalStore, http: httpx.AsyncClient) -> None:
        """A body that ends before its announced length is 400 and leaves nothing."""
        signed = await store.sign_put(NewObject(new_key(), 3, "text/plain"), 60)

        async def short() -> AsyncIterator[bytes]:
            yield b"ab"

        answer = await http.put(signed.url, headers=dict(signed.headers), content=short())

        assert answer.status_code == 400
        assert await store.keys("") == []

    async def test_what_killed_processes_left(self, store: LocalStore, tmp_path: Path) -> None:
        """A new process removes what was on its way in a day ago, and leaves what may still be written to."""
        old, fresh = store.spool / "old.part", store.spool / "caller-fresh"
        for path in (old, fresh):
            path.touch()
        os.utime(old, (0, 0))

        other = LocalStore(tmp_path, time.time)

        assert (old.exists(), fresh.exists()) == (False, True)
        await other.close()

    async def test_range_outside(self, store: LocalStore, http: httpx.AsyncClient) -> None:
        """A range that holds nothing of the object is 416."""
        key = new_key()
        await store.put(NewObject(key, 3, "text/plain"), spooled(store, b"abc"))
        url = await store.sign_get(key, Download("attachment", "text/plain"), 60)

        answer = await http.get(url, headers={"range": "bytes=3-"})

        assert (answer.status_code, answer.headers["content-range"]) == (416, "bytes */3")

    def test_other_accounts_do_not_get_in(self, tmp_path: Path) -> None:
        """A folder that was there before, and open to all, kept its uploads open to all."""
        for name in ("objects", "spool", "uploads"):
            (tmp_path / name).mkdir(mode=0o755)
        LocalFiles(tmp_path)

        assert {oct(folder.stat().st_mode & 0o777) for folder in tmp_path.iterdir()} == {"0o700"}

    async def test_read_of_a_deleted_object(self, store: LocalStore) -> None:
        """A reader meets all of an object or none."""
        key = new_key()
        await store.put(NewObject(key, 3, "text/plain"), spooled(store, b"abc"))
        await store.delete(key)

        assert await content(store, key) == b""
