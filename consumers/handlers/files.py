"""file.*: what follows when an upload was asked for, claimed to be complete, or given up.

The work itself needs the object store, which belongs to the edge: whoever composes a worker hands it in as a `Settler`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Protocol

from consumers.groups.handler import DONE, Effects, Outcome, Source, StartFrom
from projections.recorded import text
from streams.channel import Channel

REAP_EVERY_S: Final = 10.0
"""How often a worker should call `Settler.reap`: an abandoned upload ends so much after its time at the latest."""


class Settler(Protocol):
    """Ends uploads. Every method may be called again about the same upload, by any worker; what raises is tried again."""

    async def requested(self, channel: Channel, event_id: str, at_ms: int) -> None:
        """A `file.upload.request` was stored at this Unix time: it must end some day."""

    async def completed(
        self, channel: Channel, upload_id: str, cause: str, sha256: str | None, parts: Mapping[int, str]
    ) -> None:
        """A `file.upload.complete` was stored: append `file.ready` or `file.upload.failed`.

        Args:
            channel: where it was stored.
            upload_id: as its payload names it.
            cause: the event's id.
            sha256: of the whole file, as its sender claims.
            parts: SHA-256 by part number, as its sender claims.
        """

    async def cancelled(self, channel: Channel, upload_id: str) -> None:
        """A `file.upload.cancel` was stored: remove what arrived, then append `file.upload.failed`."""

    async def reap(self) -> int:
        """End what is past its time; how many were looked at."""


class FileReactions:
    """Sees uploads through to their end."""

    name: Final = "files"
    types: Final = frozenset({"file.upload.request", "file.upload.complete", "file.upload.cancel"})
    start_from: Final = StartFrom.BEGINNING

    def __init__(self, settler: Settler) -> None:
        self._settler = settler

    async def handle(self, source: Source, effects: Effects) -> Outcome:  # noqa: ARG002 - guards make it append once
        """Have the upload settled."""
        if source.event.type == "file.upload.request":
            await self._settler.requested(source.channel, source.id, int(source.id.partition("-")[0]))
        elif source.event.type == "file.upload.cancel":
            await self._settler.cancelled(source.channel, text(source.event, "upload_id"))
        else:
            await self._completed(source)
        return DONE

    async def _completed(self, source: Source) -> None:
        sha256, parts = source.payload.get("sha256"), source.payload.get("parts")
        claimed: dict[int, str] = {}
        for part in parts if isinstance(parts, list) else ():
            if isinstance(part, dict) and isinstance(part.get("n"), int):
                claimed[int(str(part["n"]))] = str(part.get("sha256"))
        digest = sha256 if isinstance(sha256, str) else None
        await self._settler.completed(source.channel, text(source.event, "upload_id"), source.id, digest, claimed)
