"""A WebSocket client on a plain blocking socket: sends any bytes and reports exactly what is received, including resets."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Mapping
from typing import Self

from support.client_frames import client_frame

KEY = "dGhlIHNhbXBsZSBub25jZQ=="  # RFC 6455 section 1.3
HEADERS = {
    "Host": "127.0.0.1",
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": KEY,
}


class RawSocket:
    """One connection. No wait is longer than thirty seconds."""

    def __init__(self, port: int, *, receive_buffer_bytes: int | None = None) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        if receive_buffer_bytes is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
        self.socket.settimeout(30)
        self.socket.connect(("127.0.0.1", port))
        self._came = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def request(
        self, method: str = "GET", target: str = "/ws", changed: Mapping[str, str | None] | None = None
    ) -> tuple[int, str]:
        """Send an upgrade request; returns the status and the head. `changed` replaces headers; None omits one."""
        fields: dict[str, str | None] = {name.lower(): value for name, value in HEADERS.items()}
        fields |= {name.lower(): value for name, value in (changed or {}).items()}
        lines = [f"{name}: {value}" for name, value in fields.items() if value is not None]
        self.socket.sendall("\r\n".join([f"{method} {target} HTTP/1.1", *lines, "", ""]).encode())
        while b"\r\n\r\n" not in self._came:
            self._more()
        head, _, self._came = self._came.partition(b"\r\n\r\n")
        return int(head.split(b" ", 2)[1]), head.decode()

    def upgrade(self, target: str = "/ws") -> Self:
        """Open the WebSocket."""
        status, head = self.request(target=target)
        assert status == 101, head
        return self

    def send(self, *frames: bytes) -> None:
        """Send raw bytes."""
        self.socket.sendall(b"".join(frames))

    def text(self, text: str) -> None:
        """Send one text message."""
        self.send(client_frame(0x1, text.encode()))

    def take(self, size: int) -> bytes:
        """Receive this many bytes."""
        while len(self._came) < size:
            self._more()
        taken, self._came = self._came[:size], self._came[size:]
        return taken

    def frame(self) -> tuple[int, bytes]:
        """Receive a frame; returns its opcode and payload."""
        while (found := self._first()) is None:
            self._more()
        opcode, start, stop = found
        payload, self._came = self._came[start:stop], self._came[stop:]
        return opcode, payload

    def close_code(self) -> int:
        """Skip frames up to the Close frame; returns its code."""
        while True:
            opcode, payload = self.frame()
            if opcode == 0x8:
                return struct.unpack("!H", payload[:2])[0] if payload else 1005

    def ending(self) -> str:
        """Read to the end, discarding the data: "fin" for a proper end, "reset" for a TCP reset."""
        with contextlib.suppress(EOFError):
            while True:
                try:
                    self._came = b""
                    self._more()
                except ConnectionResetError:
                    return "reset"
        return "fin"

    def finish_writing(self) -> None:
        """Send a FIN; reading continues."""
        self.socket.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Close with a TCP reset."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def _more(self) -> None:
        data = self.socket.recv(65_536)
        if not data:
            raise EOFError
        self._came += data

    def _first(self) -> tuple[int, int, int] | None:
        came = self._came
        if len(came) < 2:
            return None
        size, start = came[1], 2
        if size == 126:
            size, start = int.from_bytes(came[2:4], "big"), 4
        elif size == 127:
            size, start = int.from_bytes(came[2:10], "big"), 10
        return (came[0] & 0x0F, start, start + size) if len(came) >= start + size else None
