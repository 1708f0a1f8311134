"""HTTP calls of commands to nodes and workers."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any, Final

from ops.cli.failure import CommandFailed

_TIMEOUT_S: Final = 5.0
_BODY_MAX_BYTES: Final = 64 * 1024 * 1024


def http_call(url: str, path: str, token: str = "", method: str = "GET", body: bytes | None = None) -> bytes:
    """The body of the answer.

    Args:
        url: the address of a node or worker; `ws` and `wss` stand for `http` and `https`.
        path: the path, with its query.
        token: sent as `Authorization: Bearer` unless it is empty.
        method: the HTTP method.
        body: a JSON document to send.

    Raises:
        CommandFailed: nothing answers, or the answer is an error; with its sentence.
    """
    base = f"http{url.removeprefix('ws')}" if url.startswith("ws") else url
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    if body is not None:
        headers["Content-Type"] = "application/json"
    request = urllib.request.Request(f"{base.rstrip('/')}{path}", headers=headers, method=method, data=body)  # noqa: S310 - checked by the option
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as answer:  # noqa: S310 - as above
            found: bytes = answer.read(_BODY_MAX_BYTES)
            return found
    except urllib.error.HTTPError as refused:
        raise CommandFailed(f"{base}{path.partition('?')[0]}: {refused.code} {_detail(refused.read())}") from refused
    except OSError as away:
        raise CommandFailed(f"nothing answers at {base}: start a hub, or see --url") from away


def _detail(body: bytes) -> str:
    """The sentence of a problem document."""
    try:
        told: Any = json.loads(body)
        return f"{told['code']} {told['title']}: {told['detail']}"
    except (ValueError, LookupError, TypeError):
        return "without a reason"
