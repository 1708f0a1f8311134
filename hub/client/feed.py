"""The client's state of one subscription: requested, replayed, then live; in exact order or with an explicit gap. Pure.

A feed requests its channel, receives the hub's answer (`channel.subscribed`) and then events, which its reader takes.
It accepts an event only if its `seq` is the next one. Its buffer is bounded: at `high` items the client stops reading
the socket, at `low` it resumes. If another reader needs the socket, the buffer may grow to `spill`; then the feed
drops further events and later requests them again from its cursor. They are still in the stream, so nothing is lost.
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
    """Parses `channel.subscribed`, and checks its gap against the cursor `held`.

    The hub decides whether it can continue from a cursor. This is the reader's own check: an answer that
    contradicts itself is treated as a gap too, so that missing events are never passed off as continuity.
    """
    epoch = payload.get("epoch")
    head = _position(payload["head"], epoch)
    return Subscribed(
        channel=channel,
        epoch=epoch,
        head=head,
        floor=_position(payload["floor"] or {"id": FROM_START}, epoch),
        recovered=payload.get("recovered", True),
        replay=payload.get("replay", 0),
        gap=_gap(channel, payload, head, held),
        state=payload.get("state"),
        state_at=payload.get("state_at"),
        state_scope=payload.get("state_scope", "full"),
    )


def _position(found: Payload, epoch: str | None) -> Cursor:
    return Cursor(found["id"], found.get("seq"), epoch)


def _gap(channel: str, payload: Payload, head: Cursor, held: Cursor | None) -> Gap | None:
    state = payload.get("state") if payload.get("state_scope", "full") == "full" else None
    told = payload.get("gap")
    if told is not None:
        return Gap(channel, told["reason"], told.get("from_seq"), told.get("to_seq"), head, state)
    reason = None if held is None else _contradiction(payload, head, held)
    return None if reason is None else Gap(channel, reason, None, None, head, state)


def _contradiction(payload: Payload, head: Cursor, held: Cursor) -> str | None:
    """Returns the reason why an answer without a gap cannot continue from `held`, or None if it can."""
    if held.epoch is not None and head.epoch is not None and held.epoch != head.epoch:
        return "epoch_changed"
    if not payload.get("recovered", True):
        return "cursor_unknown"
    if held.seq is not None and head.seq is not None and head.seq < held.seq:
        return "cursor_unknown"
    return None


_HOLES_MAX: Final = 5
"""Holes in a row after the same cursor before the reader gets `StreamBroken`."""
_SPILL_FACTOR: Final = 4
"""`spill` as a multiple of `high`. A larger value uses more memory; a smaller one requests the same events more often."""


class Phase(Enum):
    """The state of a subscription as the client knows it."""

    IDLE = auto()
    """Not requested on this socket yet."""
    ASKED = auto()
    """Requested; events before the answer belong to an older subscription and are ignored."""
    LIVE = auto()
    """Answered by the hub: replayed and live events follow."""
    SPILLED = auto()
    """Unsubscribed because its reader is too far behind; requested again when the reader has caught up."""
    ENDED = auto()
    """Ended for good."""


class Taken(Enum):
    """The result of passing an event to a feed."""

    YES = auto()
    PASSED_OVER = auto()
    REPEATED = auto()
    HOLE = auto()
    SPILLED = auto()


@dataclass(frozen=True, slots=True)
class SubscribeOptions:
    """The options of a subscription, as in `HubClient.subscribe`; `start` is the cursor to start after, or None."""

    channel: str
    start: Cursor | None = None
    rewind: int | None = None
    state: bool = True
    presence: bool = False
    signals: bool = False
    raise_gaps: bool = True


class Feed:
    """The state of one subscription.

    Attributes:
        items: items for the reader, oldest first.
        answer: the newest `channel.subscribed`; None before the first.
        asked_as: the id of the command that requested the channel; None before the first request.
        error: the reason why it ended; None if the reader ended it.
        woken: called when an item arrives while the reader waits, and when the feed ends.
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
        """The cursor to subscribe from; None if a rewind or the live end was requested and the hub has not answered yet."""
        if self._last_id == LIVE_ONLY:
            return None
        return Cursor(self._last_id, None if self._next_seq is None else self._next_seq - 1, self._epoch)

    @property
    def plain(self) -> bool:
        """True if a cursor alone is enough to subscribe: no option needs a subscription object."""
        return self.position is not None and self.options.state and not self.options.presence

    def subscription(self) -> dict[str, object]:
        """Returns the subscription object to send now (docs/protocol.md#channels)."""
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
        """Records that the command with this id requests the channel."""
        self.phase = Phase.ASKED
        self.asked_as = command_id

    def lost(self) -> None:
        """Records the loss of the socket: the channel must be requested again on the next one."""
        self.phase = Phase.IDLE

    def dropped(self, error: ClientError) -> None:
        """Ends a feed that the hub no longer serves: there is nothing to unsubscribe."""
        self.asked_as = None
        self.end(error)

    def subscribed(self, frame: Frame) -> None:
        """Handles the hub's answer to the subscription, or its notice that a live channel's log broke off."""
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
        """Handles a stored event; `text[start:end]` is its own JSON."""
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
        """Handles a signal.

        It is dropped if the reader did not ask for signals or is behind; signals may be lost by contract.
        """
        options = self.options
        wanted = options.signals or (options.presence and frame["type"] == "channel.presence")
        if self.phase is Phase.LIVE and wanted and len(self.items) < self.high:
            self._put(read_signal(frame, text[start:end].encode()))

    def resumed(self, frame: Frame) -> Taken:
        """Handles the receipt of a replay. A receipt for more events than arrived is a hole."""
        if self.phase is not Phase.LIVE:
            return Taken.PASSED_OVER
        told = frame["payload"]
        count, to_seq, next_seq = told.get("count", 0), told.get("to_seq"), self._next_seq
        if count and to_seq is not None and (next_seq is None or to_seq >= next_seq):
            return self._hole(to_seq if next_seq is None else next_seq, to_seq + 1)
        self._put(Receipt(self.options.channel, told.get("from_seq"), to_seq, count, told.get("gap")))
        return Taken.YES

    def refused(self) -> int:
        """Records that the hub refused with "later"; returns how many such refusals in a row came before."""
        self.phase = Phase.IDLE
        self._refusals += 1
        return self._refusals - 1

    def end(self, error: ClientError | None) -> None:
        """Ends the feed. Buffered items are still delivered, then `error` is raised or, without one, the iteration ends."""
        if self.phase is not Phase.ENDED:
            self.phase = Phase.ENDED
            self.error = error
            self.woken()

    def _put(self, item: Item) -> None:
        self.items.append(item)
        if len(self.items) == 1:
            self.woken()
