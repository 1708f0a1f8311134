"""An answer to a request whose body was not read to its end: the answer at once, then an ear for what is still on its way.

Closing a connection on unread bytes resets it, and whoever sends all before it reads would meet the reset instead of the
answer. Not a StreamingResponse: that one reads the request itself, to notice a disconnect, and throws the body's end away.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from typing import Final

from fastapi import Request, Response
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

LINGER_BYTES: Final = 64 * 1024 * 1024
"""What is read and thrown away at most. Smaller, a refused part (8 MiB and more) is cut off; larger, it is traffic."""
LINGER_S: Final = 10.0
"""Ten of these at once cost ten idle tasks; a body that drips is not waited for."""


class Refusal(Response):
    """A response that ends its connection, once the rest of the body has been seen off."""

    def __init__(
        self, request: Request, text: str, status: int, media_type: str, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(text, status, {**(headers or {}), "Connection": "close"}, media_type)
        self._request = request

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - the port's signature
        """ASGI. With all of `Content-Length` sent, the client has its answer before the rest of the body is read."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": self.body, "more_body": True})
        with contextlib.suppress(TimeoutError, ClientDisconnect):
            async with asyncio.timeout(LINGER_S):
                await self._see_off()
        await send({"type": "http.response.body"})

    async def _see_off(self) -> None:
        left = LINGER_BYTES
        async for piece in _unread(self._request):
            left -= len(piece)
            if left < 0:
                return


async def _unread(request: Request) -> AsyncIterator[bytes]:
    try:
        async for piece in request.stream():
            yield piece
    except RuntimeError:  # Starlette's word for a body that was read to its end
        return
