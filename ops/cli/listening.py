"""The socket a node listens on, bound before anything is started, so that a taken port is one clear line."""

from __future__ import annotations

import socket

from ops.cli.failure import CommandFailed


def bind(host: str, port: int, *, is_shared: bool = False) -> socket.socket:
    """A bound TCP socket, not listening yet. `is_shared` lets other processes bind it too (SO_REUSEPORT).

    Raises:
        CommandFailed: the address is taken, or is not this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if is_shared:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        bound.bind((host, port))
    except OSError as refused:
        bound.close()
        raise CommandFailed(f"cannot listen on {host}:{port} ({refused.strerror}): choose another --port") from refused
    return bound


def url_of(bound: socket.socket) -> str:
    """The URL a client on this machine uses."""
    host, port, *_ = bound.getsockname()
    place = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)  # noqa: S104 - compared, not bound
    return f"http://{place}:{port}"
