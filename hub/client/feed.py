"""One channel as a reader sees it: asked for, replayed, then live; exact order or an explicit gap. Pure.

A feed is asked for, answered (`channel.subscribed`), fed, and drained by its reader. It accepts an event only if its
`seq` is the next one. Its buffer is bounded: at `high` the client stops reading the socket, at `low` it goes on. At
`spill`, reached only while another reader needs the socket, the rest is let go and asked for again from the cursor.
The stream is the buffer, so nothing is lost by that.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from hub.client.errors import ClientError, GapError, StreamBroken
from hub.client.items import FROM_START, LIVE_ONLY, Cursor, Gap, Item, Payload, Receipt, Subscribed
from hub.client.wire import Frame, read_event, read_signal


def read_subscribed(channel: str, payload: Payload, held: Cursor | None) -> Subscribed:
    """Read `channel.subscribed`, its gap checked against the position `held`.

    The hub decides on a cursor and says so. This is the reader's own check of that answer: an answer that contradicts itself
    is treated as a gap too, so that a hole is never delivered as continuity.
    """
    epoch = payload.get("epoch")
    head = _position(payload["head"], epoch)
    return Subscribed(
        channel=channel,
        epoch=epoch,
        head=head,
        floor=_position(payload["floor"], epoch),
        recovered=payload.get("recovered", True),
        replay=payload.get("replay", 0),
        gap=_gap(channel, payload, head, held),
        state=payload.get("state"),
        state_at=payload.get("state_at"),
        state_scope=payload.get("state_scope", "full"),
    )


def _position(found: Payload, epoch: str | None) -> Cursor:
    return Cursor(found["id"], found["seq"], epoch)


def _gap(channel: str, payload: Payload, head: Cursor, held: Cursor | None) -> Gap | None:
    state = payload.get("state") if payload.get("state_scope", "full") == "full" else None
    told = payload.get("gap")
    if told is not None:
        return Gap(channel, told["reason"], told.get("from_seq"), told.get("to_seq"), head, state)
    reason = None if held is None else _contradiction(payload, head, held)
    return None if reason is None else Gap(channel, reason, None, None, head, state)


def _contradiction(payload: Payload, head: Cursor, held: Cursor) -> str | None:
    """The reason an answer without a gap cannot continue `held`, or None when it can."""
    if held.epoch is not None and head.epoch is not None and held.epoch != head.epoch:
        return "epoch_changed"
    if not payload.get("recovered", True):
        return "cursor_unknown"
    if held.seq is not None and head.seq is not None and head.seq < held.seq:
        return "cursor_unknown"
    return None


_HOLES_MAX: Final = 5
"""Holes in a row from one cursor before the reader is told that the hub is broken."""
_SPILL_FACTOR: Final = 4
"""`spill` as a multiple of `high`. Larger holds more memory, smaller asks for the same events more often."""


class Phase(Enum):
    """The state of a feed at the hub."""

    IDLE = auto()
    """Not asked for on this socket."""
    ASKED = auto()
    """Asked for; frames before the answer belong to an older subscription and are passed over."""
    LIVE = auto()
    """Answered: replayed and live events follow."""
    SPILLED = auto()
    """Let go because its reader is too far behind; asked for again when the reader has caught up."""
    ENDED = auto()
    """Over for good."""


class Taken(Enum):
    """The outcome of an event offered to a feed."""

    YES = auto()
    PASSED_OVER = auto()
    REPEATED = auto()
    HOLE = auto()
    SPILLED = auto()


@dataclass(frozen=True, slots=True)
class SubscribeOptions:
    """The options of a subscription. `start` is a cursor or None; the rest as in `HubClient.subscribe`."""

    channel: str
    start: Cursor | None = None
    rewind: int | None = None
    state: bool = True
    presence: bool = False
    signals: bool = False
    raise_gaps: bool = True


class Feed:
    """One subscription's state.

    Attributes:
        items: items for the reader, oldest first.
        answer: the newest `channel.subscribed`; None before the first.
        asked_as: the id of the command that asked; None before the first.
        error: the reason it ended; None for an end the reader wanted.
        woken: called when an item arrives for a reader that found nothing, or when it ended.
    """

    __slots__ = (
        "_epoch",
        "_holes",
        "_last_id",
        "_next_seq",
        "_refusals",
        "answer",
        "asked_as",
        "error",
        "high",
        "items",
        "low",
        "options",
        "phase",
        "spill",
        "woken",
    )

    def __init__(self, options: SubscribeOptions, buffer: int, woken: Callable[[], None]) -> None:
        start = options.start
        self.options = options
        self.items: deque[Item] = deque()
        self.phase = Phase.IDLE
        self.asked_as: str | None = None
        self.error: ClientError | None = None
        self.low, self.high = buffer // 2, buffer
        self.spill = buffer * _SPILL_FACTOR
        self.woken = woken
        self.answer: Subscribed | None = None
        self._holes = self._refusals = 0
        self._last_id = start.after if start else LIVE_ONLY
        self._epoch = start.epoch if start else None
        self._next_seq = (
            1 if self._last_id == FROM_START else None if start is None or start.seq is None else start.seq + 1
        )

    @property
    def position(self) -> Cursor | None:
        """The cursor to ask from; None while only a rewind or the live end was requested and not yet answered."""
        if self._last_id == LIVE_ONLY:
            return None
        return Cursor(self._last_id, None if self._next_seq is None else self._next_seq - 1, self._epoch)

    @property
    def plain(self) -> bool:
        """True if a cursor says everything: no option needs a subscription object."""
        return self.position is not None and self.options.state and not self.options.presence

    def subscription(self) -> dict[str, object]:
        """The subscription object to ask with now (docs/protocol.md#channels)."""
        options, position = self.options, self.position
        wanted: dict[str, object] = {"channel": options.channel}
        if position is not None:
            wanted |= position.to_wire()
        elif options.rewind is not None:
            wanted["rewind"] = options.rewind
        if not options.state:
            wanted["state"] = False
        if options.presence:
            wanted["presence"] = True
        return wanted

    def ask(self, command_id: str) -> None:
        """Note that the command of this id asks for it."""
        self.phase = Phase.ASKED
        self.asked_as = command_id

    def lost(self) -> None:
        """Note the loss of the socket: the next one has to be asked again."""
        self.phase = Phase.IDLE

    def dropped(self, error: ClientError) -> None:
        """End a feed that the hub no longer holds: there is nothing to unsubscribe."""
        self.asked_as = None
        self.end(error)

    def subscribed(self, frame: Frame) -> None:
        """Take the hub's answer, or its news that the log broke under a live feed."""
        answer = read_subscribed(self.options.channel, frame["payload"], self.position)
        self.phase = Phase.LIVE
        self._refusals = 0
        self._epoch = answer.epoch
        at_head = self._last_id in (LIVE_ONLY, answer.head.after) and not answer.replay
        if at_head or answer.gap is not None:
            self._last_id = answer.head.after
            self._next_seq = None if answer.head.seq is None else answer.head.seq + 1
        self.answer = answer
        self._put(answer)
        if answer.gap is not None:
            self._gapped(answer.gap)

    def _gapped(self, gap: Gap) -> None:
        if self.options.raise_gaps:
            self.end(GapError(gap))
        else:
            self._put(gap)

    def event(self, frame: Frame, text: str, start: int, end: int) -> Taken:
        """Offer a stored event; `text[start:end]` is its own JSON."""
        if self.phase is not Phase.LIVE:
            return Taken.PASSED_OVER
        seq: int = frame["seq"]
        expected = self._next_seq
        if seq != expected and expected is not None:
            return Taken.REPEATED if seq < expected else self._hole(expected, seq)
        if len(self.items) >= self.spill:
            self.phase = Phase.SPILLED
            return Taken.SPILLED
        self._next_seq = seq + 1
        self._last_id = frame["id"]
        self._holes = 0
        self._put(read_event(frame, text[start:end].encode(), self._epoch))
        return Taken.YES

    def _hole(self, expected: int, got: int) -> Taken:
        self._holes += 1
        if self._holes > _HOLES_MAX:
            self.end(StreamBroken(self.options.channel, expected, got))
        return Taken.HOLE

    def signal(self, frame: Frame, text: str, start: int, end: int) -> None:
        """Offer a signal; it is dropped when the reader did not ask for it, or is behind (it may be lost by contract)."""
        options = self.options
        wanted = options.signals or (options.presence and frame["type"] == "channel.presence")
        if self.phase is Phase.LIVE and wanted and len(self.items) < self.high:
            self._put(read_signal(frame, text[start:end].encode()))

    def resumed(self, frame: Frame) -> Taken:
        """Take the receipt of a replay. A receipt for more than arrived is a hole."""
        if self.phase is not Phase.LIVE:
            return Taken.PASSED_OVER
        told = frame["payload"]
        count, to_seq, next_seq = told.get("count", 0), told.get("to_seq"), self._next_seq
        if count and to_seq is not None and (next_seq is None or to_seq >= next_seq):
            return self._hole(to_seq if next_seq is None else next_seq, to_seq + 1)
        self._put(Receipt(self.options.channel, told.get("from_seq"), to_seq, count, told.get("gap")))
        return Taken.YES

    def refused(self) -> int:
        """Note that the hub said "later"; returns how often it said so before, in a row."""
        self.phase = Phase.IDLE
        self._refusals += 1
        return self._refusals - 1

    def end(self, error: ClientError | None) -> None:
        """End the feed. Buffered items are still handed out, then `error` is raised (or the iteration ends)."""
        if self.phase is not Phase.ENDED:
            self.phase = Phase.ENDED
            self.error = error
            self.woken()

    def _put(self, item: Item) -> None:
        self.items.append(item)
        if len(self.items) == 1:
            self.woken()
