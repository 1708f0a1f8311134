"""The HTTP face of the local store: signed addresses. The signature is the permission; no token is read."""

from __future__ import annotations

import time
from typing import Final

from fastapi import APIRouter, Request
from fastapi.responses import Response, StreamingResponse

from hub.http.refusal import Refusal
from hub.storage.local import LocalStore
from hub.storage.local_signing import PATH, SignatureRefused, Ticket, check
from hub.storage.ranges import Span, parse_range
from hub.storage.store import AlreadyStored, BadContent, UploadGone

_STATUS: Final = {SignatureRefused: 403, BadContent: 400, UploadGone: 404, AlreadyStored: 412}
_SAFE_HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "sandbox; default-src 'none'",
    "Cache-Control": "private, no-store",
    "Accept-Ranges": "bytes",
    "Cross-Origin-Resource-Policy": "same-site",
}
"""What a person uploaded is never run in our origin, whatever a browser takes it for."""

router = APIRouter(prefix=PATH.rstrip("/"), include_in_schema=False)


@router.put("/{key:path}")
async def receive(key: str, request: Request) -> Response:
    """Carry out a signed PUT. Refused, the connection ends with the answer, once the body has been seen off."""
    try:
        store = _store(request)
        digest = await store.receive(_ticket(store, "PUT", key, request), request.stream())
    except (SignatureRefused, BadContent, UploadGone, AlreadyStored) as error:
        return Refusal(request, str(error), _STATUS[type(error)], "text/plain")
    return Response(status_code=200, headers={"ETag": f'"{digest}"'})


@router.get("/{key:path}")
async def serve(key: str, request: Request) -> Response:
    """Answer a signed GET, whole or a range of it."""
    try:
        store = _store(request)
        ticket = _ticket(store, "GET", key, request)
    except SignatureRefused as error:
        return Response(str(error), 403, media_type="text/plain")
    stored = await store.look(key)
    if stored is None:
        return Response("no such object", 404, media_type="text/plain")
    return _answer(store, ticket, parse_range(request.headers.get("range"), stored.size), stored.size)


def _store(request: Request) -> LocalStore:
    """The node's local store.

    Raises:
        SignatureRefused: it has none, so nothing was signed for it.
    """
    store = getattr(request.app.state, "local_store", None)
    if not isinstance(store, LocalStore):
        raise SignatureRefused("this node keeps no files")
    return store


def _ticket(store: LocalStore, method: str, key: str, request: Request) -> Ticket:
    arrived = Ticket(method, key, dict(request.query_params), request.headers)
    return check(store.secret, arrived, time.time())


def _answer(store: LocalStore, ticket: Ticket, span: Span | None, size: int) -> Response:
    """The object, or the part of it that was asked for (RFC 9110, 14)."""
    if span is None:
        return Response(status_code=416, headers={"Content-Range": f"bytes */{size}"})
    headers = {
        **_SAFE_HEADERS, "Content-Disposition": ticket.query["disposition"], "Content-Length": str(span.size),
    }  # fmt: skip
    if span.is_partial:
        headers["Content-Range"] = f"bytes {span.start}-{span.start + span.size - 1}/{size}"
    body = store.read(ticket.key, span.start, span.size)
    return StreamingResponse(body, 206 if span.is_partial else 200, headers, ticket.query["type"])
