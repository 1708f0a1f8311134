"""`/metrics` of a worker, which serves no other HTTP: a thread of Prometheus's own client answers."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, start_http_server

from consumers.metrics import ConsumerCollector, Meters
from ops.cli.failure import CommandFailed


@contextlib.contextmanager
def served_metrics(meters: Meters, host: str, port: int | None) -> Iterator[int | None]:
    """Serve them inside the block, at the port it gives; nothing is served without a port.

    Raises:
        CommandFailed: the port is taken.
    """
    if port is None:
        yield None
        return
    registry = CollectorRegistry()
    registry.register(ConsumerCollector(meters))
    try:
        server, thread = start_http_server(port, host, registry)
    except OSError as refused:
        raise CommandFailed(
            f"cannot serve metrics on {host}:{port} ({refused.strerror}): choose another --metrics-port"
        ) from refused
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
