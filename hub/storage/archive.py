"""The archive's objects in an object store: small and whole, with every error of a store as ArchiveUnavailable."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from hashlib import sha256
from typing import Final

from hub.storage.store import AlreadyStored, NewObject, ObjectStore, StoreError, encode_digest
from streams.archive.retention import ObjectLock
from streams.errors import ArchiveUnavailable

CALL_TIMEOUT_S: Final = 60.0
"""Seconds after which a call counts as failed, whatever the store's own limits."""
_MIME: Final = "application/octet-stream"
_LOCKED: Final = ("/segment/", "/manifest/", "/checkpoint/", "/log/stamp/")


class StoreArchive:
    """`ArchiveObjects` in an object store.

    Args:
        prefix: the beginning of all keys, which nothing else in the store has.
        lock: keeps segments, manifests, checkpoints and their stamps from being removed; other objects give way to later ones.
    """

    def __init__(self, store: ObjectStore, prefix: str = "", lock: ObjectLock | None = None) -> None:
        self._store = store
        self._prefix = prefix
        self._lock = lock

    async def put(self, key: str, data: bytes) -> bool:
        """See ArchiveObjects. The store verifies the digest while receiving."""
        source = self._store.spool / f"{secrets.token_hex(16)}.archive"
        lock = self._lock if any(part in key for part in _LOCKED) else None
        new = NewObject(self._prefix + key, len(data), _MIME, encode_digest(sha256(data).digest()), lock)
        async with _told(f"store {key}"):
            try:
                await asyncio.to_thread(source.write_bytes, data)
                await self._store.put(new, source)
            except AlreadyStored:
                return False
            finally:
                await asyncio.shield(asyncio.to_thread(source.unlink, missing_ok=True))
        return True

    async def read(self, key: str, start: int = 0, size: int | None = None) -> bytes | None:
        """See ArchiveObjects. An object without bytes counts as missing; the archive has none."""
        async with _told(f"read {key}"):
            pieces = [piece async for piece in self._store.read(self._prefix + key, start, size)]
        return b"".join(pieces) or None

    async def keys(self, prefix: str, after: str = "") -> list[str]:
        """See ArchiveObjects."""
        async with _told(f"list {prefix}"):
            found = await self._store.keys(self._prefix + prefix, self._prefix + after if after else "")
        return [key.removeprefix(self._prefix) for key in found]

    async def delete(self, key: str) -> None:
        """See ArchiveObjects."""
        async with _told(f"delete {key}"):
            await self._store.delete(self._prefix + key)

    async def close(self) -> None:
        """Close the store."""
        await self._store.close()


@asynccontextmanager
async def _told(doing: str) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(CALL_TIMEOUT_S):
            yield
    except (StoreError, OSError) as error:  # TimeoutError is an OSError
        raise ArchiveUnavailable(f"the archive cannot {doing}: {error or type(error).__name__}") from error
