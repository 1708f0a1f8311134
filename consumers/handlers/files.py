"""Reactions to file.upload.request, file.upload.complete and file.upload.cancel.

The work itself needs the object store, which belongs to the hub. So the program that sets up a worker passes in an
`UploadEnder`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Protocol

from consumers.groups.handler import DONE, Effects, Outcome, Source, StartFrom
from projections.recorded import text
from streams.channel import Channel
from streams.cursor import ms_of_id

REAP_EVERY_S: Final = 10.0
"""Interval, in seconds, of `UploadEnder.reap`: an abandoned upload ends at most this long after its deadline."""


class UploadEnder(Protocol):
    """Ends uploads. Every method may be repeated, by any worker, and is called again after an exception."""

    async def requested(self, channel: Channel, event_id: str, at_ms: int) -> None:
        """Record a `file.upload.request` stored at `at_ms`, so that the upload ends when it expires at the latest."""

    async def completed(
        self, channel: Channel, upload_id: str, cause: str, sha256: str | None, parts: Mapping[int, str]
    ) -> None:
        """Appends `file.ready` or `file.upload.failed` after a `file.upload.complete`.

        Args:
            channel: the channel of the event.
            upload_id: the upload, from the event's payload.
            cause: the event's ID.
            sha256: digest of the whole file, as claimed by the client.
            parts: SHA-256 by part number, as claimed by the client.
        """

    async def cancelled(self, channel: Channel, upload_id: str) -> None:
        """Deletes the received bytes of a cancelled upload, then appends `file.upload.failed`."""

    async def reap(self) -> int:
        """Ends uploads past their deadline; returns how many were inspected."""


class FileReactions:
    """The handler that ends uploads."""

    name: Final = "files"
    types: Final = frozenset({"file.upload.request", "file.upload.complete", "file.upload.cancel"})
    start_from: Final = StartFrom.BEGINNING

    def __init__(self, ender: UploadEnder) -> None:
        self._ender = ender

    async def handle(self, source: Source, effects: Effects) -> Outcome:  # noqa: ARG002 - guards make it append once
        """React to one event by recording, verifying or cancelling the upload."""
        if source.event.type == "file.upload.request":
            await self._ender.requested(source.channel, source.id, ms_of_id(source.id))
        elif source.event.type == "file.upload.cancel":
            await self._ender.cancelled(source.channel, text(source.event, "upload_id"))
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
        await self._ender.completed(source.channel, text(source.event, "upload_id"), source.id, digest, claimed)
