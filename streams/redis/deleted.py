"""Channels that are deleted: what their record says of it, and the events that wait under other keys to be archived."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from streams.channel import Channel
from streams.redis.calls import Calls
from streams.redis.keys import ChannelKeys, Keys
from streams.redis.log import Log
from streams.redis.replay import Replay
from streams.times import rfc3339


class Deletion(NamedTuple):
    """The field `deleted` of a channel's meta hash, which stays after the deletion.

    Attributes:
        at_ms: when it was deleted, by the clock of Redis.
        epoch, seq: the epoch that ended, and its newest event.
        by: who deleted it.
    """

    at_ms: int
    epoch: str
    seq: int
    by: str

    @property
    def told(self) -> str:
        """The words about it."""
        return f"deleted by {self.by} at {rfc3339(self.at_ms)}, after event {self.seq:,}"

    @classmethod
    def parse(cls, text: str) -> Deletion:
        """Read the field.

        Raises:
            ValueError: it has another form.
        """
        at_ms, epoch, seq, by = text.split(" ")
        return cls(int(at_ms), epoch, int(seq), by)


class DeletedKeys(Keys):
    """The keys under which the events and the record of a deleted channel wait until they are archived."""

    def _name(self, channel: Channel) -> ChannelKeys:
        names = super()._name(channel)
        stream = names.stream + b":deleted"
        return names._replace(stream=stream)


class DeletedLog:
    """The log as the keeper of the archive sees it, with the events of deleted channels in the place of the present ones.

    Attributes:
        keys: builds the names of these keys.
        stored: reads these events, as they are stored.
    """

    def __init__(self, log: Log) -> None:
        self._log = log
        self.keys: Keys = DeletedKeys(log.keys.partitions, log.keys.tags)
        self.stored: Replay = log.stored.under(self.keys)

    @property
    def memory(self) -> tuple[int, int]:
        """See `Log.memory`."""
        return self._log.memory

    def now_ms(self) -> int:
        """See `Log.now_ms`."""
        return self._log.now_ms()

    def calls_of(self, channel: Channel) -> Calls:
        """See `Log.calls_of`."""
        return self._log.calls_of(channel)

    def by_server(self) -> Iterator[tuple[Sequence[int], Calls]]:
        """See `Log.by_server`."""
        return self._log.by_server()
