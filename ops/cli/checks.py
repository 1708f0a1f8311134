"""The checks of settings, build and node by `hub doctor`: read-only, each with the operator's next step."""

from __future__ import annotations

import re
import resource
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from hub.auth.keys import from_pem, from_secret, parse_jwks_url
from hub.config import OWN_KEY, Settings, declarations
from hub.readers import SettingRefused
from ops.cli.findings import Finding, Level
from ops.cli.running_hub import HubAddress
from ops.compiled import MODULES, build_kind, compiled_modules

_ALSO_READ: Final = frozenset({"HUB_URL", "HUB_TOKEN"})
"""Variables that commands read and nodes do not."""
_SPARE_FILES: Final = 200
"""File descriptors that a node needs besides its sockets, for Redis, listeners and files."""
_NODE_TIMEOUT_S: Final = 2.0

_READ_KEY: Final[Mapping[str, Callable[[str], object]]] = {
    "HUB_JWKS_URL": parse_jwks_url,
    "HUB_JWT_PUBLIC_KEY": from_pem,
    "HUB_JWT_SECRET": from_secret,
}


def check_settings(env: Mapping[str, str]) -> Iterator[Finding]:
    """Check the environment: invalid values, unknown names, keys for tokens."""
    try:
        settings = Settings.from_env(env)
    except SettingRefused as refused:
        yield from (
            Finding(Level.FAIL, "settings", f"{problem.env} must be {problem.must}") for problem in refused.problems
        )
        return
    known = {declared.env for declared in declarations().values()} | _ALSO_READ
    for name in sorted(env):
        if re.match(r"(HUB|WEBSOCKET|S3)_", name) and name not in known:
            yield Finding(Level.WARN, "settings", f"{name} is not a setting of the hub")
    if not settings.has_token_key:
        yield Finding(
            Level.WARN, "tokens", "no HUB_JWT_SECRET, HUB_JWT_PUBLIC_KEY or HUB_JWKS_URL: only `hub dev` will start"
        )
    elif (problem := key_problem(settings)) is not None:
        yield Finding(Level.FAIL, "tokens", problem)
    elif settings.has_dev_secret:
        yield Finding(Level.FAIL, "tokens", f"HUB_JWT_SECRET must be {OWN_KEY}")
    else:
        yield Finding(Level.OK, "tokens", "a key to verify them is set")
    yield check_files(settings.max_connections)


def key_problem(settings: Settings) -> str | None:
    """The reason why the configured key cannot verify tokens, with its variable; None if it can."""
    name, text = next(
        (name, text)
        for name, text in (
            ("HUB_JWKS_URL", settings.jwks_url),
            ("HUB_JWT_PUBLIC_KEY", settings.jwt_public_key),
            ("HUB_JWT_SECRET", settings.jwt_secret or ""),
        )
        if text is not None
    )
    try:
        _READ_KEY[name](text)
    except ValueError as refused:
        return str(refused) if name in str(refused) else f"{name}: {refused}"
    return None


def check_build() -> Finding:
    """The code: compiled, as the wheels of `make wheel` are, or pure Python."""
    kind, count = build_kind(), len(compiled_modules())
    if 0 < count < len(MODULES):
        return Finding(Level.WARN, "build", f"{kind}: install the wheel again")
    return Finding(Level.OK, "build", kind)


def check_files(max_connections: int) -> Finding:
    """Compare the limit of open files with the number of sockets that the settings allow."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= max_connections + _SPARE_FILES:
        return Finding(Level.OK, "files", f"up to {soft} files may be open")
    return Finding(
        Level.WARN,
        "files",
        f"only {soft} files may be open, but WEBSOCKET_MAX_CONNECTIONS is {max_connections}: raise `ulimit -n`",
    )


def check_node(address: HubAddress) -> Finding:
    """Ask the node at the address whether it is ready. If none runs there, the finding is only a warning."""
    url = address.url
    try:
        with urllib.request.urlopen(f"{url}/readyz", timeout=_NODE_TIMEOUT_S) as answer:  # noqa: S310 - the operator's URL
            return Finding(Level.OK, "node", f"{url} is ready ({answer.status})")
    except urllib.error.HTTPError as refused:
        return Finding(
            Level.FAIL, "node", f"{url} is not ready: {refused.code} {refused.read(500).decode(errors='replace')}"
        )
    except (OSError, ValueError):
        return Finding(Level.WARN, "node", f"nothing answers at {url} (the address is {address.origin})")
