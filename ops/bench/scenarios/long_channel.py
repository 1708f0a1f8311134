"""The long channel that readers replay, written past the limits of users, and moved to the archive where a scenario wants it."""

from __future__ import annotations

import asyncio
import time
from typing import Final

from hub.storage.archive import StoreArchive
from hub.storage.local import LocalStore
from ops.bench.setup import Setup
from streams.archive.keeper import Keeper
from streams.archive.notes import Signer
from streams.archive.retention import parse_retention
from streams.channel import parse_channel
from streams.envelope import Actor, Draft
from streams.json_bytes import to_json
from streams.redis.log import Log

LARGE: Final = "large0"
ATTACKER_GRANTS: Final = {"*": ["read", "write"]}
_TEXT: Final = "x" * 500
_BATCH: Final = 10_000


async def fill_channel(setup: Setup, name: str, count: int) -> None:
    """Write so many messages to a conversation."""
    log = await Log.open(setup.servers.redis.url)
    channel = parse_channel(setup.tenant, f"conversation:{name}")
    data = to_json({"text": _TEXT})
    try:
        for start in range(0, count, _BATCH):
            drafts = [
                Draft(channel, "chat.message", data, Actor("user", "author"))
                for _ in range(start, min(count, start + _BATCH))
            ]
            await asyncio.gather(*map(log.append, drafts))
    finally:
        await log.close()


async def archive_channel(setup: Setup, name: str) -> int:
    """Move a conversation's events, but for the newest, to the archive of the nodes; returns their number."""
    log = await Log.open(setup.servers.redis.url)
    archive = StoreArchive(LocalStore(setup.servers.folder / "archive", time.time))
    retention = parse_retention(f"{setup.tenant}/conversation:{name}=hot_count:10")
    keeper, before = Keeper(log, archive, retention, Signer("hub.bench", bytes(32)), 60.0), -1
    try:
        while keeper.archived_count > before:
            before = keeper.archived_count
            await keeper.turn()
        return before
    finally:
        await archive.close()
        await log.close()
