"""Tokens for a run's clients (HS256, RFC 7515 and 7519), signed without the hub's code."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from typing import Final

KINDS: Final = ("conversation", "team", "document", "agent", "user")


def sign(secret: str, user: str, tenant: str, token_id: str, ttl_s: float) -> str:
    """A token that may do everything in its tenant."""
    now = time.time()
    claims = {
        "sub": user, "tenant": tenant, "aud": "hub", "iat": int(now), "exp": int(now + ttl_s), "jti": token_id,
        "grants": {**{f"{kind}:*": ["*"] for kind in KINDS}, "*": ["*"]},
    }  # fmt: skip
    signed = f"{_part({'alg': 'HS256', 'typ': 'JWT'})}.{_part(claims)}"
    mac = hmac.digest(secret.encode(), signed.encode(), hashlib.sha256)
    return f"{signed}.{_base64(mac)}"


def _part(value: object) -> str:
    return _base64(json.dumps(value, separators=(",", ":")).encode())


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
