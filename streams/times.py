"""RFC 3339 times as milliseconds since 1970, and back. Pure."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)


def milliseconds_of_text(text: str) -> int:
    """An RFC 3339 time as milliseconds since 1970; finer fractions are cut off.

    Raises:
        ValueError: not a time, or one without an offset from UTC.
    """
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError("a time needs its offset from UTC")
    return milliseconds_of(moment)


def milliseconds_of(moment: datetime) -> int:
    """A moment with its offset from UTC, as milliseconds since 1970."""
    return (moment - _EPOCH) // _MILLISECOND


def rfc3339(at_ms: int) -> str:
    """The time in wire form: RFC 3339, UTC, milliseconds, `Z`.

    Raises:
        OverflowError: beyond the year 9999.
    """
    return (_EPOCH + at_ms * _MILLISECOND).isoformat(timespec="milliseconds").replace("+00:00", "Z")
