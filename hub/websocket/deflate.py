"""Compression of WebSocket messages, RFC 7692, without context takeover: each message by itself. Pure.

So a frame is compressed once for all sockets that asked for it, and no socket keeps a window of 32 KB and more. The price:
similarity between one message and the next is not used.
"""

from __future__ import annotations

import zlib
from functools import lru_cache
from typing import Final

from hub.websocket.codec import DEFLATE_TAIL, RESERVED_1, TEXT, WINDOW_BITS, encode_text, split_frames

ACCEPTED: Final = b"permessage-deflate; server_no_context_takeover; client_no_context_takeover"
"""Our answer to an offer that suits us (section 7.1.1)."""

DEFLATE_FROM_BYTES: Final = 512
"""Shorter payloads go as they are: alone, JSON of that size loses a third at most and costs 45 µs."""

_SHARED_BYTES_MAX: Final = 16_384
"""Longer payloads (pages of history) are one client's own and not kept for others."""
_SHARED_COUNT_MAX: Final = 256
"""Events kept compressed; with the size above at most some 8 MB a process."""

_LEVEL: Final = 6
_MEMORY_LEVEL: Final = 5
"""Measured on 692 bytes of JSON: 50 µs at memory level 5, 120 at the default 8, for the same size to a byte or two."""


def accepts(offers: bytes) -> bool:
    """True if `ACCEPTED` may answer one of the offers of `Sec-WebSocket-Extensions`."""
    return any(_suits(offer) for offer in offers.split(b","))


def _suits(offer: bytes) -> bool:
    """Judge one offer. A smaller window for us is declined, as frames compressed once have one window; so are unknown words."""
    name, *parameters = [part.strip() for part in offer.lower().split(b";")]
    words = [parameter.partition(b"=")[0].strip() for parameter in parameters]
    return name == b"permessage-deflate" and len(set(words)) == len(words) and all(map(_is_known, parameters))


def _is_known(parameter: bytes) -> bool:
    word, equals, value = (part.strip() for part in parameter.partition(b"="))
    value = value.strip(b'"')
    if word in (b"server_no_context_takeover", b"client_no_context_takeover"):
        return not equals
    if word == b"client_max_window_bits":
        return not equals or value in {b"%d" % bits for bits in range(8, 16)}
    return word == b"server_max_window_bits" and value == b"15"


def deflate_frames(frames: bytes) -> bytes:
    """Compress the long text frames among our own, joined for one write."""
    if len(frames) < DEFLATE_FROM_BYTES:
        return frames
    return b"".join(
        _deflated_text(payload) if opcode == TEXT and len(payload) >= DEFLATE_FROM_BYTES else frame
        for opcode, payload, frame in _parts(frames)
    )


def _parts(frames: bytes) -> list[tuple[int, bytes, bytes]]:
    """Split frames into opcode, payload and the frame's own bytes."""
    parts: list[tuple[int, bytes, bytes]] = []
    at = 0
    for opcode, payload in split_frames(frames):
        size = len(payload)
        stop = at + size + (2 if size < 126 else 4 if size < 65_536 else 10)  # noqa: PLR2004 (RFC 6455 section 5.2)
        parts.append((opcode, payload, frames[at:stop]))
        at = stop
    return parts


def _deflated_text(payload: bytes) -> bytes:
    return _shared(payload) if len(payload) <= _SHARED_BYTES_MAX else _deflate(payload)


def _deflate(payload: bytes) -> bytes:
    """Encode a compressed text frame: RSV1 set, the flush's tail left out (section 7.2.1)."""
    squeezer = zlib.compressobj(_LEVEL, zlib.DEFLATED, WINDOW_BITS, _MEMORY_LEVEL)
    squeezed = squeezer.compress(payload) + squeezer.flush(zlib.Z_SYNC_FLUSH)
    frame = encode_text(squeezed[: -len(DEFLATE_TAIL)])
    return bytes((frame[0] | RESERVED_1,)) + frame[1:]


_shared: Final = lru_cache(_SHARED_COUNT_MAX)(_deflate)
