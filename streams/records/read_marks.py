"""Read marks: the last event each person has read, kept beside the channel for its state."""

from __future__ import annotations

from typing import Final

from streams.channel import Channel
from streams.envelope import Guard
from streams.redis.calls import text_pairs
from streams.redis.log import Log

MARKS_TTL_S: Final = 90 * 86_400
"""A channel nobody reads for three months forgets who read how far."""


def marking(channel: Channel, user: str, up_to: str) -> Guard:
    """The guard that keeps the mark with the live entry that announces it."""
    return Guard(_guard_name(channel), sets=((user, up_to),), ttl_s=MARKS_TTL_S)


class ReadMarks:
    """Reads the marks. Every method raises LogUnavailable while Redis is away."""

    def __init__(self, log: Log) -> None:
        self._log = log

    async def of(self, channel: Channel) -> dict[str, str]:
        """The event each user has read up to."""
        return text_pairs(await self._log.calls_of(channel).call("HGETALL", self._key(channel)))

    async def of_user(self, channel: Channel, user: str) -> str | None:
        """The event this user has read up to; None for none."""
        mark = await self._log.calls_of(channel).call("HGET", self._key(channel), user)
        return None if mark is None else mark.decode()

    def _key(self, channel: Channel) -> bytes:
        return self._log.keys.guard(channel, _guard_name(channel))


def _guard_name(channel: Channel) -> str:
    return f"marks:{channel.wire}"
