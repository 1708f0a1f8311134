"""HUB_QUOTA_BYTES counts files: what is asked for at once, what fails no longer, and events beside them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from support.socket_client import SocketClient
from support.uploads import CHANNEL, FileHub, bring_single, complete, ending, file_hub, request, uploader

QUOTA = 100_000


@pytest.fixture
async def hub(redis_url: str, tenant: str, tmp_path: Path) -> AsyncIterator[FileHub]:
    """A node whose tenants may store 100,000 bytes."""
    async with file_hub(redis_url, tenant, tmp_path, quota_bytes_stored=QUOTA) as found:
        yield found


async def asked(socket: SocketClient, size: int) -> dict[str, object]:
    """The answer to a request, whatever it is."""
    payload = {"filename": "a.bin", "size": size, "mime": "application/octet-stream", "strategy": "single"}
    answer = await socket.answer("file.upload.request", payload, CHANNEL)
    found: dict[str, object] = answer["payload"]
    return found


async def test_an_open_upload_counts_as_what_it_was_authorised_for(hub: FileHub) -> None:
    """A second one that would not fit beside it is 4017, with a sentence; one that fits is taken."""
    async with uploader(hub) as alice:
        await request(alice, 60_000)
        refused = await asked(alice, 60_000)
        fitting = await asked(alice, 30_000)

    assert refused["code"] == 4017
    assert "reached its storage limit" in str(refused["message"])
    assert "upload_id" in fitting


async def test_a_failed_upload_gives_its_bytes_back(hub: FileHub) -> None:
    """A cancelled upload gives its room back; a refused request never took any."""
    async with uploader(hub) as alice:
        authorized = await request(alice, 90_000)
        refused = [(await asked(alice, 90_000)).get("code") for _ in range(3)]
        await alice.answer("file.upload.cancel", {"upload_id": authorized["upload_id"]}, CHANNEL)
        await ending(alice, authorized["upload_id"])
        async with asyncio.timeout(10):
            while "code" in (await asked(alice, 90_000)):  # the slot is given back right after the event
                continue

    assert refused == [4017] * 3


async def test_a_file_that_is_ready_stays_counted(hub: FileHub) -> None:
    """Files are stored: they are part of the total until they are gone."""
    async with uploader(hub) as alice:
        authorized = await request(alice, 80_000, strategy="single")
        await bring_single(alice, authorized, bytes(80_000))
        ready = await complete(alice, authorized)
        refused = await asked(alice, 30_000)

    assert ready["type"] == "file.ready"
    assert refused["code"] == 4017


async def test_files_and_events_share_the_quota(hub: FileHub) -> None:
    """With a file nearly as large as the quota, messages soon have no room (4011); and are taken again when it has failed."""
    async with uploader(hub) as alice:
        authorized = await request(alice, QUOTA - 3_000)
        codes = [(await alice.say(CHANNEL, "x" * 1_000))["payload"].get("code") for _ in range(6)]
        await alice.answer("file.upload.cancel", {"upload_id": authorized["upload_id"]}, CHANNEL)
        async with asyncio.timeout(10):
            while "code" in (await alice.say(CHANNEL, "x" * 1_000))["payload"]:
                continue

    assert codes[0] is None
    assert codes[-1] == 4011


async def test_the_same_request_again_is_not_counted_twice(hub: FileHub) -> None:
    """A repeated command is answered again; nothing more is stored by it."""
    payload = {"filename": "a.bin", "size": 60_000, "mime": "application/octet-stream", "strategy": "single"}
    async with uploader(hub) as alice:
        for _ in range(3):
            await alice.send("file.upload.request", payload, CHANNEL, "the-same")
            await alice.expect("file.upload.authorized", re="the-same")
        fitting = await asked(alice, 30_000)

    assert "upload_id" in fitting
