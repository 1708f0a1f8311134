"""The frame codec's public names: one decoder for each client, and plain functions for what we send. Pure.

RFC 6455 for a server, I/O-free, our own; the rules live in the `frame_*` files beside this one.
"""

from __future__ import annotations

from hub.websocket.decoder import FAILED, FrameDecoder, FrameEvent, close_code
from hub.websocket.encoder import (
    BINARY,
    CLOSE,
    PING,
    PONG,
    TEXT,
    close_payload,
    echo_close,
    encode_binary,
    encode_close,
    encode_ping,
    encode_pong,
    encode_text,
    frame_close,
    may_be_sent,
    split_frames,
)

__all__ = [
    "BINARY",
    "CLOSE",
    "FAILED",
    "PING",
    "PONG",
    "TEXT",
    "FrameDecoder",
    "FrameEvent",
    "close_code",
    "close_payload",
    "echo_close",
    "encode_binary",
    "encode_close",
    "encode_ping",
    "encode_pong",
    "encode_text",
    "frame_close",
    "may_be_sent",
    "split_frames",
]
