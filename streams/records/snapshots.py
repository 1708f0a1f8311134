"""Snapshots: the folded state of a channel, stored beside its log so that a node need not fold from the beginning."""

from __future__ import annotations

import logging
from typing import Final, NamedTuple
from zlib import crc32

from streams.channel import Channel
from streams.redis.log import Log

_log: Final = logging.getLogger(__name__)


class Snapshot(NamedTuple):
    """A state as its projection serialises it, and the epoch of the log that it was folded from."""

    epoch: str
    state: bytes


class Snapshots:
    """Reads and writes snapshots; a channel has at most one, which may be older than its log."""

    def __init__(self, log: Log) -> None:
        self._log = log

    async def load(self, channel: Channel) -> Snapshot | None:
        """Load the channel's snapshot; None if there is none or its checksum does not match.

        Raises:
            LogUnavailable: Redis is unreachable.
        """
        raw = await self._log.calls_of(channel).call("GET", self._log.keys.snapshot(channel))
        if raw is None:
            return None
        written, _, value = raw.partition(b"\n")
        if written != _checksum(value):
            _log.error("the snapshot of %s does not match its checksum; the state is folded from the log", channel.path)
            return None
        epoch, _, state = value.partition(b"\n")
        return Snapshot(epoch.decode(), state)

    async def save(self, channel: Channel, snapshot: Snapshot) -> None:
        """Store the snapshot in place of the previous one.

        Raises:
            LogUnavailable: Redis is unreachable.
        """
        value = snapshot.epoch.encode() + b"\n" + snapshot.state
        await self._log.calls_of(channel).call(
            "SET", self._log.keys.snapshot(channel), _checksum(value) + b"\n" + value
        )


def _checksum(value: bytes) -> bytes:
    return b"%d" % crc32(value)
