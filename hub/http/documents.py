"""The documents of the two interfaces: AsyncAPI for the socket, OpenAPI for HTTP. Each is built once and answered from bytes."""

from __future__ import annotations

import asyncio
import json
from hashlib import sha256
from typing import Final, NamedTuple

from fastapi import APIRouter, Depends, FastAPI, Request, Response

from hub.http.requests import hub_of, limit_address
from hub.protocol.schemas import asyncapi_document
from streams.events import CATALOGUE

router = APIRouter()
_ANY_HOST: Final = "any-host.invalid"
_ANY_SERVER: Final = f'"host":"{_ANY_HOST}","protocol":"ws"'.encode()
_HOST_CHARS_MAX: Final = 300
"""A host name has at most 253 characters; a longer `Host` header names no server."""


class EncodedDocument(NamedTuple):
    """A document as bytes, with the digest its `ETag` is made of."""

    body: bytes
    digest: str

    @classmethod
    def of(cls, content: object) -> EncodedDocument:
        """Encode a document. Slow for large ones: call it in a thread."""
        body = json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()
        return cls(body, sha256(body).hexdigest()[:16])


class Documents:
    """The documents of one app, built at first use in a thread: the schemas of all events cost half a second once."""

    def __init__(self, app: FastAPI, socket_url: str | None) -> None:
        self._app = app
        self._socket_url = socket_url
        self._building: asyncio.Future[tuple[EncodedDocument, EncodedDocument]] | None = None

    async def socket(self, host: str, protocol: str) -> EncodedDocument:
        """The AsyncAPI document, of the configured server or, without one, of the server a request names."""
        document = (await self._built())[0]
        return document if self._socket_url else for_server(document, host, protocol)

    async def http(self) -> EncodedDocument:
        """The OpenAPI document."""
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
        socket = asyncapi_document(CATALOGUE, self._socket_url or f"ws://{_ANY_HOST}/ws")
        return EncodedDocument.of(socket), EncodedDocument.of(self._app.openapi())


def for_server(document: EncodedDocument, host: str, protocol: str) -> EncodedDocument:
    """Put the server's own name into the AsyncAPI document. A host may be any text a client sent, so it is escaped here."""
    server = f'"host":{json.dumps(host[:_HOST_CHARS_MAX])},"protocol":"{protocol}"'.encode()
    digest = sha256(document.digest.encode() + server).hexdigest()[:16]
    return EncodedDocument(document.body.replace(_ANY_SERVER, server, 1), digest)


@router.get("/asyncapi.json", dependencies=[Depends(limit_address)])
async def asyncapi(request: Request) -> Response:
    """The socket's catalogue as an AsyncAPI 3 document."""
    hub_of(request)
    protocol = "wss" if request.url.scheme == "https" else "ws"
    return _answer(request, await _documents_of(request).socket(request.url.netloc, protocol))


@router.get("/openapi.json", dependencies=[Depends(limit_address)], include_in_schema=False)
async def openapi(request: Request) -> Response:
    """The HTTP routes as an OpenAPI document."""
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
