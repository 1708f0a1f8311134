"""The token that a command uses: the given one, or one that the command signs."""

from __future__ import annotations

import dataclasses
import os
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from hub.auth.signing import sign
from hub.config import DEV_SECRET, Settings
from ops.cli.failure import EXIT_USAGE, CommandFailed
from ops.cli.running_hub import running_hub
from streams.channel import NAME_PATTERN, TENANT_PATTERN

ALL_GRANTS: Final[Mapping[str, tuple[str, ...]]] = {"*": ("*",)}
DAY_S: Final = 86_400.0


def token_of(given: str, user: str, tenant: str, data: Path) -> str:
    """Return `given`, or else sign a token with every grant."""
    return given or signed(settings_beside(data), user, tenant, ALL_GRANTS, DAY_S)


def settings_beside(data: Path) -> Settings:
    """The settings of this environment; if HUB_JWT_SECRET is unset, with the secret that the hub running on this folder made."""
    settings = Settings.from_env(os.environ)
    here = running_hub(data)
    if settings.jwt_secret is None and here is not None and here.made_secret:
        return dataclasses.replace(settings, jwt_secret=here.made_secret)
    return settings


def signed(
    settings: Settings,
    user: str,
    tenant: str,
    grants: Mapping[str, tuple[str, ...] | list[str]],
    ttl_s: float,
    *,
    scope: str | None = None,
    tenants: Sequence[str] = (),
) -> str:
    """Sign a token for `user` of `tenant`, with the audience and issuer that the settings require.

    Raises:
        CommandFailed: a name, a grant or the lifetime is invalid.
    """
    if not re.fullmatch(NAME_PATTERN, user):
        raise CommandFailed("--user must be 1 to 128 of A-Z a-z 0-9 _ . @ | + ~ -", EXIT_USAGE)
    if not re.fullmatch(TENANT_PATTERN, tenant):
        raise CommandFailed("--tenant must be 1 to 64 of A-Z a-z 0-9 _ -", EXIT_USAGE)
    secret = settings.jwt_secret or DEV_SECRET
    try:
        return sign(
            secret,
            user,
            tenant,
            grants,
            ttl_s,
            time.time(),
            audience=settings.jwt_audience,
            issuer=settings.jwt_issuer,
            scope=scope,
            tenants=tenants,
        )
    except ValueError as refused:
        raise CommandFailed(str(refused), EXIT_USAGE) from refused
