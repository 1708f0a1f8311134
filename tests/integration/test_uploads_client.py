"""`await hub.upload(channel, path)` and `hub upload`: the file arrives, whatever happens on the way."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from hashlib import sha256
from pathlib import Path

import pytest

from hub.client import HubClient, HubError, UploadFailed
from hub.storage.store import composite, sha256_of
from support.nodes import SECRET
from support.uploads import CHANNEL, MIB, FileHub, download, file_hub, some_bytes, uploader


@pytest.fixture
async def hub(redis_url: str, tenant: str, tmp_path: Path) -> AsyncIterator[FileHub]:
    async with file_hub(redis_url, tenant, tmp_path / "data") as found:
        yield found


def a_file(tmp_path: Path, size: int, name: str = "a file.bin") -> tuple[Path, bytes]:
    path, data = tmp_path / name, some_bytes(size)
    path.write_bytes(data)
    return path, data


def checksum_of(data: bytes, type_: str) -> str:
    """The checksum that `file.ready` must give for these bytes."""
    parts = [sha256_of(data[start : start + 8 * MIB]) for start in range(0, len(data), 8 * MIB)]
    return composite(parts) if type_ == "composite" else sha256_of(data)


@pytest.mark.parametrize("strategy", ["auto", "single", "multipart", "socket"])
@pytest.mark.parametrize("size", [0, 1, 5 * MIB + 1, pytest.param(20 * MIB, marks=pytest.mark.long)])
async def test_upload(hub: FileHub, tmp_path: Path, strategy: str, size: int) -> None:
    """Each way and size: the result is the file's digest, the progress ends at its size, the bytes are the same."""
    path, data = a_file(tmp_path, size)
    seen: list[tuple[int, int]] = []
    async with HubClient(hub.node.url, hub.token()) as client:
        found = await client.upload(CHANNEL, path, strategy=strategy, on_progress=lambda *now: seen.append(now))

    assert (found.size, found.sha256, found.filename) == (size, sha256_of(data), "a file.bin")
    assert found.ready["checksum"]["value"] == checksum_of(data, found.ready["checksum"]["type"])
    assert not size or seen[-1] == (size, size)
    async with uploader(hub) as socket:
        assert (await download(socket, found.file_id)).content == data


@pytest.mark.parametrize("strategy", ["multipart", "socket"])
async def test_upload_over_lost_connections(hub: FileHub, tmp_path: Path, strategy: str) -> None:
    """The connection is cut again and again; the call does not notice."""
    path, data = a_file(tmp_path, 12 * MIB)
    cuts = 0
    async with HubClient(hub.node.url, hub.token()) as client:

        def cut(sent: int, total: int) -> None:
            nonlocal cuts
            if sent > (cuts + 1) * 2 * MIB:
                cuts += 1
                client.cut()

        found = await client.upload(CHANNEL, path, strategy=strategy, on_progress=cut)

    assert cuts >= 4
    assert found.ready["checksum"]["value"] == checksum_of(data, found.ready["checksum"]["type"])


async def test_resume_key_carries_over(hub: FileHub, tmp_path: Path) -> None:
    """Another client goes on with what the first began under the same key, and sends only the rest."""
    path, data = a_file(tmp_path, 14 * MIB)
    async with HubClient(hub.node.url, hub.token()) as client:
        reached = asyncio.Event()

        def watch(sent: int, total: int) -> None:
            if sent > 11 * MIB:
                reached.set()

        job = asyncio.create_task(client.upload(CHANNEL, path, strategy="socket", resume_key="k", on_progress=watch))
        await reached.wait()
        job.cancel()
        await asyncio.gather(job, return_exceptions=True)
    begun: list[int] = []
    async with HubClient(hub.node.url, hub.token()) as client:
        found = await client.upload(CHANNEL, path, resume_key="k", on_progress=lambda sent, _: begun.append(sent))

    assert begun[0] > 10 * MIB
    assert found.ready["checksum"]["value"] == sha256_of(data)
    assert len(await hub.left()) == 1


async def test_resumed_parts_are_recognised(hub: FileHub, tmp_path: Path) -> None:
    """Parts that are there are not sent again if this file has them, and are if it has others."""
    path, data = a_file(tmp_path, 30 * MIB)
    async with HubClient(hub.node.url, hub.token()) as client:
        reached = asyncio.Event()
        job = asyncio.create_task(
            client.upload(
                CHANNEL,
                path,
                strategy="multipart",
                resume_key="p",
                on_progress=lambda sent, _: reached.set() if sent > 20 * MIB else None,
            )
        )
        await reached.wait()
        job.cancel()
        await asyncio.gather(job, return_exceptions=True)
    changed = b"x" + data[1:]
    path.write_bytes(changed)
    async with HubClient(hub.node.url, hub.token()) as client:
        found = await client.upload(CHANNEL, path, strategy="multipart", resume_key="p")

    assert found.ready["checksum"]["value"] == checksum_of(changed, "composite")
    async with uploader(hub) as socket:
        assert (await download(socket, found.file_id)).content == changed


async def test_file_that_changes_meanwhile(hub: FileHub, tmp_path: Path) -> None:
    """A file that is another one when it is sent fails as checksum; nothing is kept."""
    path, _ = a_file(tmp_path, 6 * MIB)
    async with HubClient(hub.node.url, hub.token()) as client:

        def change(sent: int, total: int) -> None:
            if sent == total:
                return
            with path.open("r+b") as file:
                file.seek(5 * MIB)
                file.write(b"changed")

        with pytest.raises(UploadFailed) as raised:
            await client.upload(CHANNEL, path, strategy="socket", on_progress=change)

    assert raised.value.reason == "checksum"
    assert await hub.left() == []


async def test_refusals_are_errors(hub: FileHub, tmp_path: Path) -> None:
    """A refusal of the hub is raised with its code."""
    page, _ = a_file(tmp_path, 10, "page.html")
    async with HubClient(hub.node.url, hub.token()) as client:
        with pytest.raises(HubError) as raised:
            await client.upload(CHANNEL, page)

    assert raised.value.code == 4017


async def test_expired_signature_is_renewed(hub: FileHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A signature that is over (403) is asked for anew, and only that part is sent again."""
    path, data = a_file(tmp_path, 9 * MIB)
    real, tampered = hub.store.sign_parts, 0

    async def sign_parts(*args: object, **kwargs: object) -> object:
        nonlocal tampered
        tampered += 1
        if tampered == 2:  # the first is the authorisation itself
            args = (*args[:3], -5)
        return await real(*args, **kwargs)

    monkeypatch.setattr(hub.store, "sign_parts", sign_parts)
    async with HubClient(hub.node.url, hub.token()) as client:
        found = await client.upload(CHANNEL, path, strategy="multipart")

    assert tampered == 4
    assert found.ready["checksum"]["value"] == checksum_of(data, "composite")


async def test_command_line(hub: FileHub, tmp_path: Path) -> None:
    """`hub upload CHANNEL FILE` prints JSON lines: its progress every second, at the end the id and digest of the file."""
    path, data = a_file(tmp_path, 100_000)
    code = "import sys; from ops.cli import main; main(sys.argv[1:])"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, "upload", CHANNEL, str(path), "--url", hub.node.url, "--tenant", hub.tenant,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        env=os.environ | {"HUB_JWT_SECRET": SECRET, "PYTHONPATH": os.getcwd()},
    )  # fmt: skip # many arguments
    out, err = await process.communicate()

    assert process.returncode == 0, err.decode()
    facts = json.loads(out.splitlines()[-1])
    assert (facts["filename"], facts["size"], facts["sha256"]) == ("a file.bin", len(data), sha256(data).hexdigest())
