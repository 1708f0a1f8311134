"""What `POST /v1/revocations` asks for: who may ask, and for what. Pure."""

from __future__ import annotations

import json
import re
from typing import Final

from hub.auth.claims import JTI_CHARS_MAX, Principal
from hub.auth.permissions import EVERYTHING
from hub.auth.revocations import Revocation, revoke_subject, revoke_token
from hub.errors import HubError, Problem
from streams.channel import NAME_PATTERN

_NAME: Final = re.compile(NAME_PATTERN)
_BODY_BYTES_MAX: Final = 4_096


def read_revocation(body: bytes, asker: Principal, now: float, *, max_life_s: float | None = None) -> Revocation:
    """The revocation a body asks for, in the asker's own tenant.

    Args:
        body: as it came.
        asker: who sent it.
        now: unix seconds.
        max_life_s: the longest a token may live here, where that is configured: bounds how long the entry is kept.

    Raises:
        HubError: 4003 without `*` on `*`; 4005 unless the body is an object with `jti` or `sub`.
    """
    if not asker.grants.covers(EVERYTHING, EVERYTHING):
        raise HubError(4003, "revoking tokens needs a grant of * on *")
    field, value = _read(body)
    if field == "jti":
        until = None if max_life_s is None else now + max_life_s
        return revoke_token(asker.tenant, value, now, expires_at=until)
    return revoke_subject(asker.tenant, value, now, max_life_s=max_life_s)


def _read(body: bytes) -> tuple[str, str]:
    try:
        fields = json.loads(body) if len(body) <= _BODY_BYTES_MAX else None
    except (ValueError, RecursionError):
        fields = None
    if not isinstance(fields, dict) or len(fields) != 1 or not fields.keys() <= {"jti", "sub"}:
        raise HubError(4005, "send an object with either jti or sub", details=(Problem("body", "needs jti or sub"),))
    ((field, value),) = fields.items()
    is_jti = isinstance(value, str) and 1 <= len(value) <= JTI_CHARS_MAX and value.isprintable()
    is_name = isinstance(value, str) and _NAME.fullmatch(value) is not None
    if not (is_jti if field == "jti" else is_name):
        raise HubError(4005, f"{field} must be as in the token", details=(Problem(field, "is malformed"),))
    return field, value
