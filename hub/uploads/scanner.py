"""The hook for a virus scanner. Not here: any scanner; by default nobody looks, and `file.ready` says so."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Protocol

from streams.records.upload_record import Upload


class ScanVerdict(StrEnum):
    """What a scanner found."""

    CLEAN = "clean"
    SKIPPED = "skipped"
    INFECTED = "infected"


@dataclass(frozen=True, slots=True)
class ScanResult:
    """Who looked, and what was found. `detail` (at most 200 characters) is shown when the file is rejected."""

    engine: str
    verdict: ScanVerdict
    detail: str = ""


class Scanner(Protocol):
    """Looks into a file before anybody may read it."""

    async def scan(self, upload: Upload, content: AsyncIterator[bytes]) -> ScanResult:
        """Look. It may be asked again about the same file. What it raises is tried again, and in the end fails the upload."""


class NoScanner:
    """Looks at nothing."""

    async def scan(self, upload: Upload, content: AsyncIterator[bytes]) -> ScanResult:  # noqa: ARG002
        """Skipped."""
        return SKIPPED


SKIPPED: Final = ScanResult("none", ScanVerdict.SKIPPED)
