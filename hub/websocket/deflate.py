"""Compression of WebSocket messages, RFC 7692, without context takeover: each message by itself. Pure.

So a frame is compressed once for all sockets that asked for it, and no socket keeps a window of 32 KB and more. The price:
similarity between one message and the next is not used. Figures: ops/decisions/0015-compression.md.
"""

from __future__ import annotations

import zlib
from typing import Final

from hub.websocket.codec import DEFLATE_TAIL, RESERVED_1, WINDOW_BITS, encode_text

_ACCEPTED: Final = b"permessage-deflate; server_no_context_takeover; client_no_context_takeover"
"""Our answer to an offer that suits us (section 7.1.1). The second keeps no window for a client between its messages."""
_WINDOW_ACCEPTED: Final = _ACCEPTED + b"; server_max_window_bits=15"
"""The same to an offer that names our window: it is refused by the client unless the answer names one (section 7.1.2.1)."""

DEFLATE_FROM_BYTES: Final = 1_024
"""Shorter payloads go as they are: alone, an event of 250 bytes loses a fifth and costs 20 µs."""
DEFLATE_UP_TO_BYTES: Final = 524_288
"""So do longer ones: some 5 ms, for which everybody else waits. Only pages of history of large events are longer."""

_LEVEL: Final = 1
"""Level 6 makes 7 % less of an array of a hundred chat messages, and takes twice the time."""
_SMALL_BYTES: Final = 4_096
"""Up to here a window of as many bytes is enough, and clearing less memory halves the time."""
_SMALL_WINDOW_BITS: Final = -12
_SMALL_MEMORY_LEVEL: Final = 5
_MEMORY_LEVEL: Final = 8


def answer_to(offers: bytes) -> bytes | None:
    """The answer to `Sec-WebSocket-Extensions`, by the first offer that suits; None where none does."""
    return next((answer for offer in offers.split(b",") if (answer := _answer_to(offer)) is not None), None)


def _answer_to(offer: bytes) -> bytes | None:
    """Judge one offer. A smaller window for us is declined, as frames compressed once have one window; so are unknown words."""
    name, *parameters = [part.strip() for part in offer.lower().split(b";")]
    words = [parameter.partition(b"=")[0].strip() for parameter in parameters]
    if name != b"permessage-deflate" or len(set(words)) != len(words) or not all(map(_is_known, parameters)):
        return None
    return _WINDOW_ACCEPTED if b"server_max_window_bits" in words else _ACCEPTED


def _is_known(parameter: bytes) -> bool:
    word, equals, value = (part.strip() for part in parameter.partition(b"="))
    value = value.strip(b'"')
    if word in (b"server_no_context_takeover", b"client_no_context_takeover"):
        return not equals
    if word == b"client_max_window_bits":
        return not equals or value in {b"%d" % bits for bits in range(8, 16)}
    return word == b"server_max_window_bits" and value == b"15"


def deflate_text(payload: bytes) -> bytes:
    """Encode one text frame, compressed if that makes it shorter: RSV1 is set, the tail of the flush left out (section 7.2.1)."""
    size_bytes = len(payload)
    if not DEFLATE_FROM_BYTES <= size_bytes <= DEFLATE_UP_TO_BYTES:
        return encode_text(payload)
    squeezer = (
        zlib.compressobj(_LEVEL, zlib.DEFLATED, _SMALL_WINDOW_BITS, _SMALL_MEMORY_LEVEL)
        if size_bytes <= _SMALL_BYTES
        else zlib.compressobj(_LEVEL, zlib.DEFLATED, WINDOW_BITS, _MEMORY_LEVEL)
    )
    squeezed = squeezer.compress(payload) + squeezer.flush(zlib.Z_SYNC_FLUSH)
    if len(squeezed) - len(DEFLATE_TAIL) >= size_bytes:
        return encode_text(payload)
    frame = encode_text(squeezed[: -len(DEFLATE_TAIL)])
    return bytes((frame[0] | RESERVED_1,)) + frame[1:]
