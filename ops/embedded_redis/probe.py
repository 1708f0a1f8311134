"""The server that answers at an address of this machine, and the ports that are free."""

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
    """A server that answers; `version` is that of the Redis it is compatible with, `server` its own name and version."""

    url: str
    pid: int
    version: str
    server: str


@dataclass(frozen=True, slots=True)
class Address:
    """A place a server listens at: a unix socket, or a port of 127.0.0.1 with or without a password."""

    port: int = 0
    unix_socket: Path | None = None
    password: str = ""

    @property
    def url(self) -> str:
        """The URL clients take."""
        if self.unix_socket:
            return f"unix://{quote(str(self.unix_socket))}?db=0"
        secret = f":{self.password}@" if self.password else ""
        return f"redis://{secret}127.0.0.1:{self.port}/0"

    @classmethod
    def of(cls, url: str) -> Address:
        """The address of a URL that `url` made."""
        parts = urlsplit(url)
        if parts.scheme == "unix":
            return cls(unix_socket=Path(unquote(parts.path)))
        return cls(port=parts.port or 0, password=parts.password or "")


def probe(address: Address) -> RunningRedis | None:
    """Ask a server who it is; None while it refuses, hangs, or loads its file."""
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
