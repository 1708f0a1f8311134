"""`/metrics` of a worker, which serves no other HTTP: a thread with a small server of the standard library answers."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from hmac import compare_digest
from threading import Thread
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

from prometheus_client import CollectorRegistry, make_wsgi_app

from consumers.metrics import ConsumerCollector, WorkerMetrics
from ops.cli.failure import CommandFailed

Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


@contextlib.contextmanager
def served_metrics(meters: WorkerMetrics, host: str, port: int | None, token: str | None) -> Iterator[int | None]:
    """Serve them inside the block, at the port it gives; nothing is served without a port.

    Args:
        meters: what the worker counts.
        host: where to listen.
        port: 0 for any free one.
        token: what must be sent as `Authorization: Bearer`; None leaves them open, as on a node.

    Raises:
        CommandFailed: the port is taken.
    """
    if port is None:
        yield None
        return
    registry = CollectorRegistry()
    registry.register(ConsumerCollector(meters))
    try:
        server = make_server(host, port, _guarded(make_wsgi_app(registry), token), handler_class=_Silent)
    except OSError as refused:
        raise CommandFailed(
            f"cannot serve metrics on {host}:{port} ({refused.strerror}): choose another --metrics-port"
        ) from refused
    with server:
        thread = Thread(target=server.serve_forever, name="metrics", daemon=True)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


def _guarded(metrics: Application, token: str | None) -> Application:
    wanted = None if token is None else f"Bearer {token}".encode()

    def answer(request: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if wanted is None or compare_digest(request.get("HTTP_AUTHORIZATION", "").encode(), wanted):
            return metrics(request, start_response)
        start_response("401 Unauthorized", [("WWW-Authenticate", "Bearer")])
        return [b"metrics need the token of HUB_METRICS_TOKEN\n"]

    return answer


class _Silent(WSGIRequestHandler):
    """Writes no line for each scrape, and waits for no reverse look-up of who asks."""

    timeout = 5
    """Seconds for the request to come: the server answers one at a time."""

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the overridden name
        """Nothing."""

    def address_string(self) -> str:
        """The number."""
        return str(self.client_address[0])
