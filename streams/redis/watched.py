"""What the tail knows of one channel, and whom it tells. No reading here."""

from __future__ import annotations

from typing import Protocol

from streams.channel import Channel
from streams.cursor import Position
from streams.envelope import Entry
from streams.redis.keys import Keys


class Listener(Protocol):
    """Who is told what a watched channel did."""

    def events(self, entries: list[Entry]) -> None:
        """New events, dense in seq after the position the tail stood at."""

    def live(self, entries: list[Entry]) -> None:
        """New live entries."""

    def is_of(self, epoch: str) -> bool:
        """Whether `epoch` is the life of the channel that it was told of."""

    def broken(self) -> None:
        """The log did not continue where the tail stood: hold every cursor against it again."""


class Watched:
    """One watched channel: where the tail stands in its two lanes."""

    __slots__ = ("channel", "is_suspended", "listener", "live_id", "live_key", "position", "stream_key")

    def __init__(self, channel: Channel, keys: Keys, position: Position, live_id: str, listener: Listener) -> None:
        names = keys.of(channel)
        self.channel = channel
        self.stream_key = names.stream
        self.live_key = names.live
        self.position = position
        self.live_id = live_id
        self.listener = listener
        self.is_suspended = False
