"""Middleware of the whole app: paths, second port, check of `Host`, headers of answers, times (docs/protocol.md#http)."""

from __future__ import annotations

from time import monotonic
from typing import Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hub.auth.origins import HostPolicy
from hub.errors import HubError
from hub.http.problems import problem

REFUSAL: Final = "the hub does not serve this host name; list it in HUB_ALLOWED_HOSTS, or set WEBSOCKET_URL"
_FOR_ANY_NAME: Final = frozenset({"/healthz", "/readyz", "/metrics"})


class PathPrefix:
    """ASGI middleware that serves the routes below `prefix` too, for a proxy that does not strip it from the path."""

    def __init__(self, app: ASGIApp, prefix: str) -> None:
        self._app, self._prefix = app, prefix

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sets the prefix as the scope's root path, which routing and URL generation use."""
        if scope["type"] in {"http", "websocket"}:
            root = scope.get("root_path", "") + self._prefix
            if scope["path"].startswith(f"{root}/"):
                scope = {**scope, "root_path": root}
        await self._app(scope, receive, send)


class OneLinePaths:
    """ASGI middleware that answers 404 for a path with a line end.

    Routing passes over one at the end (`/metrics%0a`), and the checks of a path by its words would not see the route.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes other requests on."""
        if scope["type"] == "http" and "\n" in scope["path"]:
            await problem(HubError(4018, "no path has a line end"), Request(scope, receive))(scope, receive, send)
            return
        await self._app(scope, receive, send)


class HostCheck:
    """ASGI middleware that answers 403 for a foreign `Host`: on the console's routes or, if the policy says so, on all."""

    def __init__(self, app: ASGIApp, policy: HostPolicy) -> None:
        self._app, self._policy = app, policy

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Checks one request. WebSocket upgrades are checked where they are accepted."""
        if scope["type"] == "http" and self._is_judged(scope):
            host = Headers(scope=scope).get("host", "")
            if not self._policy.allows(host.encode("latin-1")):
                await problem(HubError(4003, REFUSAL), Request(scope, receive))(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _is_judged(self, scope: Scope) -> bool:
        path: str = scope["path"].removeprefix(scope.get("root_path", ""))
        if self._policy.is_for_all:
            return path not in _FOR_ANY_NAME
        return path == "/console" or path.startswith("/console/")


_ON_BOTH_PORTS: Final = frozenset({"/healthz", "/readyz"})
_OF_OPERATORS: Final = ("/metrics", "/v1/connections", "/v1/parked", "/v1/processes", "/v1/revocations", "/v1/rollout")
"""Routes that HUB_ADMIN_PORT moves to the second port, with the routes below them."""


def admin_only(port: int) -> str:
    """Says what the second port is for."""
    return f"the port {port} has the routes for operators, and only these (HUB_ADMIN_PORT)"


class AdminPort:
    """ASGI middleware for a node with a second port: serves the routes for operators there and nowhere else, the others here."""

    def __init__(self, app: ASGIApp, port: int) -> None:
        self._app, self._port = app, port

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers 404 for a route that this port does not have."""
        if scope["type"] == "http":
            path: str = scope["path"].removeprefix(scope.get("root_path", ""))
            is_admin = any(path == route or path.startswith(f"{route}/") for route in _OF_OPERATORS)
            is_admin_port = (scope.get("server") or ("", None))[1] == self._port
            if is_admin is not is_admin_port and path not in _ON_BOTH_PORTS:
                await problem(HubError(4018, admin_only(self._port)), Request(scope, receive))(scope, receive, send)
                return
        await self._app(scope, receive, send)


_DEFAULT_HEADERS: Final = (("Cache-Control", "no-store"), ("X-Content-Type-Options", "nosniff"))


class DefaultHeaders:
    """ASGI middleware that adds the default headers that an answer lacks."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on, and adds the headers to its answer."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _DEFAULT_HEADERS:
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, send_with_headers)


_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"})


class RequestTimes:
    """ASGI middleware that records the time from a request to the beginning of its answer.

    It stands next to the routes, because routing writes the route into the scope.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on, and records it under its route's template, or `other` where no route matches."""
        hub = scope["app"].state.hub if scope["type"] == "http" else None
        if hub is None:
            await self._app(scope, receive, send)
            return
        began_s = monotonic()

        async def send_measured(message: Message) -> None:
            if message["type"] == "http.response.start":
                route = getattr(scope.get("route"), "path", "other")
                method = scope["method"] if scope["method"] in _METHODS else "other"
                hub.metrics.http_answered(method, route, message["status"], monotonic() - began_s)
            await send(message)

        await self._app(scope, receive, send_measured)
