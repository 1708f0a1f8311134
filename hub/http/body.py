"""Reads the body of a request as far as it may go; never more, whatever `Content-Length` says or leaves out."""

from __future__ import annotations

import asyncio
from typing import Final

from fastapi import Request

from hub.errors import HubError

BODY_TIMEOUT_S: Final = 30.0
"""1 MB at 280 kbit/s. A body that drips holds a task and memory until then."""


async def read_body(request: Request, limit_bytes: int) -> bytes:
    """The whole body.

    Raises:
        HubError: 4011, it has more than `limit_bytes`; what is left of it is not read. 4005, it drips.
    """
    declared = request.headers.get("content-length", "0")
    if not declared.isdecimal() or int(declared) > limit_bytes:
        raise _too_large(limit_bytes)
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            return await _collect(request, limit_bytes)
    except TimeoutError:
        raise HubError(4005, "the body did not come in time") from None


async def _collect(request: Request, limit_bytes: int) -> bytes:
    parts: list[bytes] = []
    size_bytes = 0
    async for part in request.stream():
        size_bytes += len(part)
        if size_bytes > limit_bytes:
            raise _too_large(limit_bytes)
        parts.append(part)
    return b"".join(parts)


def _too_large(limit_bytes: int) -> HubError:
    return HubError(4011, f"a body has {limit_bytes} bytes at most")
