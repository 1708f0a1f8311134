"""Bytes of a WebSocket client in, messages out: the receiving half of RFC 6455 section 5, for a server. Pure.

Does not answer pings, close sockets or keep time: it says what came in, and the wire acts. Rules kept here: reserved
bits and opcodes, masking, lengths in their shortest form, control frames whole and short, fragments in order, UTF-8,
close codes, and the message size limit, which is decided from a frame's head, before a byte of its payload is kept.

An idle decoder holds four references and no buffer.
"""

from __future__ import annotations

import zlib
from typing import Final

from hub.websocket.deflate import TooLarge
from hub.websocket.encoder import (
    BINARY,
    CLOSE,
    CONTROL_BYTES_MAX,
    FIN,
    PING,
    PONG,
    TEXT,
    close_payload,
    may_be_sent,
)
from hub.websocket.frame_message import PartialMessage
from hub.websocket.mask import REPEAT, unmask

FAILED: Final = -1
"""The peer broke a rule. The payload is the one our Close frame must carry; nothing after it is read."""

FrameEvent = tuple[int, bytes]
"""TEXT or BINARY and a whole message; PING, PONG, CLOSE and the payload; or FAILED and the answer's payload."""

_CONTINUATION: Final = 0x0
_FINAL_TEXT: Final = FIN | TEXT
_DATA_OPCODES: Final = frozenset({TEXT, BINARY})
_RESERVED: Final = 0x70
_RESERVED_1: Final = 0x40
"""RFC 7692 section 6: set on the first frame of a compressed message, and on no other."""
_MASKED: Final = 0x80
_SHORT_MAX: Final = 125
_MEDIUM: Final = 126
"""Section 5.2: a 7-bit length up to 125 is the length, 126 says 16 bits follow, 127 says 64."""
_MEDIUM_HEAD_BYTES: Final = 8
_OPCODES: Final = frozenset({_CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG})
_FAST_BYTES_MAX: Final = (len(REPEAT) - 1) * 4

PROTOCOL_ERROR: Final = 1002
INVALID_UTF8: Final = 1007
TOO_LARGE: Final = 1009


class _Violation(Exception):
    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.payload = close_payload(code, reason)


class FrameDecoder:
    """One client's bytes, in any split, to events.

    Args:
        message_size_limit_bytes: the largest message taken, fragments added up; one byte more is a 1009.
        is_deflate: whether compressed messages were agreed on (RFC 7692, see `hub.websocket.deflate`).
        first_limit_bytes: a smaller limit that holds until `trust`; messages are then handed out one a `feed`, so that what is
            behind the first is read by the limit that the first earned.

    Attributes:
        is_one_a_feed: whether messages are handed out so.
    """

    __slots__ = (
        "_fast_limit",
        "_held",
        "_is_deflate",
        "_is_done",
        "_limit",
        "_message",
        "_trusted_limit",
        "is_one_a_feed",
    )

    def __init__(
        self, message_size_limit_bytes: int, *, is_deflate: bool = False, first_limit_bytes: int | None = None
    ) -> None:
        self._is_deflate = is_deflate
        self._limit = self._trusted_limit = message_size_limit_bytes
        self.is_one_a_feed = first_limit_bytes is not None
        if first_limit_bytes is not None:
            self._limit = min(first_limit_bytes, message_size_limit_bytes)
        self._fast_limit = min(message_size_limit_bytes, _FAST_BYTES_MAX)
        self._held = b""
        self._message: PartialMessage | None = None
        self._is_done = False

    def feed(self, data: bytes) -> list[FrameEvent]:
        """What these bytes complete, in order. After CLOSE or FAILED everything is ignored."""
        if self._is_done:
            return []
        if self._held:
            data = self._held + data
            self._held = b""
        events: list[FrameEvent] = []
        try:
            if self.is_one_a_feed:
                self._read_one(data, events)
            else:
                self._read(data, events)
        except _Violation as violation:
            self._stop(events, FAILED, violation.payload)
        except UnicodeDecodeError:
            self._stop(events, FAILED, close_payload(INVALID_UTF8, "text must be UTF-8"))
        return events

    def trust(self) -> None:
        """The peer has said who it is: the full limit holds."""
        self._limit = self._trusted_limit
        self.is_one_a_feed = False

    def _stop(self, events: list[FrameEvent], kind: int, payload: bytes) -> None:
        events.append((kind, payload))
        self._is_done = True
        self._held = b""
        self._message = None

    def _read(self, data: bytes, events: list[FrameEvent]) -> None:
        """The loop over frames. What nearly all are, whole masked text of at most 1,020 bytes, is read right here."""
        at = 0
        end = len(data)
        limit = self._fast_limit
        while at < end:
            if data[at] == _FINAL_TEXT and self._message is None and end - at >= _MEDIUM_HEAD_BYTES:
                size = data[at + 1] - _MASKED
                start = at + 6
                least = 0
                if size > _SHORT_MAX:
                    size = data[at + 2] << 8 | data[at + 3] if size == _MEDIUM else -1
                    start = at + 8
                    least = _MEDIUM  # a length not in its shortest form is left to the other path, which refuses it
                stop = start + size
                if least <= size <= limit and stop <= end:
                    words = (size + 3) >> 2
                    payload = (
                        int.from_bytes(data[start:stop], "little")
                        ^ int.from_bytes(data[start - 4 : start], "little") * REPEAT[words]
                    ).to_bytes(words << 2, "little")[:size]
                    if not payload.isascii():
                        payload.decode()
                    events.append((TEXT, payload))
                    at = stop
                    continue
            at = self._read_any(data, at, end, events)

    def _read_one(self, data: bytes, events: list[FrameEvent]) -> None:
        """Up to the end of one message, with the control frames before it; the rest is kept for the next `feed`."""
        at = 0
        while at < len(data):
            at = self._read_any(data, at, len(data), events)
            if events and events[-1][0] in _DATA_OPCODES:
                self._held = data[at:]
                return

    def _read_any(self, data: bytes, at: int, end: int, events: list[FrameEvent]) -> int:
        """Read one frame, or as much of it as there is; returns where to go on."""
        message = self._message
        if message is not None and message.missing:
            return self._fill(message, data, at, end, events)
        head = self._head(data, at, end)
        if head is None or (head[0] & 0x08 and head[1] + head[2] > end):
            self._held = data[at:]  # a head, or a control frame: at most 131 bytes
            return end
        first, start, size = head
        if first & 0x08:
            self._control(first & 0x0F, unmask(data[start : start + size], data[start - 4 : start]), events)
            return end if self._is_done else start + size
        if message is None:
            message = self._message = PartialMessage(first & 0x0F, is_deflated=bool(first & _RESERVED_1))
        message.begin_frame(size, data[start - 4 : start], is_final=first >= FIN)
        return self._fill(message, data, start, end, events)

    def _fill(self, message: PartialMessage, data: bytes, at: int, end: int, events: list[FrameEvent]) -> int:
        stop = min(end, at + message.missing)
        message.add(data[at:stop])
        if message.is_final and not message.missing:
            events.append((message.opcode, self._finished(message)))
            self._message = None
        return stop

    def _finished(self, message: PartialMessage) -> bytes:
        try:
            return message.finish(self._limit)
        except TooLarge:
            raise _Violation(TOO_LARGE, f"a message is at most {self._limit} bytes") from None
        except zlib.error:
            raise _Violation(PROTOCOL_ERROR, "a compressed message must inflate") from None

    def _head(self, data: bytes, at: int, end: int) -> tuple[int, int, int] | None:
        """First byte, start of the payload and its size; None while the head is not all there."""
        if end - at < 2:  # noqa: PLR2004 (section 5.2: the fixed part)
            return None
        first, second = data[at], data[at + 1]
        self._check_first_bytes(first, second)
        size = second & 0x7F
        start = at + 6
        if size > _SHORT_MAX:
            start = at + (_MEDIUM_HEAD_BYTES if size == _MEDIUM else 14)
            if start - 4 > end:
                return None
            size = _extended(data[at + 2 : start - 4])
        held = len(self._message.body) if self._message is not None else 0
        if not first & 0x08 and held + size > self._limit:
            raise _Violation(TOO_LARGE, f"a message is at most {self._limit} bytes")
        return (first, start, size) if start <= end else None

    def _check_first_bytes(self, first: int, second: int) -> None:
        opcode = first & 0x0F
        if first & _RESERVED and not (
            first & _RESERVED == _RESERVED_1 and self._is_deflate and opcode in _DATA_OPCODES
        ):
            raise _Violation(PROTOCOL_ERROR, "reserved bits must be 0")
        if opcode not in _OPCODES:
            raise _Violation(PROTOCOL_ERROR, "reserved opcode")
        if not second & _MASKED:
            raise _Violation(PROTOCOL_ERROR, "client frames must be masked")
        if opcode & 0x08:
            if not first & FIN or second & 0x7F > CONTROL_BYTES_MAX:
                raise _Violation(PROTOCOL_ERROR, "control frames are whole and at most 125 bytes")
        elif (opcode == _CONTINUATION) != (self._message is not None):
            raise _Violation(PROTOCOL_ERROR, "fragments must follow each other and nothing else")

    def _control(self, opcode: int, payload: bytes, events: list[FrameEvent]) -> None:
        if opcode == CLOSE:
            _check_close(payload)
            self._stop(events, CLOSE, payload)
        else:
            events.append((opcode, payload))


def _extended(field: bytes) -> int:
    """The 16- or 64-bit length. Section 5.2: the shortest form is a must, the top bit of 64 is 0."""
    size = int.from_bytes(field, "big")
    if size < (_MEDIUM if len(field) == 2 else 65_536) or size >> 63:  # noqa: PLR2004 (bytes of the 16-bit field)
        raise _Violation(PROTOCOL_ERROR, "a length takes its shortest form, below 2^63")
    return size


def _check_close(payload: bytes) -> None:
    """Section 5.5.1 and 7.4: nothing, or a code that may be sent and a UTF-8 reason."""
    if not payload:
        return
    if len(payload) == 1 or not may_be_sent(int.from_bytes(payload[:2], "big")):
        raise _Violation(PROTOCOL_ERROR, "close code must not be sent")
    payload[2:].decode()


def close_code(payload: bytes) -> int:
    """The code of a Close payload that was checked; 1005 when it is empty (section 7.1.5)."""
    return int.from_bytes(payload[:2], "big") if payload else 1005
