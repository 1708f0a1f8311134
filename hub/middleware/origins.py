"""Which web pages may open sockets. Pure.

The hub keeps no cookies, so a foreign page gains nothing by opening a socket: the list narrows who may try. Programs send
no `Origin` and are not concerned.
"""

from __future__ import annotations

import re
from typing import Final

_ORIGIN: Final = re.compile(r"https?://(?:[a-z0-9-]+(?:\.[a-z0-9-]+)*|\[[0-9a-f:]+\])(?::\d{1,5})?")
_DEFAULT_PORTS: Final = {"http": ":80", "https": ":443"}


def parse_origins(text: str) -> frozenset[str]:
    """Read a comma-separated list of origins such as `https://app.example.com`; an empty text allows every page.

    Raises:
        ValueError: an entry is not scheme://host or scheme://host:port, or has a wildcard.
    """
    origins = {_normal(entry.strip()) for entry in text.split(",") if entry.strip()}
    if not all(_ORIGIN.fullmatch(origin) for origin in origins):
        raise ValueError("an origin is written https://host or https://host:port, without path or wildcard")
    return frozenset(origins)


def allows_origin(allowed: frozenset[str], origin: bytes | None) -> bool:
    """Whether a request with this `Origin` header may open a socket. `null`, as sandboxed pages send it, is a page too."""
    if origin is None or not allowed:
        return True
    return _normal(origin.decode("latin-1")) in allowed


def _normal(origin: str) -> str:
    origin = origin.lower()
    return origin.removesuffix(_DEFAULT_PORTS.get(origin.partition(":")[0], " "))
