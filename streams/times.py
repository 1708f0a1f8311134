"""Conversion between RFC 3339 times and milliseconds since 1970. Pure."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)


def milliseconds_of_text(text: str) -> int:
    """Convert an RFC 3339 time to milliseconds since 1970, rounded down.

    Raises:
        ValueError: the text is not a time, or has no UTC offset.
    """
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError("a time needs its offset from UTC")
    return milliseconds_of(moment)


def milliseconds_of(moment: datetime) -> int:
    """Convert a time with a UTC offset to milliseconds since 1970."""
    return (moment - _EPOCH) // _MILLISECOND


def rfc3339(at_ms: int) -> str:
    """The time in wire form: RFC 3339, UTC, milliseconds, `Z`.

    Raises:
        OverflowError: the time is after the year 9999.
    """
    seconds, ms = divmod(at_ms, 1000)
    return f"{_second(seconds)}.{ms:03}Z"


@lru_cache(maxsize=1_024)
def _second(at_s: int) -> str:
    """The time without its fraction. Most times that are written are of this second, or of one that many tokens end in."""
    return (_EPOCH + timedelta(seconds=at_s)).isoformat(timespec="seconds").removesuffix("+00:00")
