"""One connection's place in one channel, and the joint between what is replayed and what is live. Pure.

A subscription is a cursor. While it is LIVE it is handed every batch the tail reads; in every other state the batches pass it
by and it reads the log from its own position. `offer` and `can_join` decide by the dense seq alone, so the joint has no gap
and no duplicate whatever the interleaving (tests/property/test_splice.py).
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Generic, NamedTuple, TypeVar

C = TypeVar("C")


class Phase(Enum):
    """Where a subscription gets its events from."""

    OPENING = auto()
    """Nothing yet: `channel.subscribed` was not sent."""
    REPLAYING = auto()
    """From the log, up to the fence, by the command that asked for it; nobody else sends anything before the receipt."""
    CATCHING_UP = auto()
    """From the log, page by page."""
    LIVE = auto()
    """From the tail."""
    ENDED = auto()


class Slice(NamedTuple):
    """Which part of a batch is new: from index `start` on; `start` 0 is the whole batch."""

    start: int


class Subscription(Generic[C]):
    """A place in a channel: everything up to `seq` was handed to the connection, nothing after it.

    Attributes:
        after: the ID of the event with `seq`; where a page is read from.
        held_signals: live-lane frames that came while OPENING; they follow `channel.subscribed`.
        owes_receipt: `channel.resumed` is due at the end of the replay.
    """

    __slots__ = ("after", "connection", "held_signals", "owes_receipt", "phase", "seq", "wants_presence")

    def __init__(self, connection: C, wants_presence: bool) -> None:
        self.connection = connection
        self.wants_presence = wants_presence
        self.phase = Phase.OPENING
        self.after = "0"
        self.seq = 0
        self.held_signals: list[bytes] | None = []
        self.owes_receipt = False

    def begin(self, after: str, seq: int) -> None:
        """Stand at a position; what follows is read from the log until `join`."""
        self.after, self.seq, self.phase = after, seq, Phase.CATCHING_UP

    def replay(self, after: str, seq: int, *, owes_receipt: bool) -> None:
        """Stand at a position, from which the command that asked for it sends what is up to the fence."""
        self.after, self.seq, self.phase, self.owes_receipt = after, seq, Phase.REPLAYING, owes_receipt

    def follow(self) -> None:
        """The fence was reached and the receipt given: read on until `join`."""
        self.phase, self.owes_receipt = Phase.CATCHING_UP, False

    def offer(self, first_seq: int, last_seq: int, last_id: str) -> Slice | None:
        """What of a batch the tail read is new here; None when nothing is to be sent now.

        A batch that does not touch the position sends the subscription back to the log: a hole is never sent.
        """
        if self.phase is not Phase.LIVE or self.seq >= last_seq:
            return None
        if first_seq > self.seq + 1:
            self.phase = Phase.CATCHING_UP
            return None
        start = self.seq + 1 - first_seq
        self.seq, self.after = last_seq, last_id
        return Slice(start)

    def fall_behind(self) -> None:
        """The connection cannot take more now: from here on the log is its buffer."""
        if self.phase is Phase.LIVE:
            self.phase = Phase.CATCHING_UP

    def rest(self) -> None:
        """Another place in the channel is about to be taken: nothing more is handed to this one."""
        if self.phase is not Phase.ENDED:
            self.phase = Phase.OPENING

    def go_on(self) -> bool:
        """The other place was not taken: read on from here; false when it has ended meanwhile."""
        if self.phase is Phase.OPENING:
            self.phase = Phase.CATCHING_UP
        return self.phase is Phase.CATCHING_UP

    def advance(self, after: str, seq: int) -> None:
        """A page up to this event was handed over."""
        self.after, self.seq = after, seq

    def can_join(self, tail_seq: int, oldest_held_seq: int) -> bool:
        """Whether going live now leaves no hole: the tail stands no further, or still holds everything in between."""
        return self.seq >= tail_seq or oldest_held_seq <= self.seq + 1

    def join(self) -> None:
        """Live from now on."""
        self.phase = Phase.LIVE

    def end(self) -> None:
        """The connection left the channel, or is gone."""
        self.phase = Phase.ENDED
        self.held_signals = None
