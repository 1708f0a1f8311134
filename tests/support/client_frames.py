"""Frames as a client sends them, right or wrong on purpose: the raw material of the wire's tests."""

from __future__ import annotations

MASK = b"\x37\xfa\x21\x3d"  # RFC 6455 section 5.7


def client_frame(
    opcode: int,
    payload: bytes = b"",
    *,
    is_final: bool = True,
    reserved: int = 0,
    mask: bytes | None = MASK,
    length_bits: int | None = None,
    declared: int | None = None,
) -> bytes:
    """One frame.

    Args:
        opcode: 0 to 15.
        payload: unmasked.
        is_final: the FIN bit.
        reserved: RSV1 to RSV3 as a number of three bits.
        mask: None sends it unmasked, which no client may.
        length_bits: 7, 16 or 64, shortest or not; None is the shortest.
        declared: the length to state, where it should not be the payload's.
    """
    size = len(payload) if declared is None else declared
    bits = length_bits or (7 if size < 126 else 16 if size < 65_536 else 64)
    flag = 0 if mask is None else 0x80
    second = {7: size, 16: 126, 64: 127}[bits] | flag
    extended = b"" if bits == 7 else size.to_bytes(bits // 8, "big")
    head = bytes([(0x80 if is_final else 0) | reserved << 4 | opcode, second]) + extended
    if mask is None:
        return head + payload
    return head + mask + bytes(byte ^ mask[at & 3] for at, byte in enumerate(payload))


def close_frame(code: int | None = None, reason: bytes = b"") -> bytes:
    """A client's Close, with any code at all."""
    return client_frame(0x8, b"" if code is None else code.to_bytes(2, "big") + reason)
