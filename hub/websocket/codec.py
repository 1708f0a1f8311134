"""The WebSocket frame codec of a server: decodes a client's bytes, encodes the server's frames (RFC 6455 section 5). Pure.

It does not answer pings, close sockets or keep time: it reports what arrived, and the protocol acts. A server's
frames are unmasked and never fragmented, so one encoding serves every socket. It enforces reserved bits and opcodes,
masking, lengths in their shortest form, control frames in one piece and short, fragments in order, UTF-8, close
codes, and the message size limit, which is checked when a frame's header arrives, before its payload is buffered.
Written by us: ops/decisions/0010-websocket-codec.md.
"""

from __future__ import annotations

import zlib
from codecs import utf_8_decode
from typing import Final

TEXT: Final = 0x1
BINARY: Final = 0x2
CLOSE: Final = 0x8
PING: Final = 0x9
PONG: Final = 0xA
FIN: Final = 0x80

CLOSE_REASON_BYTES_MAX: Final = 123
"""A control frame has at most 125 bytes (section 5.5), two of which are the code."""
CONTROL_BYTES_MAX: Final = 125

_REGISTERED_CODES: Final = frozenset({1000, 1001, 1002, 1003, *range(1007, 1015)})
"""The codes of the IANA registry, except 1004 (reserved) and 1005, 1006, 1015, which section 7.4.1 bans from the wire."""


def may_be_sent(code: int) -> bool:
    """True if a Close frame may carry the code: registered, or from 3000 to 4999 (section 7.4)."""
    return code in _REGISTERED_CODES or 3000 <= code <= 4999  # noqa: PLR2004 (the section's own range)


def _short_heads(opcode: int) -> tuple[bytes, ...]:
    return tuple(bytes((FIN | opcode, size)) for size in range(126))


_SHORT_TEXT: Final = _short_heads(TEXT)
_SHORT_BINARY: Final = _short_heads(BINARY)
_SHORT_LIMIT: Final = 126
_MEDIUM_LIMIT: Final = 65_536


def encode_text(payload: bytes) -> bytes:
    """Encodes one text frame; `payload` must be UTF-8."""
    size = len(payload)
    if size < _SHORT_LIMIT:
        return _SHORT_TEXT[size] + payload
    if size < _MEDIUM_LIMIT:
        return b"\x81\x7e" + size.to_bytes(2, "big") + payload
    return b"\x81\x7f" + size.to_bytes(8, "big") + payload


def encode_binary(payload: bytes) -> bytes:
    """Encodes one binary frame."""
    size = len(payload)
    if size < _SHORT_LIMIT:
        return _SHORT_BINARY[size] + payload
    if size < _MEDIUM_LIMIT:
        return b"\x82\x7e" + size.to_bytes(2, "big") + payload
    return b"\x82\x7f" + size.to_bytes(8, "big") + payload


def encode_pong(payload: bytes = b"") -> bytes:
    """Encodes a pong, which must have the payload of the ping.

    Raises:
        ValueError: the payload is longer than 125 bytes.
    """
    return _control(PONG, payload)


def close_payload(code: int, reason: str = "") -> bytes:
    """Encodes the payload of a Close frame. The reason is cut to 123 bytes, between characters.

    Raises:
        ValueError: the code must not appear on the wire.
    """
    if not may_be_sent(code):
        raise ValueError(f"close code {code} must not be sent; use 1000 to 1003, 1007 to 1014 or 3000 to 4999")
    text = reason.encode()[:CLOSE_REASON_BYTES_MAX].decode(errors="ignore").encode()
    return code.to_bytes(2, "big") + text


def encode_close(code: int, reason: str = "") -> bytes:
    """Encodes a Close frame; see `close_payload`.

    Raises:
        ValueError: the code must not appear on the wire.
    """
    return _control(CLOSE, close_payload(code, reason))


def frame_close(payload: bytes) -> bytes:
    """Encodes a Close frame with this payload, as returned by `close_payload` or reported with FAILED."""
    return _control(CLOSE, payload)


def echo_close(payload: bytes) -> bytes:
    """Encodes the answer to a Close frame with this (checked) payload: the same code, without a reason (section 5.5.1)."""
    return _control(CLOSE, payload[:2])


def _control(opcode: int, payload: bytes) -> bytes:
    if len(payload) > CONTROL_BYTES_MAX:
        raise ValueError("a control frame's payload is at most 125 bytes")
    return bytes((FIN | opcode, len(payload))) + payload


def split_frames(frames: bytes) -> list[tuple[int, bytes]]:
    """Splits our own frames, joined for one write, into opcodes and payloads.

    Raises:
        ValueError: the bytes are not complete, unmasked, unfragmented frames.
    """
    found: list[tuple[int, bytes]] = []
    at = 0
    while at < len(frames):
        start, size = _extent(frames, at)
        if start + size > len(frames) or not frames[at] & FIN:
            raise ValueError("not complete, unfragmented server frames")
        found.append((frames[at] & 0x0F, frames[start : start + size]))
        at = start + size
    return found


def _extent(frames: bytes, at: int) -> tuple[int, int]:
    """Returns start and size of the payload of the frame at `at`."""
    size = frames[at + 1] if at + 1 < len(frames) else 0xFF
    if size < _SHORT_LIMIT:
        return at + 2, size
    if size > 0x7F:  # noqa: PLR2004 (the mask bit)
        raise ValueError("not complete, unmasked server frames")
    start = at + (4 if size == _SHORT_LIMIT else 10)
    return start, int.from_bytes(frames[at + 2 : start], "big")


_WORDS_MAX: Final = 256
"""Maximum 4-byte words of a payload with a precomputed multiplier; together these take about 150 KB per process."""

_LANES_FROM_BYTES: Final = 32_768
"""From this size four `bytes.translate` calls are faster (1.6 against 2.6 ms for 1 MiB); below it their set-up costs more."""

REPEAT: Final = tuple(int.from_bytes(b"\x01\0\0\0" * words, "little") for words in range(_WORDS_MAX))
"""`mask * REPEAT[n]` is the mask repeated n times, as a little-endian integer."""

_TABLES: Final = tuple(bytes(value ^ key for value in range(256)) for key in range(256))
"""`data.translate(_TABLES[key])` XORs every byte of data with key. 64 KB per process."""


def unmask(payload: bytes, mask: bytes) -> bytes:
    """XORs the payload with its mask (section 5.3); the mask's first byte applies to the payload's first byte.

    A payload is XORed as one large integer, the cheapest way in CPython for a few hundred bytes: 0.6 µs for 150
    bytes, against 1.9 µs for each of the mask's four bytes separately. For large payloads the latter is faster,
    since it uses tables.
    """
    size = len(payload)
    if size >= _LANES_FROM_BYTES:
        return _unmask_by_lane(payload, mask)
    words = (size + 3) >> 2
    repeat = REPEAT[words] if words < _WORDS_MAX else int.from_bytes(b"\x01\0\0\0" * words, "little")
    plain = int.from_bytes(payload, "little") ^ int.from_bytes(mask, "little") * repeat
    return plain.to_bytes(words << 2, "little")[:size]


def _unmask_by_lane(payload: bytes, mask: bytes) -> bytes:
    plain = bytearray(len(payload))
    for lane, key in enumerate(mask):
        plain[lane::4] = payload[lane::4].translate(_TABLES[key])
    return bytes(plain)


WINDOW_BITS: Final = -15
DEFLATE_TAIL: Final = b"\x00\x00\xff\xff"
"""The four bytes at the end of a flush, which RFC 7692 section 7.2.1 omits from a message."""


class TooLarge(Exception):
    """The message exceeds the limit after decompression."""


_PIECE_BYTES: Final = 4_096
"""Bytes decompressed at a time, counted before the next step: with zlib's own 40 KB, a message that exceeds the limit uses at
most 64 KiB beyond it."""
_SLICE_BYTES: Final = 2_048
"""Compressed bytes passed to zlib at a time, because it copies what it has no room for."""
_ENDS: Final = (b"", DEFLATE_TAIL, b"\0" + DEFLATE_TAIL)
"""The bytes that may follow a final block: in section 7.2.3.4 it is a zero byte."""


def inflate(payload: bytes, limit_bytes: int) -> bytes:
    """Decompresses a message (RFC 7692 section 7.2.2).

    Raises:
        TooLarge: it exceeds `limit_bytes`; at most one piece beyond it was decompressed.
        zlib.error: not a deflate stream, or one followed by other bytes.
    """
    inflater = zlib.decompressobj(WINDOW_BITS)
    pieces: list[bytes] = []
    room_bytes = limit_bytes
    end = len(payload)
    for at in range(0, end + 1, _SLICE_BYTES):
        rest = payload[at : at + _SLICE_BYTES]
        if at + _SLICE_BYTES > end:
            rest += DEFLATE_TAIL
        piece = inflater.decompress(rest, _PIECE_BYTES)
        while piece:
            room_bytes -= len(piece)
            if room_bytes < 0:
                raise TooLarge
            pieces.append(piece)
            if len(piece) < _PIECE_BYTES:
                break
            piece = inflater.decompress(inflater.unconsumed_tail, _PIECE_BYTES)
    if inflater.eof and inflater.unused_data not in _ENDS:
        raise zlib.error("bytes behind the final block")
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


class PartialMessage:
    """A message that arrives in pieces: fragmented, or larger than one read.

    Each piece is unmasked and, for text, checked when it arrives, so that an invalid byte is found at once and
    nothing is copied twice. The buffer is a single bytearray, so 65,536 fragments cost as much as one frame of
    the same size.

    Attributes:
        opcode: TEXT or BINARY, from the first frame.
        is_deflated: True if the first frame marks the message as compressed (RFC 7692); its text is then checked at the end.
        body: the unmasked bytes so far.
        missing: bytes that the current frame still lacks; 0 between frames.
        is_final: True if the current frame ends the message.
    """

    __slots__ = ("_mask", "_open_character", "body", "is_deflated", "is_final", "missing", "opcode")

    def __init__(self, opcode: int, *, is_deflated: bool = False) -> None:
        self.opcode = opcode
        self.is_deflated = is_deflated
        self.body = bytearray()
        self.missing = 0
        self.is_final = False
        self._mask = b""
        self._open_character = b""

    def begin_frame(self, size: int, mask: bytes, *, is_final: bool) -> None:
        """Starts a frame of `size` bytes; the previous one must be complete."""
        self.missing = size
        self.is_final = is_final
        self._mask = mask

    def add(self, piece: bytes) -> None:
        """Adds the next bytes of the current frame, at most `missing`.

        Raises:
            UnicodeDecodeError: text that is not UTF-8, found at the first invalid byte.
        """
        plain = unmask(piece, self._mask)
        self.missing -= len(piece)
        if self.missing:
            turn = len(piece) & 3
            self._mask = self._mask[turn:] + self._mask[:turn]
        if self.opcode == TEXT and not self.is_deflated:
            self._check(plain, is_end=self.is_final and not self.missing)
        self.body += plain

    def finish(self, limit_bytes: int) -> bytes:
        """Returns the complete message, decompressed if necessary.

        Raises:
            TooLarge: more than `limit_bytes` after decompression.
            UnicodeDecodeError: decompressed text that is not UTF-8.
            zlib.error: it cannot be decompressed.
        """
        if not self.is_deflated:
            return bytes(self.body)
        plain = inflate(bytes(self.body), limit_bytes)
        if self.opcode == TEXT and not plain.isascii():
            plain.decode()
        return plain

    def _check(self, plain: bytes, *, is_end: bool) -> None:
        if not self._open_character and plain.isascii():
            return
        text = self._open_character + plain
        _, used = utf_8_decode(text, "strict", is_end)
        self._open_character = text[used:]


FAILED: Final = -1
"""Event kind: the peer violated the protocol. Its payload is what our Close frame carries; nothing after it is read."""

FrameEvent = tuple[int, bytes]
"""TEXT or BINARY with a complete message; PING, PONG or CLOSE with its payload; or FAILED with the payload of our Close."""

_CONTINUATION: Final = 0x0
_FINAL_TEXT: Final = FIN | TEXT
_DATA_OPCODES: Final = frozenset({TEXT, BINARY})
_RESERVED: Final = 0x70
RESERVED_1: Final = 0x40
"""RSV1: set on the first frame of a compressed message, and on no other (RFC 7692 section 6)."""
_MASKED: Final = 0x80
_SHORT_MAX: Final = 125
_MEDIUM: Final = 126
"""Section 5.2: a 7-bit length of up to 125 is the length itself; 126 means that 16 bits follow, 127 that 64 follow."""
_MEDIUM_HEAD_BYTES: Final = 8
_OPCODES: Final = frozenset({_CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG})
_FAST_BYTES_MAX: Final = (len(REPEAT) - 1) * 4
FEED_BYTES_MAX: Final = 262_144
"""The size of one read. With compression, a `feed` ends with the message that exceeds it; otherwise one read could decompress
to a thousand times its size."""

FEED_MESSAGES_MAX: Final = 32
"""Maximum events that one `feed` returns: about a millisecond of commands. A read may have thousands, and whatever else is ready
would wait until all of them are handled."""

PROTOCOL_ERROR: Final = 1002
INVALID_UTF8: Final = 1007
TOO_LARGE: Final = 1009


class _Violation(Exception):
    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.payload = close_payload(code, reason)


class FrameDecoder:
    """Decodes one client's bytes, split anywhere, into events. An idle decoder has two references and no buffer.

    Args:
        message_size_limit_bytes: maximum size of a message, after defragmentation and decompression; above it, 1009.
        is_deflate: True if compression was negotiated (RFC 7692, see `hub.websocket.deflate`).
        is_one_a_feed: True returns one message per `feed` until `trust` is called, so that the receiver can raise the limit
            after the first message, before those behind it are decoded.

    Attributes:
        is_deflate: as above.
        has_more: True if buffered bytes may contain complete messages: call `feed` again, with b"" or the next bytes.
    """

    __slots__ = (
        "_held",
        "_is_discarding",
        "_is_done",
        "_is_one_a_feed",
        "_limit",
        "_message",
        "has_more",
        "is_deflate",
    )

    def __init__(self, message_size_limit_bytes: int, *, is_deflate: bool = False, is_one_a_feed: bool = False) -> None:
        self.is_deflate = is_deflate
        self.has_more = False
        self._limit = message_size_limit_bytes
        self._is_one_a_feed = is_one_a_feed
        self._is_discarding = False
        self._held = b""
        self._message: PartialMessage | None = None
        self._is_done = False

    def feed(self, data: bytes) -> list[FrameEvent]:
        """Returns the events that these bytes complete, in order, up to 32. After CLOSE or FAILED everything is ignored."""
        if self._is_done:
            return []
        if self._held:
            data = self._held + data
            self._held = b""
            self.has_more = False
        events: list[FrameEvent] = []
        try:
            if self._is_one_a_feed:
                self._read_one(data, events)
            else:
                self._read(data, events)
        except _Violation as violation:
            self._stop(events, FAILED, violation.payload)
        except UnicodeDecodeError:
            self._stop(events, FAILED, close_payload(INVALID_UTF8, "text must be UTF-8"))
        return events

    def trust(self, message_size_limit_bytes: int) -> None:
        """Sets another limit, and returns several messages per `feed`: the peer has authenticated."""
        self._limit = message_size_limit_bytes
        self._is_one_a_feed = False

    def discard(self) -> None:
        """Stops decompressing and returns events at once: messages are thrown away, and only a Close matters."""
        self._is_discarding = True
        self._is_one_a_feed = False

    def _stop(self, events: list[FrameEvent], kind: int, payload: bytes) -> None:
        events.append((kind, payload))
        self._is_done = True
        self._held = b""
        self._message = None

    def _read(self, data: bytes, events: list[FrameEvent]) -> None:
        """Decodes frames in a loop.

        Nearly all are complete masked texts of at most 1,020 bytes, which are decoded right here.
        """
        at = 0
        end = len(data)
        limit = min(self._limit, _FAST_BYTES_MAX)
        room_bytes = FEED_BYTES_MAX
        while at < end:
            if len(events) >= FEED_MESSAGES_MAX and not self._is_discarding:
                self._hold(data[at:])
                return
            if data[at] == _FINAL_TEXT and self._message is None and end - at >= _MEDIUM_HEAD_BYTES:
                size = data[at + 1] - _MASKED
                start = at + 6
                least = 0
                if size > _SHORT_MAX:
                    size = data[at + 2] << 8 | data[at + 3] if size == _MEDIUM else -1
                    start = at + 8
                    least = _MEDIUM  # a length not in its shortest form is left to `_read_any`, which refuses it
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
            count = len(events)
            at = self._read_any(data, at, end, events)
            if self.is_deflate and len(events) > count:
                room_bytes -= len(events[-1][1])
                if room_bytes < 0 and at < end:
                    self._hold(data[at:])
                    return

    def _read_one(self, data: bytes, events: list[FrameEvent]) -> None:
        """Decodes up to the end of one message, with the control frames before it; the rest is kept for the next `feed`."""
        at = 0
        while at < len(data):
            at = self._read_any(data, at, len(data), events)
            if events and events[-1][0] in _DATA_OPCODES:
                self._hold(data[at:])
                return

    def _hold(self, rest: bytes) -> None:
        self._held = rest
        self.has_more = bool(rest)

    def _read_any(self, data: bytes, at: int, end: int, events: list[FrameEvent]) -> int:
        """Decodes one frame, or as much of it as has arrived; returns the position after it."""
        message = self._message
        if message is not None and message.missing:
            return self._fill(message, data, at, end, events)
        head = self._head(data, at, end)
        if head is None or (head[0] & 0x08 and head[1] + head[2] > end):
            self._held = data[at:]  # part of a header or of a control frame: at most 131 bytes
            return end
        first, start, size = head
        if first & 0x08:
            self._control(first & 0x0F, unmask(data[start : start + size], data[start - 4 : start]), events)
            return end if self._is_done else start + size
        if message is None:
            message = self._message = PartialMessage(first & 0x0F, is_deflated=bool(first & RESERVED_1))
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
        if self._is_discarding:
            return b""
        try:
            return message.finish(self._limit)
        except TooLarge:
            raise _Violation(TOO_LARGE, f"a message may have at most {self._limit} bytes") from None
        except zlib.error:
            raise _Violation(PROTOCOL_ERROR, "the compressed message is not a valid deflate stream") from None

    def _head(self, data: bytes, at: int, end: int) -> tuple[int, int, int] | None:
        """Decodes a header: returns first byte, start and size of the payload; None while it is incomplete."""
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
            raise _Violation(TOO_LARGE, f"a message may have at most {self._limit} bytes")
        return (first, start, size) if start <= end else None

    def _check_first_bytes(self, first: int, second: int) -> None:
        opcode = first & 0x0F
        if first & _RESERVED and not (first & _RESERVED == RESERVED_1 and self.is_deflate and opcode in _DATA_OPCODES):
            raise _Violation(PROTOCOL_ERROR, "reserved bits must be 0")
        if opcode not in _OPCODES:
            raise _Violation(PROTOCOL_ERROR, "reserved opcode")
        if not second & _MASKED:
            raise _Violation(PROTOCOL_ERROR, "client frames must be masked")
        if opcode & 0x08:
            if not first & FIN or second & 0x7F > CONTROL_BYTES_MAX:
                raise _Violation(PROTOCOL_ERROR, "control frames must not be fragmented and have at most 125 bytes")
        elif (opcode == _CONTINUATION) != (self._message is not None):
            raise _Violation(PROTOCOL_ERROR, "the fragments of a message must follow one another")

    def _control(self, opcode: int, payload: bytes, events: list[FrameEvent]) -> None:
        if opcode == CLOSE:
            _check_close(payload)
            self._stop(events, CLOSE, payload)
        else:
            events.append((opcode, payload))


def _extended(field: bytes) -> int:
    """Decodes a 16- or 64-bit length. Section 5.2 requires the shortest form, and a zero as the top bit of 64."""
    size = int.from_bytes(field, "big")
    if size < (_MEDIUM if len(field) == 2 else 65_536) or size >> 63:  # noqa: PLR2004 (bytes of the 16-bit field)
        raise _Violation(PROTOCOL_ERROR, "a length must be in its shortest form, and below 2^63")
    return size


def _check_close(payload: bytes) -> None:
    """Checks a Close payload: empty, or a code that may be sent and a UTF-8 reason (sections 5.5.1 and 7.4)."""
    if not payload:
        return
    if len(payload) == 1 or not may_be_sent(int.from_bytes(payload[:2], "big")):
        raise _Violation(PROTOCOL_ERROR, "this close code must not be sent")
    payload[2:].decode()


def close_code(payload: bytes) -> int:
    """Returns the code of a checked Close payload; 1005 if it is empty (section 7.1.5)."""
    return int.from_bytes(payload[:2], "big") if payload else 1005
