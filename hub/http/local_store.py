"""Serves the local store over HTTP with signed URLs. The signature is the permission; no token is read."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from typing import Final

from fastapi import APIRouter, Request
from fastapi.responses import Response, StreamingResponse

from hub.http.problems import RefusalResponse
from hub.storage.local import PATH, LocalRequest, LocalStore, SignatureRefused, TooManyPuts, TooSlow, check
from hub.storage.store import AlreadyStored, BadContent, UploadGone

_RANGE: Final = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")


@dataclass(frozen=True, slots=True)
class ByteRange:
    """The bytes to send: `size` bytes from `start`."""

    start: int
    size: int
    is_partial: bool


def parse_range(header: str | None, size: int) -> ByteRange | None:
    """Parses a `Range` header for an object of `size` bytes, single ranges only (RFC 9110, 14.2); None means 416.

    As the RFC allows, a malformed header or one with several ranges is ignored: the whole object is sent.
    """
    match = _RANGE.fullmatch(header or "")
    if match is None or match.group(0) == "bytes=-":
        return ByteRange(0, size, is_partial=False)
    first, last = match.groups()
    if not first:
        start, end = max(0, size - int(last)), size
    else:
        start, end = int(first), min(size, int(last) + 1) if last else size
    return ByteRange(start, end - start, is_partial=True) if start < end else None


_STATUS: Final = {
    TooManyPuts: 503,
    TooSlow: 408,
    SignatureRefused: 403,
    BadContent: 400,
    UploadGone: 404,
    AlreadyStored: 412,
}
_SAFE_HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "sandbox; default-src 'none'",
    "Cache-Control": "private, no-store",
    "Accept-Ranges": "bytes",
    "Cross-Origin-Resource-Policy": "same-site",
}
"""Headers that keep an uploaded file from running in the hub's origin, whatever type a browser detects."""

router = APIRouter(prefix=PATH.rstrip("/"), include_in_schema=False)


@router.put("/{key:path}")
async def receive(key: str, request: Request) -> Response:
    """Carries out a signed PUT. A refusal closes the connection, after the rest of the body was read."""
    try:
        store = _store(request)
        digest = await store.receive(_ticket(store, "PUT", key, request), request.stream())
    except (SignatureRefused, BadContent, UploadGone, AlreadyStored, TooManyPuts, TooSlow) as error:
        later = {"Retry-After": "1"} if isinstance(error, TooManyPuts) else None
        return RefusalResponse(request, str(error), _STATUS[type(error)], "text/plain", later)
    return Response(status_code=200, headers={"ETag": f'"{digest}"'})


@router.get("/{key:path}")
async def serve(key: str, request: Request) -> Response:
    """Answers a signed GET with the object or a range of it."""
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
    """Returns the node's local store.

    Raises:
        SignatureRefused: the node has no local store, so it cannot have signed this URL.
    """
    store = getattr(request.app.state, "local_store", None)
    if not isinstance(store, LocalStore):
        raise SignatureRefused("this node stores no files")
    return store


def _ticket(store: LocalStore, method: str, key: str, request: Request) -> LocalRequest:
    arrived = LocalRequest(method, key, dict(request.query_params), request.headers)
    return check(store.secret, arrived, time.time())


def _answer(store: LocalStore, ticket: LocalRequest, span: ByteRange | None, size: int) -> Response:
    """Returns the object, or the requested range of it (RFC 9110, 14)."""
    if span is None:
        return Response(status_code=416, headers={"Content-Range": f"bytes */{size}"})
    headers = {
        **_SAFE_HEADERS,
        "Content-Disposition": ticket.query["disposition"],
        "Content-Length": str(span.size),
    }
    if span.is_partial:
        headers["Content-Range"] = f"bytes {span.start}-{span.start + span.size - 1}/{size}"
    body = store.read(ticket.key, span.start, span.size)
    return StreamingResponse(body, 206 if span.is_partial else 200, headers, ticket.query["type"])
