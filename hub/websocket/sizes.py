"""What all sockets of one WebSocket wire share: limits, marks and deadlines, each with its reason. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from hub.ports import ReceiverFactory

SUBPROTOCOL: Final = "hub.v1.json"
MESSAGE_SIZE_LIMIT_BYTES: Final = 1_048_576

HANDSHAKE_SIZE_LIMIT_BYTES: Final = 131_072
"""The largest first message. What a `connection.reconnect` may hold fits, written compactly: a token of 8,192, 200 cursors of
320 bytes with the longest name, ID and epoch, 100 channels of 360. More would be held for strangers, for as long as a handshake
may take."""

WRITE_HIGH_BYTES: Final = 262_144
"""Above this a peer counts as slow. Less would make a burst of joined events look slow; more costs memory per stalled
peer: 10,000 of them hold 2.6 GB at this mark."""
WRITE_LOW_BYTES: Final = 65_536
"""Below this it counts as drained: low enough to catch up by a page of events at a time, not one by one."""

CLOSE_TIMEOUT_S: Final = 5.0
"""From our first Close (or the peer's FIN) to a reset. Less cuts off slow phones, more keeps dead sockets."""

TLS_LINGER_S: Final = 1.0
"""How long a TLS peer that broke a rule is still read, for its sake: it may be in the middle of sending. Less loses our
code on slow lines, more keeps it waiting: browsers give up after two."""


@dataclass(frozen=True, slots=True)
class WireSettings:
    """What all sockets of one protocol class share."""

    factory: ReceiverFactory
    subprotocols: tuple[str, ...] = (SUBPROTOCOL,)
    message_size_limit_bytes: int = MESSAGE_SIZE_LIMIT_BYTES
    write_high_bytes: int = WRITE_HIGH_BYTES
    write_low_bytes: int = WRITE_LOW_BYTES
    close_timeout_s: float = CLOSE_TIMEOUT_S
    tls_linger_s: float = TLS_LINGER_S
    handshake_size_limit_bytes: int | None = None
    """Until the receiver calls `trust`; None for receivers that know no handshake."""
    is_deflate_accepted: bool = False
    """Off: a browser that gets it compresses all it sends, and each message then costs some 5 µs more to read."""
