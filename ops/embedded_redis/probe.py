"""Finds out which server answers at an address of this machine, and which ports are free."""

from __future__ import annotations

import secrets
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import quote, unquote, urlsplit

from streams.redis.server_check import read_greeting

_LISTENING_PORTS: Final = range(15_000, 30_000)


@dataclass(frozen=True, slots=True)
class RunningRedis:
    """A server that answers. `version` is the Redis version it is compatible with, `server` its own name and version."""

    url: str
    pid: int
    version: str
    server: str


@dataclass(frozen=True, slots=True)
class Address:
    """The address at which a server listens: a unix socket, or a port of 127.0.0.1 with an optional password."""

    port: int = 0
    unix_socket: Path | None = None
    password: str = ""

    @property
    def url(self) -> str:
        """The URL for clients."""
        if self.unix_socket:
            return f"unix://{quote(str(self.unix_socket))}?db=0"
        secret = f":{self.password}@" if self.password else ""
        return f"redis://{secret}127.0.0.1:{self.port}/0"

    @classmethod
    def of(cls, url: str) -> Address:
        """Parse a URL made by `url`."""
        parts = urlsplit(url)
        if parts.scheme == "unix":
            return cls(unix_socket=Path(unquote(parts.path)))
        return cls(port=parts.port or 0, password=parts.password or "")


def probe(address: Address) -> RunningRedis | None:
    """Query the server's name, version and process ID; None if it refuses, hangs, or is still loading."""
    place = address.unix_socket
    family, where = (socket.AF_UNIX, str(place)) if place else (socket.AF_INET, ("127.0.0.1", address.port))
    try:
        with socket.socket(family, socket.SOCK_STREAM) as asked:
            asked.settimeout(1)
            asked.connect(where)
            facts = read_greeting(asked, address.password)
    except OSError:
        return None
    if facts is None:
        return None
    version = facts["redis_version"]
    server = f"Valkey {facts['valkey_version']}" if "valkey_version" in facts else f"Redis {version}"
    return RunningRedis(address.url, int(facts["process_id"]), version, server)


def free_port() -> int:
    """Find a port of 127.0.0.1 on which nobody listens at the moment.

    The port is below the ephemeral range: otherwise a client that keeps reconnecting while the server is down could be assigned
    this port as its own, connect to itself, and prevent the server from starting again.
    """
    while True:
        port = secrets.choice(_LISTENING_PORTS)
        if is_free(port):
            return port


def is_free(port: int) -> bool:
    """True if a server could listen on this port of 127.0.0.1 now. Port 0 is never free."""
    if not port:
        return False
    with socket.socket() as asked:
        asked.setsockopt(
            socket.SOL_SOCKET, socket.SO_REUSEADDR, 1
        )  # as redis-server does; otherwise a port in TIME_WAIT would seem taken
        try:
            asked.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
