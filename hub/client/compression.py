"""Compression of the client's socket: permessage-deflate, offered to every hub but used only where it saves anything.

The hub compresses a long message once for all its clients. By default `websockets` would compress every message we
send, even the shortest ones and pieces of files, which costs both ends more than it saves.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from websockets.extensions import Extension
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory, PerMessageDeflate
from websockets.frames import Frame, Opcode
from websockets.typing import ExtensionParameter

COMPRESS_FROM_BYTES: Final = 1_024


class LongTextDeflate(PerMessageDeflate):
    """Decompresses what the hub compressed, and compresses unfragmented text messages of 1 KiB or more."""

    def encode(self, frame: Frame) -> Frame:
        """Compresses a frame, or returns it unchanged."""
        if frame.opcode is not Opcode.TEXT or not frame.fin or len(frame.data) < COMPRESS_FROM_BYTES:
            return frame
        return super().encode(frame)


class OfferDeflate(ClientPerMessageDeflateFactory):
    """Offers compression without context takeover, so that nothing is kept between messages."""

    def __init__(self) -> None:
        super().__init__(server_no_context_takeover=True, client_no_context_takeover=True)

    def process_response_params(
        self, params: Sequence[ExtensionParameter], accepted_extensions: Sequence[Extension]
    ) -> LongTextDeflate:
        """Applies the parameters that the hub accepted."""
        agreed = super().process_response_params(params, accepted_extensions)
        return LongTextDeflate(
            agreed.remote_no_context_takeover,
            agreed.local_no_context_takeover,
            agreed.remote_max_window_bits,
            agreed.local_max_window_bits,
        )
