"""Errors over HTTP: RFC 9457 problem documents with the code and name of the socket's errors."""

from __future__ import annotations

import json
import math

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from hub.errors import HubError


def problem(error: HubError) -> Response:
    """One error as a problem document."""
    payload = error.to_payload()
    document = {
        "type": "about:blank",
        "title": error.row.name,
        "status": error.row.http_status,
        "detail": error.message,
    }
    document |= {name: value for name, value in payload.items() if name != "message"}
    headers = {}
    if error.retry_after_ms is not None:
        headers["Retry-After"] = str(max(1, math.ceil(error.retry_after_ms / 1000)))
    if error.row.http_status == 413:  # noqa: PLR2004 - the rest of the body is not read
        headers["Connection"] = "close"
    if error.row.http_status == 401:  # noqa: PLR2004 - RFC 9110 asks for the header with it
        headers["WWW-Authenticate"] = "Bearer"
    return Response(json.dumps(document), error.row.http_status, headers, "application/problem+json")


def install_problems(app: FastAPI) -> None:
    """Answer every error of the app as a problem document."""

    @app.exception_handler(HubError)
    async def refused(_request: Request, error: HubError) -> Response:
        return problem(error)

    @app.exception_handler(RequestValidationError)
    async def invalid(_request: Request, error: RequestValidationError) -> Response:
        fields = ", ".join(sorted({".".join(map(str, e["loc"][1:])) for e in error.errors()}))
        return problem(HubError(4005, f"not as declared: {fields}; see /openapi.json"))

    @app.exception_handler(HTTPException)
    async def other(_request: Request, error: HTTPException) -> Response:
        document = {"type": "about:blank", "title": str(error.detail), "status": error.status_code}
        return Response(json.dumps(document), error.status_code, error.headers, "application/problem+json")

    @app.exception_handler(Exception)
    async def ours(request: Request, error: Exception) -> Response:
        hub = request.app.state.hub
        return problem(hub.as_hub_error(error))
