"""A message that came in more than one piece: fragmented, or larger than one read. Pure.

Pieces are unmasked and, for text, checked as they arrive, so that a bad byte is found at once and nothing is copied
twice. One bytearray grows: 65,536 fragments cost what one frame of the same size costs, and one byte a read no more
memory than the message.
"""

from __future__ import annotations

from codecs import utf_8_decode

from hub.websocket.deflate import inflate
from hub.websocket.encoder import TEXT
from hub.websocket.mask import unmask


class PartialMessage:
    """Opcode and bytes so far, and how much the frame in hand still lacks.

    Attributes:
        opcode: TEXT or BINARY, from the first frame.
        is_deflated: whether the message is compressed (RFC 7692), from the first frame; text is then checked at its end.
        body: what arrived, unmasked.
        missing: bytes the frame in hand lacks; 0 between frames.
        is_final: whether the frame in hand ends the message.
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
        """A frame of `size` bytes begins; the one before must be complete."""
        self.missing = size
        self.is_final = is_final
        self._mask = mask

    def add(self, piece: bytes) -> None:
        """Take the next bytes of the frame in hand, at most `missing`.

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
        """The whole message, inflated if need be.

        Raises:
            TooLarge: more than `limit_bytes` once inflated.
            UnicodeDecodeError: inflated text that is not UTF-8.
            zlib.error: it does not inflate.
        """
        if not self.is_deflated:
            return bytes(self.body)
        plain = inflate(bytes(self.body), limit_bytes)
        if self.opcode == TEXT:
            plain.decode()
        return plain

    def _check(self, plain: bytes, *, is_end: bool) -> None:
        if not self._open_character and plain.isascii():
            return
        text = self._open_character + plain
        _, used = utf_8_decode(text, "strict", is_end)
        self._open_character = text[used:]
