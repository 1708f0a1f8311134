"""One connection's place in one channel, and the joint between replayed and live events. Pure.

A subscription is a cursor. While it is LIVE it is handed every batch the tail reads; in every other state the batches pass it
by and it reads the log from its own position. `offer` and `can_join` decide by the dense seq alone, so the joint has no gap
and no duplicate whatever the interleaving (tests/property/test_splice.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import Generic, TypeVar

from hub.errors import HubError
from streams.channel import Channel
from streams.cursor import LIVE, Cursor

C = TypeVar("C")
F = TypeVar("F")


@dataclass(frozen=True, slots=True)
class SubscribeRequest:
    """One channel a client asks to follow. `re` is None for channels of the handshake."""

    channel: Channel
    cursor: Cursor
    rewind: int | None = None
    wants_state: bool = True
    wants_presence: bool = False
    re: str | None = None

    @property
    def is_resume(self) -> bool:
        """True when a replay was asked for, so that a receipt is due."""
        return self.rewind is not None or self.cursor.after != LIVE


@dataclass(frozen=True, slots=True)
class RefusedChannel:
    """A channel that is refused before anything is looked up."""

    name: str
    error: HubError
    re: str | None


class Phase(Enum):
    """The source a subscription gets its events from."""

    OPENING = auto()
    """Nothing yet: `channel.subscribed` was not sent."""
    REPLAYING = auto()
    """From the log, up to the fence, by the command that asked for it; nobody else sends anything before the receipt."""
    CATCHING_UP = auto()
    """From the log, page by page."""
    LIVE = auto()
    """From the tail."""
    ENDED = auto()


class SubscriptionState(Generic[C, F]):
    """A place in a channel: everything up to `seq` was handed to the connection, nothing after it.

    Attributes:
        fanout: the channel's fan-out on this node.
        after: the ID of the event with `seq`; where a page is read from.
        held_signals: frames of the live lane that came while OPENING; they follow `channel.subscribed`.
        owes_receipt: `channel.resumed` is due at the end of the replay.
        is_told: `channel.subscribed` was sent.
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
        """Stand at a position; the events after it are read from the log until `join`."""
        self.after, self.seq, self.phase = after, seq, Phase.CATCHING_UP

    def replay(self, after: str, seq: int, *, owes_receipt: bool) -> None:
        """Stand at a position, from which the command that asked for it sends the events up to the fence."""
        self.after, self.seq, self.phase, self.owes_receipt = after, seq, Phase.REPLAYING, owes_receipt
        self.is_told = True

    def follow(self) -> None:
        """The fence was reached and the receipt given: read on until `join`."""
        self.phase, self.owes_receipt = Phase.CATCHING_UP, False

    def offer(self, first_seq: int, last_seq: int, last_id: str) -> int | None:
        """The index of the first event of a batch that is new here; None when nothing is to be sent now.

        A batch that does not touch the position sends the subscription back to the log: a hole is never sent.
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
        """True when going live now leaves no hole: the tail stands no further, or still holds everything in between."""
        return self.seq >= tail_seq or oldest_held_seq <= self.seq + 1

    def join(self) -> None:
        """Live from now on."""
        self.phase = Phase.LIVE

    def release_signals(self) -> list[bytes]:
        """The signals held back so far; from now on they are sent as they come."""
        held, self.held_signals = self.held_signals, None
        return held or []

    def receipt_given(self) -> None:
        """`channel.resumed` was sent."""
        self.owes_receipt = False

    def end(self) -> None:
        """The connection left the channel, or is gone."""
        self.phase = Phase.ENDED
        self.held_signals = None
