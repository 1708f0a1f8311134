"""The server that answers at an address of this machine, and the ports that are free."""

from __future__ import annotations

import secrets
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from streams.redis.server_check import read_greeting

_LISTENING_PORTS: Final = range(15_000, 30_000)


@dataclass(frozen=True, slots=True)
class RunningRedis:
    """A server that answers."""

    url: str
    pid: int
    version: str


def probe(port: int, unix_socket: Path | None) -> RunningRedis | None:
    """Ask a server who it is; None while it refuses, hangs, or loads its file."""
    family, address = (socket.AF_UNIX, str(unix_socket)) if unix_socket else (socket.AF_INET, ("127.0.0.1", port))
    try:
        with socket.socket(family, socket.SOCK_STREAM) as asked:
            asked.settimeout(1)
            asked.connect(address)
            facts = read_greeting(asked)
    except OSError:
        return None
    if facts is None:
        return None
    return RunningRedis(url_of(port, unix_socket), int(facts["process_id"]), facts["redis_version"])


def url_of(port: int, unix_socket: Path | None) -> str:
    """The URL clients take, of a unix socket or a port of 127.0.0.1."""
    return f"unix://{unix_socket}?db=0" if unix_socket else f"redis://127.0.0.1:{port}/0"


def address_of(url: str) -> tuple[int, Path | None]:
    """The port, or the socket's path, of a URL that `url_of` made."""
    if url.startswith("unix://"):
        return 0, Path(url.removeprefix("unix://").partition("?")[0])
    return int(url.rpartition(":")[2].partition("/")[0]), None


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on now.

    Below the ephemeral range: on a port inside it, a client that retries while the server is down can be given that
    very port as its own, connect to itself, and keep the server from coming back.
    """
    while True:
        port = secrets.choice(_LISTENING_PORTS)
        if is_free(port):
            return port


def is_free(port: int) -> bool:
    """True when a server could listen on this port of 127.0.0.1 now. Port 0 is never free."""
    if not port:
        return False
    with socket.socket() as asked:
        asked.setsockopt(
            socket.SOL_SOCKET, socket.SO_REUSEADDR, 1
        )  # as redis-server does, or TIME_WAIT would look taken
        try:
            asked.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
