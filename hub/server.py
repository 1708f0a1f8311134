"""Runs a node on uvicorn, with sockets on the lean protocol class."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import Final

import uvicorn

from hub.app import create_app
from hub.config import Settings
from hub.http.bounded import bounded_http
from hub.logs import configure_logging, uvicorn_log_config
from hub.websocket.protocol import lean_protocol
from hub.websocket.upgrade import HANDSHAKE_SIZE_LIMIT_BYTES

BACKLOG: Final = 4_096
"""Connections the kernel holds while the node accepts: a reconnect storm after a deploy comes all at once."""


def make_server(settings: Settings, *, log_level: str = "warning") -> uvicorn.Server:
    """A uvicorn server for one node; `await server.serve(sockets=…)` runs it until SIGTERM or SIGINT."""
    app = create_app(settings)
    protocol = lean_protocol(
        app.state.make_receiver,
        message_size_limit_bytes=settings.message_size_limit_bytes,
        handshake_size_limit_bytes=HANDSHAKE_SIZE_LIMIT_BYTES,
    )
    config = uvicorn.Config(
        app, host=settings.host, port=settings.port, ws=protocol, http=bounded_http(settings.handshake_timeout_s),
        log_level=log_level, access_log=False, backlog=BACKLOG,
        forwarded_allow_ips=[str(network) for network in settings.trusted_proxies],
        lifespan="on", timeout_graceful_shutdown=int(settings.drain_s) + 1, server_header=False, date_header=False,
        log_config=uvicorn_log_config(),
    )  # fmt: skip
    return uvicorn.Server(config)


async def serve(settings: Settings, sockets: Sequence[socket.socket] | None = None) -> None:
    """Run a node until it is told to stop, in a process of its own. Sockets that are open then are drained."""
    server = make_server(settings)
    configure_logging(secrets=settings.secrets)
    await server.serve(sockets=list(sockets) if sockets else None)
