"""Routes without a user's token: health, readiness, metrics, the AsyncAPI and OpenAPI documents, the console and `hub.js`.

Each document is encoded once and then served from memory.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from hashlib import sha256
from hmac import compare_digest
from importlib.resources import files
from typing import Final, NamedTuple

from fastapi import APIRouter, Depends, FastAPI, Request, Response
from fastapi.responses import RedirectResponse

from hub.errors import HubError
from hub.http.openapi import openapi_document
from hub.http.requests import bearer_token, hub_of, limit_address
from hub.metrics import HubCollector, MeasuredNode
from hub.protocol.schemas import asyncapi_document
from streams.errors import LogUnavailable, StreamsError
from streams.events import CATALOGUE
from streams.exposition import OPENMETRICS, exposed

router = APIRouter()
_OPEN: Final = [Depends(limit_address)]
"""Routes limited by address. Not /healthz, since an orchestrator would end a process whose probe is refused."""
PAGE_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}
_FOR_ANY_PAGE: Final = {**PAGE_HEADERS, "Access-Control-Allow-Origin": "*"}
"""The JavaScript client is public code: a page of any origin may import it, and its errors then say what is refused."""
_WEB_TYPES: Final = {
    "d.ts": "application/typescript; charset=utf-8",
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "svg": "image/svg+xml",
}


@router.get("/healthz")
async def healthz() -> dict[str, str]:
    """Answers 200, which shows that the process is alive."""
    return {"status": "ok"}


@router.get("/readyz")
async def readyz(request: Request) -> Response:
    """Reports whether the node is ready for traffic and, if not, the reasons."""
    if request.app.state.hub is not None:
        await limit_address(request)
    missing: list[str] = []
    away: list[str] = []
    try:
        if request.app.state.hub is None and request.app.state.waits_for is not None:
            raise LogUnavailable(request.app.state.waits_for)
        hub = hub_of(request)
        if hub.is_draining:
            missing.append("the node is draining")
        if (fetch_error := hub.verifier.fetch_error) is not None:
            missing.append(f"the token keys could not be fetched: {fetch_error}")
        troubles = hub.log.loops.troubles()
        try:
            away += await hub.log.ping()
        finally:
            (away or missing).extend(troubles)
    except (HubError, StreamsError) as error:
        missing.append(str(error))
    body: dict[str, object] = {"status": "ready"} if not missing else {"status": "unready", "missing": missing}
    if away:  # servers of a Cluster, and the loops that need them: the channels on the others are served
        body["away"] = away
    if request.app.state.hub is not None and (full := request.app.state.hub.log.memory_trouble) is not None:
        body["memory"] = full
    if request.app.state.hub is not None and (changed := request.app.state.hub.log.changed_durability):
        body["durability"] = changed
    return Response(json.dumps(body), 503 if missing else 200, media_type="application/json")


@router.get("/metrics", dependencies=_OPEN)
async def metrics(request: Request) -> Response:
    """Returns metrics for Prometheus, as OpenMetrics where `Accept` names it.

    If HUB_METRICS_TOKEN is set, it is required as `Authorization: Bearer`.
    """
    hub = hub_of(request)
    wanted = hub.settings.metrics_token
    if wanted is not None and not compare_digest(bearer_token(request).encode(), wanted.encode()):
        raise HubError(4001, "/metrics needs the token set in HUB_METRICS_TOKEN")
    accept = request.headers.get("accept", "")
    if (siblings := request.app.state.siblings) is not None:
        body, content_type = await siblings.metrics(metrics_of(hub), accept)
    else:
        body, content_type = exposed(HubCollector(hub), accept)
    return Response(body, headers={"Content-Type": content_type})


def metrics_of(hub: MeasuredNode) -> bytes:
    """The metrics of one node as OpenMetrics, for the processes that share its port."""
    return exposed(HubCollector(hub), OPENMETRICS)[0]


# Documents

_ANY_HOST: Final = "any-host.invalid"
_ANY_SERVER: Final = f'"host":"{_ANY_HOST}","protocol":"ws"'.encode()
_HOST_CHARS_MAX: Final = 300
"""Maximum length of a host name; a longer `Host` header cannot name this server."""


class EncodedDocument(NamedTuple):
    """A document as bytes, with the digest for its `ETag`."""

    body: bytes
    digest: str

    @classmethod
    def of(cls, content: object) -> EncodedDocument:
        """Encodes a document. This is slow for large ones: call it in a thread."""
        body = json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()
        return cls(body, sha256(body).hexdigest()[:16])


class Documents:
    """The documents of one app, built in a thread when first requested: the schemas of all events take half a second."""

    def __init__(self, app: FastAPI, socket_url: str | None) -> None:
        self._app = app
        self._socket_url = socket_url
        self._building: asyncio.Future[tuple[EncodedDocument, EncodedDocument]] | None = None

    async def socket(self, host: str, protocol: str) -> EncodedDocument:
        """Returns the AsyncAPI document for the configured server or, without one, for the server that the request names."""
        document = (await self._built())[0]
        return document if self._socket_url else for_server(document, host, protocol)

    async def http(self) -> EncodedDocument:
        """Returns the OpenAPI document."""
        return (await self._built())[1]

    async def _built(self) -> tuple[EncodedDocument, EncodedDocument]:
        if self._building is None:
            self._building = asyncio.ensure_future(asyncio.to_thread(self._build))
        try:
            return await asyncio.shield(self._building)
        except Exception:
            self._building = None  # the next request tries again
            raise

    def _build(self) -> tuple[EncodedDocument, EncodedDocument]:
        catalogue = {**CATALOGUE, **self._app.state.hub.own_events.rows}
        socket = asyncapi_document(catalogue, self._socket_url or f"ws://{_ANY_HOST}/ws")
        return EncodedDocument.of(socket), EncodedDocument.of(openapi_document(self._app.openapi(), catalogue))


def for_server(document: EncodedDocument, host: str, protocol: str) -> EncodedDocument:
    """Inserts the server's address into the AsyncAPI document.

    `host` may be any text a client sent, so it is escaped here.
    """
    server = f'"host":{json.dumps(host[:_HOST_CHARS_MAX])},"protocol":"{protocol}"'.encode()
    digest = sha256(document.digest.encode() + server).hexdigest()[:16]
    return EncodedDocument(document.body.replace(_ANY_SERVER, server, 1), digest)


@router.get("/asyncapi.json", dependencies=_OPEN)
async def asyncapi(request: Request) -> Response:
    """Returns the AsyncAPI 3 document of the socket's messages."""
    hub_of(request)
    protocol = "wss" if request.url.scheme == "https" else "ws"
    return _answer(request, await _documents_of(request).socket(request.url.netloc, protocol))


@router.get("/openapi.json", dependencies=_OPEN, include_in_schema=False)
async def openapi(request: Request) -> Response:
    """Returns the OpenAPI document of the HTTP routes."""
    hub_of(request)
    return _answer(request, await _documents_of(request).http())


def _documents_of(request: Request) -> Documents:
    documents: Documents = request.app.state.documents
    return documents


def _answer(request: Request, document: EncodedDocument) -> Response:
    etag = f'"{document.digest}"'
    headers = {"ETag": etag, "Cache-Control": "no-cache", "X-Content-Type-Options": "nosniff"}
    if etag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    return Response(document.body, headers=headers, media_type="application/json")


# The console


@router.get("/", include_in_schema=False, dependencies=_OPEN)
async def root() -> Response:
    """Redirects to the console, below the hub's path prefix."""
    return RedirectResponse("console", headers={"Cache-Control": "no-cache"})


@router.get("/console", include_in_schema=False, dependencies=_OPEN)
async def console() -> Response:
    """Returns the page of the console."""
    return _file("hub.web", "console.html")


@router.get("/console/{name}", include_in_schema=False, dependencies=_OPEN)
async def console_file(name: str) -> Response:
    """Returns a file that the page of the console loads."""
    return _file("hub.web", name)


# The JavaScript client


@router.get("/hub.js", include_in_schema=False, dependencies=_OPEN)
async def client_script() -> Response:
    """Returns the JavaScript client: `import { HubClient } from "https://hub.example/hub.js"`."""
    answer = _file("hub.client_js", "hub.js", headers=_FOR_ANY_PAGE)
    answer.headers["X-TypeScript-Types"] = "./hub.d.ts"  # for Deno, which reads no package.json here
    return answer


@router.get("/hub.d.ts", include_in_schema=False, dependencies=_OPEN)
async def client_types() -> Response:
    """Returns the types of the JavaScript client."""
    return _file("hub.client_js", "hub.d.ts", headers=_FOR_ANY_PAGE)


@router.get("/hub/{name}", include_in_schema=False, dependencies=_OPEN)
async def client_file(name: str) -> Response:
    """Returns a module of the JavaScript client."""
    return _file("hub.client_js", "hub", name, headers=_FOR_ANY_PAGE)


def _file(package: str, *path: str, headers: Mapping[str, str] = PAGE_HEADERS) -> Response:
    *folders, name = path
    folder = files(package).joinpath(*folders)
    ending = name.partition(".")[2]
    if ending not in _WEB_TYPES or name not in {entry.name for entry in folder.iterdir()}:
        return Response("not found", 404)
    return Response(folder.joinpath(name).read_bytes(), 200, headers, _WEB_TYPES[ending])
