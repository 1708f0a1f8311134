"""What a subscription is told of its place: `channel.subscribed`, and `channel.resumed` as the receipt of a replay. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from hub.protocol.messages import reply
from hub.websocket.codec import encode_text
from streams.channel import Channel
from streams.cursor import Gap, Look, Position
from streams.json_bytes import to_json


@dataclass(frozen=True, slots=True)
class Opening:
    """What was decided: from where the replay starts, where the fence is, and what is missing.

    Attributes:
        state: the channel's state at `head` as JSON; None where it was not asked for.
    """

    look: Look
    start: Position
    head: Position
    gap: Gap | None
    state: bytes | None

    @property
    def count(self) -> int:
        """Events between start and fence."""
        return self.head.seq - self.start.seq


def subscribed_frame(channel: Channel, opening: Opening, re: str | None) -> bytes:
    """`channel.subscribed`. The state is JSON already and joined in as bytes."""
    look = opening.look
    fields = to_json(
        {
            "epoch": look.epoch, "head": opening.head._asdict(), "floor": look.floor._asdict(),
            "recovered": opening.gap is None, "replay": opening.count, "gap": gap_json(opening.gap),
            "state_at": opening.head.seq,
        }
    )  # fmt: skip
    if opening.state is not None:
        fields = b'%b,"state":%b}' % (fields[:-1], opening.state)
    return encode_text(reply("channel.subscribed", re, channel.wire, fields))


def resumed_frame(channel: Channel, opening: Opening) -> bytes:
    """`channel.resumed`: what the replay brought."""
    receipt = {
        "from_seq": opening.start.seq + 1 if opening.count else None, "to_seq": opening.head.seq if opening.count else None,
        "count": opening.count, "gap": gap_json(opening.gap),
    }  # fmt: skip
    return encode_text(reply("channel.resumed", None, channel.wire, to_json(receipt)))


def gap_json(gap: Gap | None) -> dict[str, object] | None:
    """A gap as the wire writes it."""
    return None if gap is None else {"reason": gap.reason.value, "from_seq": gap.from_seq, "to_seq": gap.to_seq}
