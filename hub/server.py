"""Runs a node on uvicorn, with the hub's own WebSocket protocol class."""

from __future__ import annotations

import math
import socket
from collections.abc import Sequence
from typing import Any, Final

import uvicorn

from hub.app import create_app
from hub.config import Settings
from hub.http.bounded import HttpBounds
from hub.http.front import fronted_http
from hub.http.siblings import Siblings
from hub.logs import log_as_set, uvicorn_log_config
from hub.node.hub import Hub
from hub.websocket.protocol import WireSettings, lean_protocol
from hub.websocket.upgrade import HANDSHAKE_SIZE_LIMIT_BYTES

BACKLOG: Final = 4_096
"""Connections that the kernel queues for the node to accept: after a deploy all clients reconnect at once."""


DRAIN_MIN_S: Final = 0.5
"""Minimum seconds for requests in progress to finish, even if HUB_DRAIN_SECONDS is 0."""


class DrainingServer(uvicorn.Server):
    """A uvicorn server that ends streams and long polls before it waits for requests in progress."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Drains streams and long polls, then stops like uvicorn, which drains the sockets."""
        app: Any = self.config.app
        hub = app.state.hub
        if isinstance(hub, Hub):
            hub.drain()
        await super().shutdown(sockets)


def make_server(
    settings: Settings, *, log_level: str = "warning", waits: bool = True, siblings: Siblings | None = None
) -> uvicorn.Server:
    """Builds a uvicorn server for one node; `await server.serve(sockets=…)` runs it until SIGTERM or SIGINT.

    `waits` and `siblings` are those of `create_app`.
    """
    app = create_app(settings, waits=waits, siblings=siblings)
    protocol = lean_protocol(
        WireSettings(
            app.state.make_receiver,
            message_size_limit_bytes=settings.message_size_limit_bytes,
            handshake_size_limit_bytes=HANDSHAKE_SIZE_LIMIT_BYTES,
            is_deflate_accepted=settings.compression == "on",
        )
    )
    drain_s = max(DRAIN_MIN_S, settings.drain_s)
    bounds = HttpBounds(
        head_timeout_s=settings.handshake_timeout_s,
        drain_s=drain_s,
        waiting_max=settings.max_connections,
        plain_max=settings.max_http_connections,
        plain_by_address_max=settings.max_http_connections_by_address,
        proxies=settings.trusted_proxies,
    )
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        ws=protocol,
        http=fronted_http(bounds),
        log_level=log_level,
        access_log=False,
        backlog=BACKLOG,
        forwarded_allow_ips=[str(network) for network in settings.trusted_proxies],
        lifespan="on",
        timeout_graceful_shutdown=math.ceil(drain_s) + 1,
        server_header=False,
        date_header=False,
        log_config=uvicorn_log_config(),
    )
    return DrainingServer(config)


async def serve(settings: Settings, sockets: Sequence[socket.socket] | None = None) -> None:
    """Runs a node until it is stopped by a signal. Open sockets are drained then."""
    server = make_server(settings)
    log_as_set(settings)
    given = list(sockets or ())
    if settings.admin_port is not None:
        ports = [settings.admin_port] if given else [settings.port, settings.admin_port]
        family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
        given += [socket.create_server((settings.host, port), family=family, backlog=BACKLOG) for port in ports]
    await server.serve(sockets=given or None)
