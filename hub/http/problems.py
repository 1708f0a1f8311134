"""Errors over HTTP: RFC 9457 problem documents with the same codes and names as on the socket."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
from collections.abc import AsyncIterator, Mapping
from typing import Final

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from hub.errors import HubError
from hub.protocol.replies import log_error
from streams.errors import StreamsError

LINGER_BYTES: Final = 64 * 1024 * 1024
"""Maximum bytes read and discarded. With less, a refused part (8 MiB or more) would be cut off; more would only be traffic."""
LINGER_S: Final = 10.0
"""Maximum seconds to wait for the rest of a body."""


class RefusalResponse(Response):
    """A response to a request whose body was not read: it answers at once, reads the rest, then closes the connection.

    Closing a connection with unread bytes resets it, and a client that sends everything before it reads would see
    the reset instead of the answer. Not a StreamingResponse, because that reads the request itself, to notice a
    disconnect.
    """

    def __init__(
        self, request: Request, text: str, status: int, media_type: str, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(text, status, {**(headers or {}), "Connection": "close"}, media_type)
        self._request = request

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - the port's signature
        """Sends the response as an ASGI application.

        The answer is complete after `Content-Length` bytes, so the client has it before the rest of its body
        is read.
        """
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": self.body, "more_body": True})
        with contextlib.suppress(TimeoutError, ClientDisconnect):
            async with asyncio.timeout(LINGER_S):
                await self._drain_body()
        await send({"type": "http.response.body"})

    async def _drain_body(self) -> None:
        left = LINGER_BYTES
        async for piece in _unread(self._request):
            left -= len(piece)
            if left < 0:
                return


async def _unread(request: Request) -> AsyncIterator[bytes]:
    try:
        async for piece in request.stream():
            yield piece
    except RuntimeError:  # Starlette raises this if the body has been read to its end
        return


PROBLEM_TYPE: Final = "application/problem+json"
_WAITS: Final = frozenset({429, 503})
_WAIT_MS: Final = 1_000
"""Default `Retry-After`: other connections or channels may end at any time."""
_OF_STATUS: Final = {401: 4001, 403: 4003, 404: 4018, 413: 4011}
"""Status that the framework answers by itself → code; other statuses from 400 to 499 are 4005."""


def problem_document(error: HubError, status: int | None = None) -> dict[str, object]:
    """Builds the document of an error; `status` overrides the status of the error's row."""
    payload = error.to_payload()
    del payload["message"]
    head = {"type": "about:blank", "title": error.row.name, "status": status or error.row.http_status}
    return {**head, "detail": error.message, **payload}


def problem(error: HubError, request: Request) -> Response:
    """Builds the response for an error."""
    document, status, headers = problem_document(error), error.row.http_status, {}
    if status in _WAITS:
        document.setdefault("retry_after_ms", _WAIT_MS)
    if isinstance(wait_ms := document.get("retry_after_ms"), int):
        headers["Retry-After"] = str(max(1, math.ceil(wait_ms / 1000)))
    if status == 401:  # noqa: PLR2004 - RFC 9110 asks for the header with it
        headers["WWW-Authenticate"] = "Bearer"
    if status == 413:  # noqa: PLR2004 - its body was not read to the end
        return RefusalResponse(request, json.dumps(document), 413, PROBLEM_TYPE, headers)
    return Response(json.dumps(document), status, headers, PROBLEM_TYPE)


def install_problems(app: FastAPI) -> None:
    """Makes the app answer every error with a problem document."""

    @app.exception_handler(HubError)
    async def refused(request: Request, error: HubError) -> Response:
        return problem(error, request)

    @app.exception_handler(StreamsError)
    async def not_logged(request: Request, error: StreamsError) -> Response:
        return problem(log_error(error), request)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        fields = ", ".join(sorted({".".join(map(str, e["loc"][1:])) for e in error.errors()}))
        return problem(HubError(4005, f"the request does not match its schema: {fields}; see /openapi.json"), request)

    @app.exception_handler(HTTPException)
    async def other(_request: Request, error: HTTPException) -> Response:
        code = _OF_STATUS.get(error.status_code, 4005 if error.status_code < 500 else 4030)  # noqa: PLR2004 - client or server
        document = problem_document(HubError(code, str(error.detail)), error.status_code)
        return Response(json.dumps(document), error.status_code, error.headers, PROBLEM_TYPE)

    @app.exception_handler(ClientDisconnect)
    async def left(_request: Request, _error: ClientDisconnect) -> Response:
        return Response(status_code=400)  # nobody receives this: the client disconnected in the middle of its body

    @app.exception_handler(Exception)
    async def ours(request: Request, error: Exception) -> Response:
        hub = request.app.state.hub
        return problem(hub.as_hub_error(error), request)
