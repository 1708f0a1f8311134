"""A connection's subscription to one channel, and the transition from replayed to live events. Pure.

A subscription is a cursor. While it is LIVE it is offered every batch that the tail reads; in every other phase it
ignores the tail and reads the log from its own position. `offer` and `can_join` decide by the dense seq alone, so the
transition has no gap and no duplicate, whatever the interleaving (tests/property/test_splice.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import Generic, NamedTuple, TypeVar

from hub.errors import HubError
from streams.channel import Channel
from streams.cursor import LIVE, Cursor

C = TypeVar("C")
F = TypeVar("F")


class SubscribeRequest(NamedTuple):
    """The request for one channel. `re` is None for channels of the handshake."""

    channel: Channel
    cursor: Cursor
    rewind: int | None = None
    wants_state: bool = True
    wants_presence: bool = False
    re: str | None = None

    @property
    def is_resume(self) -> bool:
        """True if a replay was requested, so that `channel.resumed` must follow it."""
        return self.rewind is not None or self.cursor.after != LIVE


@dataclass(frozen=True, slots=True)
class RefusedChannel:
    """A channel that is refused before anything is read."""

    name: str
    error: HubError
    re: str | None


class Phase(Enum):
    """The source that a subscription gets its events from."""

    OPENING = auto()
    """Nowhere yet: `channel.subscribed` was not sent."""
    REPLAYING = auto()
    """The log, up to the fence, by the command that subscribed; nothing else sends events before the receipt."""
    CATCHING_UP = auto()
    """The log, page by page."""
    LIVE = auto()
    """The tail."""
    ENDED = auto()


class SubscriptionState(Generic[C, F]):
    """The position of one subscription: events up to `seq` have been written to the connection, later ones have not.

    Attributes:
        fanout: the channel's fan-out on this node.
        after: the id of the event with `seq`; pages are read after it.
        held_signals: frames of signals that arrived while OPENING; they are sent after `channel.subscribed`.
        owes_receipt: True if `channel.resumed` must follow the replay.
        is_told: True once `channel.subscribed` was sent.
    """

    __slots__ = (
        "after", "connection", "fanout", "held_signals", "is_told", "owes_receipt", "phase", "seq", "wants_presence",
    )  # fmt: skip # a table

    def __init__(self, connection: C, fanout: F, wants_presence: bool) -> None:
        self.connection = connection
        self.fanout = fanout
        self.wants_presence = wants_presence
        self.phase = Phase.OPENING
        self.after = "0"
        self.seq = 0
        self.held_signals: list[bytes] | None = []
        self.owes_receipt = False
        self.is_told = False

    def begin(self, after: str, seq: int) -> None:
        """Sets the position; the events after it are read from the log until `join`."""
        self.after, self.seq, self.phase = after, seq, Phase.CATCHING_UP

    def replay(self, after: str, seq: int, *, owes_receipt: bool) -> None:
        """Sets the position; the command that subscribed sends the events after it, up to the fence."""
        self.after, self.seq, self.phase, self.owes_receipt = after, seq, Phase.REPLAYING, owes_receipt
        self.is_told = True

    def follow(self) -> None:
        """Ends the replay at the fence: events are now read from the log until `join`."""
        self.phase, self.owes_receipt = Phase.CATCHING_UP, False

    def offer(self, first_seq: int, last_seq: int, last_id: str) -> int | None:
        """Returns the index of the first event of a batch to send; None if nothing is to be sent now.

        A batch that does not continue from the position sends the subscription back to the log, so that no
        hole is ever sent.
        """
        if self.phase is not Phase.LIVE or self.seq >= last_seq:
            return None
        if first_seq > self.seq + 1:
            self.phase = Phase.CATCHING_UP
            return None
        start = self.seq + 1 - first_seq
        self.seq, self.after = last_seq, last_id
        return start

    def fall_behind(self) -> None:
        """Leaves the tail because the connection has no room: from now on the log is its buffer."""
        if self.phase is Phase.LIVE:
            self.phase = Phase.CATCHING_UP

    def rest(self) -> None:
        """Pauses the subscription while the connection's next subscription to the same channel is prepared."""
        if self.phase is not Phase.ENDED:
            self.phase = Phase.OPENING

    def go_on(self) -> bool:
        """Continues after `rest`, if the other subscription failed; returns False if this one has ended meanwhile."""
        if self.phase is Phase.OPENING:
            self.phase = Phase.CATCHING_UP
        return self.phase is Phase.CATCHING_UP

    def advance(self, after: str, seq: int) -> None:
        """Records that events up to this one were sent."""
        self.after, self.seq = after, seq

    def can_join(self, tail_seq: int, oldest_held_seq: int) -> bool:
        """Returns True if going live leaves no hole: the tail is not ahead, or the events in between are still cached."""
        return self.seq >= tail_seq or oldest_held_seq <= self.seq + 1

    def join(self) -> None:
        """Goes live."""
        self.phase = Phase.LIVE

    def release_signals(self) -> list[bytes]:
        """Takes the signals held back so far; later ones are sent at once."""
        held, self.held_signals = self.held_signals, None
        return held or []

    def receipt_given(self) -> None:
        """Records that `channel.resumed` was sent."""
        self.owes_receipt = False

    def end(self) -> None:
        """Ends the subscription."""
        self.phase = Phase.ENDED
        self.held_signals = None
