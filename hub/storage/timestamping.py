"""The time-stamping authority of the settings, asked over HTTP as RFC 3161 says; and the stamper that asks it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from pathlib import Path
from ssl import SSLContext
from typing import TYPE_CHECKING, Final

import httpx

from hub.config import Settings
from streams.archive.objects import ArchiveObjects
from streams.errors import ConfigurationRefused, TimestampRefused

if TYPE_CHECKING:
    from streams.archive.stamper import Stamper

ANSWER_S: Final = 20.0
"""Time in which an authority must have answered, seconds."""
_REPLY_BYTES_MAX: Final = 65_536
_QUERY: Final = {"Content-Type": "application/timestamp-query", "Accept": "application/timestamp-reply"}


class HttpAuthority:
    """A time-stamping authority at a URL.

    Args:
        answer_s: time in which it must have answered.
    """

    def __init__(self, url: str, answer_s: float = ANSWER_S) -> None:
        self._url, self._answer_s = url, answer_s
        self._tls: SSLContext | None = None

    async def ask(self, request: bytes) -> bytes:
        """Send a request; returns the reply. Redirects are not followed.

        Raises:
            TimestampRefused: it does not answer in time, or with something else.
        """
        try:
            if self._tls is None:  # reads all root certificates, which takes longer than a turn of the loop may
                self._tls = await asyncio.to_thread(httpx.create_ssl_context)
            async with asyncio.timeout(self._answer_s), httpx.AsyncClient(verify=self._tls) as client:
                return await self._ask(client, request)
        except TimeoutError as late:
            raise TimestampRefused(f"the authority has not answered within {self._answer_s:g} s") from late
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
            raise TimestampRefused(
                f"the authority cannot be asked: {type(error).__name__} {str(error)[:200]}"
            ) from error

    async def _ask(self, client: httpx.AsyncClient, request: bytes) -> bytes:
        reply = bytearray()
        async with client.stream("POST", self._url, content=request, headers=_QUERY) as answer:
            if answer.status_code != httpx.codes.OK:
                raise TimestampRefused(f"the authority answers with the status {answer.status_code}")
            async for piece in answer.aiter_bytes():
                reply += piece
                if len(reply) > _REPLY_BYTES_MAX:
                    raise TimestampRefused(f"the authority answers with more than {_REPLY_BYTES_MAX:,} bytes")
        return bytes(reply)


def stamper_of(settings: Settings, objects: ArchiveObjects, tenants: Callable[[], Collection[str]]) -> Stamper | None:
    """The stamper that the settings ask for; None if they ask for none.

    Raises:
        ConfigurationRefused: a package or the file of certificates is missing.
    """
    if settings.timestamp_url is None:
        return None
    try:
        from streams.archive.stamper import Stamper
        from streams.archive.stamps import read_authorities
    except ImportError as missing:
        raise ConfigurationRefused("HUB_TIMESTAMP_URL needs pip install 'realtime-hub[audit]'") from missing
    try:
        file = settings.timestamp_ca
        authorities = read_authorities(Path(file).read_bytes()) if file is not None else ()
    except (OSError, ValueError) as error:
        raise ConfigurationRefused(f"HUB_TIMESTAMP_CA must be a file with certificates in PEM form: {error}") from error
    return Stamper(objects, HttpAuthority(settings.timestamp_url), tenants, authorities)
