"""The WebSocket frame codec of a server: bytes of a client in, messages out; messages in, frames out (RFC 6455 section 5). Pure.

It does not answer pings, close sockets or keep time: it reports what arrived, and the protocol acts. Frames a server sends are
unmasked and never fragmented, so one encoding serves every socket. Rules kept on receipt: reserved bits and opcodes, masking,
lengths in their shortest form, control frames whole and short, fragments in order, UTF-8, close codes, and the message size
limit, which is decided from a frame's head, before a byte of its payload is kept. Our own: ops/decisions/0010-websocket-codec.md.
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
"""A control frame holds 125 bytes (section 5.5), two of them the code."""
CONTROL_BYTES_MAX: Final = 125

_REGISTERED_CODES: Final = frozenset({1000, 1001, 1002, 1003, *range(1007, 1015)})
"""The IANA registry without 1004 (reserved) and 1005, 1006, 1015, which section 7.4.1 bans from the wire."""


def may_be_sent(code: int) -> bool:
    """True if a Close frame may carry the code: registered, or in 3000 to 4999 (section 7.4)."""
    return code in _REGISTERED_CODES or 3000 <= code <= 4999  # noqa: PLR2004 (the section's own range)


def _short_heads(opcode: int) -> tuple[bytes, ...]:
    return tuple(bytes((FIN | opcode, size)) for size in range(126))


_SHORT_TEXT: Final = _short_heads(TEXT)
_SHORT_BINARY: Final = _short_heads(BINARY)
_SHORT_LIMIT: Final = 126
_MEDIUM_LIMIT: Final = 65_536


def encode_text(payload: bytes) -> bytes:
    """Encode one text frame; `payload` must be UTF-8."""
    size = len(payload)
    if size < _SHORT_LIMIT:
        return _SHORT_TEXT[size] + payload
    if size < _MEDIUM_LIMIT:
        return b"\x81\x7e" + size.to_bytes(2, "big") + payload
    return b"\x81\x7f" + size.to_bytes(8, "big") + payload


def encode_binary(payload: bytes) -> bytes:
    """Encode one binary frame."""
    size = len(payload)
    if size < _SHORT_LIMIT:
        return _SHORT_BINARY[size] + payload
    if size < _MEDIUM_LIMIT:
        return b"\x82\x7e" + size.to_bytes(2, "big") + payload
    return b"\x82\x7f" + size.to_bytes(8, "big") + payload


def encode_pong(payload: bytes = b"") -> bytes:
    """Encode one pong, which answers the ping with the same payload.

    Raises:
        ValueError: the payload is longer than 125 bytes.
    """
    return _control(PONG, payload)


def close_payload(code: int, reason: str = "") -> bytes:
    """Encode the payload of a Close frame; the reason is cut to 123 bytes, at a character.

    Raises:
        ValueError: the code must not appear on the wire.
    """
    if not may_be_sent(code):
        raise ValueError(f"close code {code} must not be sent; use 1000 to 1003, 1007 to 1014 or 3000 to 4999")
    text = reason.encode()[:CLOSE_REASON_BYTES_MAX].decode(errors="ignore").encode()
    return code.to_bytes(2, "big") + text


def encode_close(code: int, reason: str = "") -> bytes:
    """Encode one Close frame, see `close_payload`.

    Raises:
        ValueError: the code must not appear on the wire.
    """
    return _control(CLOSE, close_payload(code, reason))


def frame_close(payload: bytes) -> bytes:
    """Encode a Close frame with this payload, as `close_payload` or a decoder's FAILED gives it."""
    return _control(CLOSE, payload)


def echo_close(payload: bytes) -> bytes:
    """Encode the answer to a Close frame with this (checked) payload: same code, no reason (section 5.5.1)."""
    return _control(CLOSE, payload[:2])


def _control(opcode: int, payload: bytes) -> bytes:
    if len(payload) > CONTROL_BYTES_MAX:
        raise ValueError("a control frame's payload is at most 125 bytes")
    return bytes((FIN | opcode, len(payload))) + payload


def split_frames(frames: bytes) -> list[tuple[int, bytes]]:
    """Split our own frames, joined for one write, into opcodes and payloads.

    Raises:
        ValueError: the bytes are not whole, unmasked, unfragmented frames.
    """
    found: list[tuple[int, bytes]] = []
    at = 0
    while at < len(frames):
        start, size = _extent(frames, at)
        if start + size > len(frames) or not frames[at] & FIN:
            raise ValueError("not whole, unfragmented server frames")
        found.append((frames[at] & 0x0F, frames[start : start + size]))
        at = start + size
    return found


def _extent(frames: bytes, at: int) -> tuple[int, int]:
    """Start and size of the payload of the frame at `at`."""
    size = frames[at + 1] if at + 1 < len(frames) else 0xFF
    if size < _SHORT_LIMIT:
        return at + 2, size
    if size > 0x7F:  # noqa: PLR2004 (the mask bit)
        raise ValueError("not whole, unmasked server frames")
    start = at + (4 if size == _SHORT_LIMIT else 10)
    return start, int.from_bytes(frames[at + 2 : start], "big")


_WORDS_MAX: Final = 256
"""Payloads up to this many 4-byte words have their multiplier ready; all together hold about 150 KB, once a process."""

_LANES_FROM_BYTES: Final = 32_768
"""From here on four `bytes.translate` calls win (measured: 1.6 against 2.6 ms for 1 MiB); below, their set-up loses."""

REPEAT: Final = tuple(int.from_bytes(b"\x01\0\0\0" * words, "little") for words in range(_WORDS_MAX))
"""`mask * REPEAT[n]` is the mask written n times one behind the other, as a little-endian integer."""

_TABLES: Final = tuple(bytes(value ^ key for value in range(256)) for key in range(256))
"""`data.translate(_TABLES[key])` is every byte of data XORed with key. 64 KB, once a process."""


def unmask(payload: bytes, mask: bytes) -> bytes:
    """XOR the payload with its mask (section 5.3); the first of the four bytes belongs to the first byte of payload.

    A payload is XORed as one large integer: the cheapest way CPython has for a few hundred bytes (0.6 µs for 150 bytes,
    against 1.9 µs byte lane by byte lane). Large ones go lane by lane, where tables win.
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
"""The end of a flush that RFC 7692 section 7.2.1 leaves out of a message."""


class TooLarge(Exception):
    """A message is longer than the limit once it is inflated."""


_PIECE_BYTES: Final = 4_096
"""A message is inflated in pieces of this size, each of which counts before the next is made; with zlib's own 40 KB a message
that grows past the limit holds no more than 64 KiB beyond it."""
_SLICE_BYTES: Final = 2_048
"""Compressed bytes are given to zlib in slices, as it copies what it has no room for."""
_ENDS: Final = (b"", DEFLATE_TAIL, b"\0" + DEFLATE_TAIL)
"""The bytes that may stand behind a final block: section 7.2.3.4 has a zero there."""


def inflate(payload: bytes, limit_bytes: int) -> bytes:
    """Inflate a compressed message (RFC 7692 section 7.2.2).

    Raises:
        TooLarge: it has more than `limit_bytes`; it was not inflated further than a piece beyond.
        zlib.error: not a deflate stream, or one with bytes behind its end.
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
    """A message in more than one piece: fragmented, or larger than one read.

    Pieces are unmasked and, for text, checked as they arrive, so that a bad byte is found at once and nothing is copied
    twice. One bytearray grows: 65,536 fragments cost as much as one frame of the same size.

    Attributes:
        opcode: TEXT or BINARY, from the first frame.
        is_deflated: true if the message is compressed (RFC 7692), from the first frame; text is then checked at its end.
        body: the bytes so far, unmasked.
        missing: bytes the current frame lacks; 0 between frames.
        is_final: true if the current frame ends the message.
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
        """Begin a frame of `size` bytes; the one before must be complete."""
        self.missing = size
        self.is_final = is_final
        self._mask = mask

    def add(self, piece: bytes) -> None:
        """Take the next bytes of the current frame, at most `missing`.

        Raises:
            UnicodeDecodeError: text that is not UTF-8, found at the first byte that cannot be part of it.
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
        """Return the whole message, inflated if need be.

        Raises:
            TooLarge: more than `limit_bytes` once inflated.
            UnicodeDecodeError: inflated text that is not UTF-8.
            zlib.error: it does not inflate.
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
"""The peer broke a rule. The payload is for our Close frame; nothing after it is read."""

FrameEvent = tuple[int, bytes]
"""TEXT or BINARY and a whole message; PING, PONG, CLOSE and the payload; or FAILED and the answer's payload."""

_CONTINUATION: Final = 0x0
_FINAL_TEXT: Final = FIN | TEXT
_DATA_OPCODES: Final = frozenset({TEXT, BINARY})
_RESERVED: Final = 0x70
RESERVED_1: Final = 0x40
"""RFC 7692 section 6: set on the first frame of a compressed message, and on no other."""
_MASKED: Final = 0x80
_SHORT_MAX: Final = 125
_MEDIUM: Final = 126
"""Section 5.2: a 7-bit length up to 125 is the length, 126 says 16 bits follow, 127 says 64."""
_MEDIUM_HEAD_BYTES: Final = 8
_OPCODES: Final = frozenset({_CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG})
_FAST_BYTES_MAX: Final = (len(REPEAT) - 1) * 4
FEED_BYTES_MAX: Final = 262_144
"""As much as one read may bring. Where messages are compressed, a `feed` ends with the message that goes over it: one read would
else inflate to a thousand times its size."""

PROTOCOL_ERROR: Final = 1002
INVALID_UTF8: Final = 1007
TOO_LARGE: Final = 1009


class _Violation(Exception):
    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.payload = close_payload(code, reason)


class FrameDecoder:
    """Decodes one client's bytes, in any split, into events. An idle decoder holds two references and no buffer.

    Args:
        message_size_limit_bytes: the largest message accepted, fragments added up and inflated; one byte more is a 1009.
        is_deflate: true if compressed messages were agreed on (RFC 7692, see `hub.websocket.deflate`).
        is_one_a_feed: true to hand messages out one a `feed` until `trust`, so that those behind the first are read by the
            limit that the first earned.

    Attributes:
        is_deflate: see above.
        has_more: true if bytes wait that may hold whole messages: call `feed` again, with b"" or what comes next.
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
        """Return the events these bytes complete, in order. After CLOSE or FAILED everything is ignored."""
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
        """Apply another limit from now on, to as many messages a `feed` as come: the peer has authenticated."""
        self._limit = message_size_limit_bytes
        self._is_one_a_feed = False

    def discard(self) -> None:
        """Inflate nothing from now on, and hand out what comes at once: messages are thrown away, only a Close counts."""
        self._is_discarding = True
        self._is_one_a_feed = False

    def _stop(self, events: list[FrameEvent], kind: int, payload: bytes) -> None:
        events.append((kind, payload))
        self._is_done = True
        self._held = b""
        self._message = None

    def _read(self, data: bytes, events: list[FrameEvent]) -> None:
        """Loop over frames. Nearly all are whole masked text of at most 1,020 bytes, which is read right here."""
        at = 0
        end = len(data)
        limit = min(self._limit, _FAST_BYTES_MAX)
        room_bytes = FEED_BYTES_MAX
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
            count = len(events)
            at = self._read_any(data, at, end, events)
            if self.is_deflate and len(events) > count:
                room_bytes -= len(events[-1][1])
                if room_bytes < 0 and at < end:
                    self._hold(data[at:])
                    return

    def _read_one(self, data: bytes, events: list[FrameEvent]) -> None:
        """Read up to the end of one message, with the control frames before it; the rest is kept for the next `feed`."""
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
        """Read one frame, or as much of it as there is; returns the position after it."""
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
            raise _Violation(PROTOCOL_ERROR, "a compressed message must inflate") from None

    def _head(self, data: bytes, at: int, end: int) -> tuple[int, int, int] | None:
        """Read a head: first byte, start of the payload and its size; None while it is incomplete."""
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
                raise _Violation(PROTOCOL_ERROR, "control frames are whole and at most 125 bytes")
        elif (opcode == _CONTINUATION) != (self._message is not None):
            raise _Violation(PROTOCOL_ERROR, "the fragments of a message must follow one another")

    def _control(self, opcode: int, payload: bytes, events: list[FrameEvent]) -> None:
        if opcode == CLOSE:
            _check_close(payload)
            self._stop(events, CLOSE, payload)
        else:
            events.append((opcode, payload))


def _extended(field: bytes) -> int:
    """Read a 16- or 64-bit length. Section 5.2: the shortest form is required, the top bit of 64 is 0."""
    size = int.from_bytes(field, "big")
    if size < (_MEDIUM if len(field) == 2 else 65_536) or size >> 63:  # noqa: PLR2004 (bytes of the 16-bit field)
        raise _Violation(PROTOCOL_ERROR, "a length must be in its shortest form, and below 2^63")
    return size


def _check_close(payload: bytes) -> None:
    """Require nothing, or a code that may be sent and a UTF-8 reason (sections 5.5.1 and 7.4)."""
    if not payload:
        return
    if len(payload) == 1 or not may_be_sent(int.from_bytes(payload[:2], "big")):
        raise _Violation(PROTOCOL_ERROR, "this close code must not be sent")
    payload[2:].decode()


def close_code(payload: bytes) -> int:
    """Read the code of a checked Close payload; 1005 when it is empty (section 7.1.5)."""
    return int.from_bytes(payload[:2], "big") if payload else 1005
