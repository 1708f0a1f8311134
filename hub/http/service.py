"""Service routes for operators and tools: health, readiness, metrics, the console. None but /metrics asks for a token."""

from __future__ import annotations

import json
from hmac import compare_digest
from importlib.resources import files
from typing import Final

from fastapi import APIRouter, Depends, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from hub.errors import HubError
from hub.http.requests import bearer_token, hub_of, limit_address
from hub.metrics import HubCollector
from streams.errors import LogUnavailable, StreamsError

router = APIRouter()
_OPEN: Final = [Depends(limit_address)]
"""Routes without a token are limited by address; /healthz is not, since a probe that is refused ends the process."""
PAGE_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}
_WEB_TYPES: Final = {
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "svg": "image/svg+xml",
}


@router.get("/healthz")
async def healthz() -> dict[str, str]:
    """Answer, which shows that the process lives."""
    return {"status": "ok"}


@router.get("/readyz")
async def readyz(request: Request) -> Response:
    """Report readiness for traffic, with the missing parts if there are any."""
    if request.app.state.hub is not None:
        await limit_address(request)
    missing = []
    try:
        if request.app.state.hub is None and request.app.state.waits_for is not None:
            raise LogUnavailable(request.app.state.waits_for)
        hub = hub_of(request)
        if hub.is_draining:
            missing.append("the node is draining")
        missing += hub.log.loops.troubles()
        if (fetch_error := hub.verifier.fetch_error) is not None:
            missing.append(f"keys of tokens could not be fetched: {fetch_error}")
        await hub.log.ping()
    except (HubError, StreamsError) as error:
        missing.append(str(error))
    body: dict[str, object] = {"status": "ready"} if not missing else {"status": "unready", "missing": missing}
    if request.app.state.hub is not None and (changed := request.app.state.hub.log.changed_durability):
        body["durability"] = changed
    return Response(json.dumps(body), 503 if missing else 200, media_type="application/json")


@router.get("/metrics", dependencies=_OPEN)
async def metrics(request: Request) -> Response:
    """Prometheus metrics; where HUB_METRICS_TOKEN is set, only with it as `Authorization: Bearer`."""
    hub = hub_of(request)
    wanted = hub.settings.metrics_token
    if wanted is not None and not compare_digest(bearer_token(request).encode(), wanted.encode()):
        raise HubError(4001, "/metrics needs the token set in HUB_METRICS_TOKEN")
    registry = CollectorRegistry()
    registry.register(HubCollector(hub))
    return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)


@router.get("/console", include_in_schema=False, dependencies=_OPEN)
async def console() -> Response:
    """The console's page."""
    return _web_file("console.html")


@router.get("/console/{name}", include_in_schema=False, dependencies=_OPEN)
async def console_file(name: str) -> Response:
    """A file the page loads."""
    return _web_file(name)


def _web_file(name: str) -> Response:
    folder = files("hub.web")
    known = {entry.name for entry in folder.iterdir()}
    ending = name.rpartition(".")[2]
    if name not in known or ending not in _WEB_TYPES:
        return Response("not found", 404)
    return Response(folder.joinpath(name).read_bytes(), 200, PAGE_HEADERS, _WEB_TYPES[ending])
