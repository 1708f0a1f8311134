"""Compression of WebSocket messages (RFC 7692) without context takeover: each message by itself. Pure.

So a frame is compressed once for all sockets that negotiated it, and no socket keeps a window of 32 KB or more. In
return, similarities between messages are not used. Figures: ops/decisions/0015-compression.md.
"""

from __future__ import annotations

import zlib
from typing import Final

from hub.websocket.codec import DEFLATE_TAIL, RESERVED_1, WINDOW_BITS, encode_text

_ACCEPTED: Final = b"permessage-deflate; server_no_context_takeover; client_no_context_takeover"
"""Our answer to an acceptable offer (section 7.1.1). The second parameter saves keeping a window for each client."""
_WINDOW_ACCEPTED: Final = _ACCEPTED + b"; server_max_window_bits=15"
"""The answer to an offer with a window size for us: the client requires the answer to name it too (section 7.1.2.1)."""

DEFLATE_FROM_BYTES: Final = 1_024
"""Shorter payloads are not compressed: a single event of 250 bytes would shrink by a fifth and cost 20 µs."""
DEFLATE_UP_TO_BYTES: Final = 524_288
"""Longer payloads are not compressed either: it would block the loop for about 5 ms. Only pages of large events are longer."""

_LEVEL: Final = 1
"""Compression level. Level 6 makes an array of a hundred chat messages 7 % smaller, and takes twice the time."""
_SMALL_BYTES: Final = 4_096
"""Up to this size a smaller window is enough, and clearing less memory halves the time."""
_SMALL_WINDOW_BITS: Final = -12
_SMALL_MEMORY_LEVEL: Final = 5
_MEMORY_LEVEL: Final = 8


def answer_to(offers: bytes) -> bytes | None:
    """Returns the answer to `Sec-WebSocket-Extensions`, for the first acceptable offer; None if there is none."""
    return next((answer for offer in offers.split(b",") if (answer := _answer_to(offer)) is not None), None)


def _answer_to(offer: bytes) -> bytes | None:
    """Checks one offer.

    A smaller window for us is declined, since shared frames have one window; so are unknown parameters.
    """
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
    """Encodes one text frame, compressed if that makes it shorter: with RSV1 set, without the end of the flush (section 7.2.1)."""
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
