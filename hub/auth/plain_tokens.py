"""Verifies the most common tokens quickly: HS256, with a header that names nothing but algorithm, type and key id. Pure.

Every other token, and every token that fails here, is left to PyJWT (`hub.auth.tokens`), which decides and words the
refusal. So this module may only accept what PyJWT accepts; a test compares the two. After an outage all clients
present their tokens at once, and PyJWT takes thirty times as long.
"""

from __future__ import annotations

import hmac
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from functools import lru_cache
from typing import Final

ALGORITHM: Final = "HS256"
_FIELDS: Final = frozenset({"alg", "typ", "kid"})
_HEADER_CHARS_MAX: Final = 512
_HEADERS_MAX: Final = 64
"""Maximum cached headers; an issuer has one for each of its keys."""


def signed_claims(token: str, secret: bytes, types: frozenset[str]) -> dict[str, object] | None:
    """Returns the claims of a token signed with `secret`; None if this module cannot tell.

    Args:
        token: three parts of base64url.
        secret: an HS256 key.
        types: accepted `typ` values, in lower case.
    """
    header, _, rest = token.partition(".")
    payload, _, signature = rest.partition(".")
    signed = f"{header}.{payload}"
    if "." in signature or len(header) > _HEADER_CHARS_MAX or not _is_plain(header, types):
        return None
    proof = urlsafe_b64encode(hmac.digest(secret, signed.encode(), "sha256")).rstrip(b"=")
    if not hmac.compare_digest(proof, signature.encode()):
        return None
    claims = _decoded(payload)
    return claims if isinstance(claims, dict) else None


@lru_cache(maxsize=_HEADERS_MAX)
def _is_plain(header: str, types: frozenset[str]) -> bool:
    fields = _decoded(header)
    return (
        isinstance(fields, dict)
        and fields.keys() <= _FIELDS
        and fields.get("alg") == ALGORITHM
        and isinstance(fields.get("kid", ""), str)
        and str(fields.get("typ", "JWT")).lower() in types
    )


def _decoded(part: str) -> object:
    try:
        return json.loads(urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except (ValueError, RecursionError):
        return None
