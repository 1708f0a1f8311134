"""WebSocket frames as a client sends them, valid or deliberately invalid, for tests of the WebSocket layer."""

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
    """Build a frame.

    Args:
        opcode: 0 to 15.
        payload: the payload before masking.
        is_final: the FIN bit.
        reserved: RSV1 to RSV3 as a number of three bits.
        mask: the masking key; None sends the frame unmasked, which clients must not do.
        length_bits: size of the length field: 7, 16 or 64; None is the smallest possible.
        declared: the stated length, if it is to differ from the payload's.
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
    """Build a client's Close frame, with any code."""
    return client_frame(0x8, b"" if code is None else code.to_bytes(2, "big") + reason)
