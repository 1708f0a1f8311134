"""What the hub's answer to a resume means for a reader: carry on, or a gap. Pure.

The hub decides what a cursor is worth and says so. This is the reader's own check of that answer: an answer that
contradicts itself is treated as a gap too, so that a hole is never delivered as continuity.
"""

from __future__ import annotations

from hub.client.items import Cursor, Gap, Payload, Subscribed


def read_subscribed(channel: str, payload: Payload, held: Cursor | None) -> Subscribed:
    """The frame `channel.subscribed` as a value, its gap checked against the position `held`."""
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
    )


def _position(found: Payload, epoch: str | None) -> Cursor:
    return Cursor(found["id"], found["seq"], epoch)


def _gap(channel: str, payload: Payload, head: Cursor, held: Cursor | None) -> Gap | None:
    state = payload.get("state")
    told = payload.get("gap")
    if told is not None:
        return Gap(channel, told["reason"], told.get("from_seq"), told.get("to_seq"), head, state)
    reason = None if held is None else _contradiction(payload, head, held)
    return None if reason is None else Gap(channel, reason, None, None, head, state)


def _contradiction(payload: Payload, head: Cursor, held: Cursor) -> str | None:
    """Why an answer without a gap cannot continue `held`, or None when it can."""
    if held.epoch is not None and head.epoch is not None and held.epoch != head.epoch:
        return "epoch_changed"
    if not payload.get("recovered", True):
        return "cursor_unknown"
    if held.seq is not None and head.seq is not None and head.seq < held.seq:
        return "cursor_unknown"
    return None
