"""Carries out signed PUTs with the standard library: sends a part of a file from a thread. Its functions block."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import http.client
from base64 import b64encode
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit


def measure(path: Path) -> tuple[int, str]:
    """Returns a file's size in bytes and its SHA-256 in base64."""
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while piece := file.read(PIECE_BYTES):
            digest.update(piece)
            size += len(piece)
    return size, b64encode(digest.digest()).decode()


def read_piece(path: Path, offset: int, size: int) -> bytes:
    """Reads `size` bytes from `offset`; fewer at the end of the file."""
    with path.open("rb") as file:
        file.seek(offset)
        return file.read(size)


def part_digests(path: Path, numbers: list[int], part_size: int) -> list[str]:
    """Hashes the parts with these numbers (from 1): SHA-256 in base64."""
    found = []
    with path.open("rb") as file:
        for n in numbers:
            file.seek((n - 1) * part_size)
            digest, left = hashlib.sha256(), part_size
            while left and (piece := file.read(min(PIECE_BYTES, left))):
                digest.update(piece)
                left -= len(piece)
            found.append(b64encode(digest.digest()).decode())
    return found


PIECE_BYTES: Final = 1024 * 1024
"""Bytes read and sent at a time: enough to keep the interpreter's overhead low, few enough for a live progress bar."""
TIMEOUT_S: Final = 60.0
RETRY_DELAYS_S: Final = (0.0, 1.0, 3.0, 5.0)
"""Seconds to wait before each attempt of one PUT."""
FORBIDDEN: Final = 403
ALREADY_THERE: Final = 412
_OK: Final = 200
_SERVER_ERROR: Final = 500


class PutRefused(Exception):
    """The store refused for good: `status` 403 means an expired signature, 404 an upload that has ended."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(f"the store answered {status}: {text[:200]}")
        self.status = status


async def put(signed: Mapping[str, Any], path: Path, offset: int, size: int, on_sent: Callable[[int], None]) -> None:
    """PUTs `size` bytes of a file from `offset`, trying again where that can help. Bytes already stored count as done.

    Args:
        signed: `url` and `headers`, as the hub sent them.
        path: the file.
        offset: position of the first byte.
        size: number of bytes to send.
        on_sent: called in this thread with the bytes of this PUT sent so far; a new attempt starts at 0.

    Raises:
        PutRefused: the store refused.
        OSError: the store was unreachable at every attempt.
    """
    loop = asyncio.get_running_loop()

    def tell(sent: int) -> None:
        loop.call_soon_threadsafe(on_sent, sent)

    for attempt, delay_s in enumerate(RETRY_DELAYS_S, 1):
        await asyncio.sleep(delay_s)
        try:
            status, text = await asyncio.to_thread(_put_once, signed, path, offset, size, tell)
        except (OSError, http.client.HTTPException) as error:
            if attempt == len(RETRY_DELAYS_S):
                raise error if isinstance(error, OSError) else OSError(str(error)) from error
            continue
        if status in {_OK, ALREADY_THERE}:
            return
        if status < _SERVER_ERROR or attempt == len(RETRY_DELAYS_S):
            raise PutRefused(status, text)


def _put_once(
    signed: Mapping[str, Any], path: Path, offset: int, size: int, tell: Callable[[int], None]
) -> tuple[int, str]:
    url = urlsplit(signed["url"])
    kind = http.client.HTTPSConnection if url.scheme == "https" else http.client.HTTPConnection
    connection = kind(url.netloc, timeout=TIMEOUT_S)
    try:
        connection.putrequest("PUT", f"{url.path}?{url.query}", skip_accept_encoding=True)
        for name, value in signed["headers"].items():
            connection.putheader(name, value)
        connection.endheaders()
        with contextlib.suppress(
            BrokenPipeError, ConnectionResetError
        ):  # a store that refuses may answer before it has read everything
            _send(connection, path, offset, size, tell)
        response = connection.getresponse()
        return response.status, response.read(2_000).decode("utf-8", "replace")
    finally:
        connection.close()


def _send(
    connection: http.client.HTTPConnection, path: Path, offset: int, size: int, tell: Callable[[int], None]
) -> None:
    """Sends from the page cache to the socket without copying through Python, where there is no TLS (sendfile(2))."""
    sent = 0
    with path.open("rb") as file:
        while sent < size:
            piece = connection.sock.sendfile(file, offset + sent, min(PIECE_BYTES, size - sent))
            if not piece:
                raise OSError("the file became shorter while it was sent")
            sent += piece
            tell(sent)
