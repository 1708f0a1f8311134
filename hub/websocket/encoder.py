"""WebSocket frames a server sends, RFC 6455 section 5: unmasked, so one encoding serves every socket. Pure.

Never fragmented. It knows no connection: what may be sent when is the wire's business.
"""

from __future__ import annotations

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
    """Whether a Close frame may carry the code: registered, or in 3000 to 4999 (section 7.4)."""
    return code in _REGISTERED_CODES or 3000 <= code <= 4999  # noqa: PLR2004 (the section's own range)


def _short_heads(opcode: int) -> tuple[bytes, ...]:
    return tuple(bytes((FIN | opcode, size)) for size in range(126))


_SHORT_TEXT: Final = _short_heads(TEXT)
_SHORT_BINARY: Final = _short_heads(BINARY)
_SHORT_LIMIT: Final = 126
_MEDIUM_LIMIT: Final = 65_536


def encode_text(payload: bytes) -> bytes:
    """One text frame; `payload` must be UTF-8."""
    size = len(payload)
    if size < _SHORT_LIMIT:
        return _SHORT_TEXT[size] + payload
    if size < _MEDIUM_LIMIT:
        return b"\x81\x7e" + size.to_bytes(2, "big") + payload
    return b"\x81\x7f" + size.to_bytes(8, "big") + payload


def encode_binary(payload: bytes) -> bytes:
    """One binary frame."""
    size = len(payload)
    if size < _SHORT_LIMIT:
        return _SHORT_BINARY[size] + payload
    if size < _MEDIUM_LIMIT:
        return b"\x82\x7e" + size.to_bytes(2, "big") + payload
    return b"\x82\x7f" + size.to_bytes(8, "big") + payload


def encode_ping(payload: bytes = b"") -> bytes:
    """One ping.

    Raises:
        ValueError: the payload is longer than 125 bytes.
    """
    return _control(PING, payload)


def encode_pong(payload: bytes = b"") -> bytes:
    """One pong; answers the ping with the same payload.

    Raises:
        ValueError: the payload is longer than 125 bytes.
    """
    return _control(PONG, payload)


def close_payload(code: int, reason: str = "") -> bytes:
    """Code and reason as a Close frame carries them; the reason is cut to 123 bytes, at a character.

    Raises:
        ValueError: the code must not appear on the wire.
    """
    if not may_be_sent(code):
        raise ValueError(f"close code {code} must not be sent; use 1000 to 1003, 1007 to 1014 or 3000 to 4999")
    text = reason.encode()[:CLOSE_REASON_BYTES_MAX].decode(errors="ignore").encode()
    return code.to_bytes(2, "big") + text


def encode_close(code: int, reason: str = "") -> bytes:
    """One Close frame, see `close_payload`.

    Raises:
        ValueError: the code must not appear on the wire.
    """
    return _control(CLOSE, close_payload(code, reason))


def frame_close(payload: bytes) -> bytes:
    """The Close frame with this payload, as `close_payload` or a decoder's FAILED gives it."""
    return _control(CLOSE, payload)


def echo_close(payload: bytes) -> bytes:
    """The Close frame that answers one with this (checked) payload: same code, no reason (section 5.5.1)."""
    return _control(CLOSE, payload[:2])


def _control(opcode: int, payload: bytes) -> bytes:
    if len(payload) > CONTROL_BYTES_MAX:
        raise ValueError("a control frame's payload is at most 125 bytes")
    return bytes((FIN | opcode, len(payload))) + payload


def split_frames(frames: bytes) -> list[tuple[int, bytes]]:
    """Opcode and payload of each of our own frames, joined as they are for one write.

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
    """Where the payload of the frame at `at` starts, and its size."""
    size = frames[at + 1] if at + 1 < len(frames) else 0xFF
    if size < _SHORT_LIMIT:
        return at + 2, size
    if size > 0x7F:  # noqa: PLR2004 (the mask bit)
        raise ValueError("not whole, unmasked server frames")
    start = at + (4 if size == _SHORT_LIMIT else 10)
    return start, int.from_bytes(frames[at + 2 : start], "big")
