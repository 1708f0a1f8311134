"""Where people have read to: the last mark of each is kept beside the channel, for the snapshot."""

from __future__ import annotations

from typing import Final

from streams.channel import Channel
from streams.envelope import Guard

MARKS_TTL_S: Final = 90 * 86_400
"""A channel nobody reads for three months forgets who read how far."""


def marks_guard_name(channel: Channel) -> str:
    """The hash of read marks by user."""
    return f"marks:{channel.wire}"


def marking(channel: Channel, user: str, up_to: str) -> Guard:
    """Keep the mark with the live entry that tells of it."""
    return Guard(marks_guard_name(channel), sets=((user, up_to),), ttl_s=MARKS_TTL_S)
