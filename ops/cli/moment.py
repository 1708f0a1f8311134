"""Moments as an operator writes them: RFC 3339 times and event ids."""

from __future__ import annotations

from datetime import UTC, datetime

from ops.cli.failure import EXIT_USAGE, CommandFailed
from streams.errors import MalformedCursor
from streams.ids import id_order
from streams.times import milliseconds_of


def milliseconds(text: str, option: str) -> int:
    """A time in milliseconds since 1970; without an offset it is UTC.

    Raises:
        CommandFailed: it is no time.
    """
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as refused:
        raise CommandFailed(f"{option}: write a time like 2026-11-23T04:59:00Z", EXIT_USAGE) from refused
    return milliseconds_of(moment if moment.tzinfo else moment.replace(tzinfo=UTC))


def event_id(text: str, option: str) -> str:
    """An event's id, or 0.

    Raises:
        CommandFailed: it is neither.
    """
    try:
        id_order(text)
    except MalformedCursor as refused:
        raise CommandFailed(f"{option}: {refused}", EXIT_USAGE) from refused
    return text


def last_of(text: str, option: str) -> str:
    """The range's end that an id or a time means, itself included: a bare millisecond covers all of its events."""
    return str(milliseconds(text, option)) if "T" in text or text.count("-") > 1 else event_id(text, option)
