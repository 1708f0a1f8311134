"""The `Range` header of a download, single ranges only (RFC 9110, 14.2). Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

_RANGE: Final = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")


@dataclass(frozen=True, slots=True)
class Span:
    """Bytes to send: from `start`, `size` of them."""

    start: int
    size: int
    is_partial: bool


def parse_range(header: str | None, size: int) -> Span | None:
    """What to send of an object of `size` bytes; None when nothing of it was asked for (416).

    A header we do not understand, or one with several ranges, is passed over, as the RFC allows: the whole is sent.
    """
    match = _RANGE.fullmatch(header or "")
    if match is None or match.group(0) == "bytes=-":
        return Span(0, size, is_partial=False)
    first, last = match.groups()
    if not first:
        start, end = max(0, size - int(last)), size
    else:
        start, end = int(first), min(size, int(last) + 1) if last else size
    return Span(start, end - start, is_partial=True) if start < end else None
