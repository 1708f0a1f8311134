"""XOR of a client's payload with its four mask bytes (RFC 6455 section 5.3). Pure.

Whole payloads are XORed as one large integer: the cheapest way that CPython has for a few hundred bytes (0.6 µs for 150
bytes here, against 1.9 µs byte lane by byte lane). Large ones go lane by lane, where tables beat the integer.
"""

from __future__ import annotations

from typing import Final

_WORDS_MAX: Final = 256
"""Payloads up to this many 4-byte words have their multiplier ready; all together hold about 150 KB, once a process."""

_LANES_FROM_BYTES: Final = 32_768
"""From here on four `bytes.translate` calls win (measured: 1.6 against 2.6 ms for 1 MiB); below, their set-up loses."""

REPEAT: Final = tuple(int.from_bytes(b"\x01\0\0\0" * words, "little") for words in range(_WORDS_MAX))
"""`mask * REPEAT[n]` is the mask written n times one behind the other, as a little-endian integer."""

_TABLES: Final = tuple(bytes(value ^ key for value in range(256)) for key in range(256))
"""`data.translate(_TABLES[key])` is every byte of data XORed with key. 64 KB, once a process."""


def unmask(payload: bytes, mask: bytes) -> bytes:
    """The payload without its mask; `mask` is four bytes, the first of which belongs to the first byte of payload."""
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
