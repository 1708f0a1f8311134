"""The checks of `hub doctor`: read-only, each with the operator's next step."""

from __future__ import annotations

import re
import resource
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from enum import StrEnum
from typing import Final, NamedTuple

from hub.auth.keys import from_pem, from_secret, parse_jwks_url
from hub.config import OWN_KEY, Settings, declarations
from hub.readers import SettingRefused
from ops.cli.running_hub import HubAddress
from ops.compiled import MODULES, build_kind, compiled_modules
from streams.errors import ConfigurationRefused, StreamsError
from streams.redis.calls import Calls
from streams.redis.durability import DurabilityPolicy, ServerFacts
from streams.redis.keys import Keys
from streams.redis.server_check import check_facts, kept_keys, read_facts

OF_SETTINGS: Final = frozenset({"settings", "partitions", "durability"})
"""Findings that changing a setting would fix; the others concern the server."""
AWAY: Final = "redis away"
"""The finding that Redis is unreachable, which may pass."""
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


class Level(StrEnum):
    """The severity of a finding. With a `fail` the command exits with 1."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


class Finding(NamedTuple):
    """One line of the report."""

    level: Level
    what: str
    text: str


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


async def check_redis(url: str, settings: Settings | None) -> list[Finding]:
    """Check the server: reachable, supported version and configuration, partitions and durability as in the settings."""
    try:
        calls = Calls.at(url, "hub-doctor")
        try:
            facts, keys = await read_facts(calls), await kept_keys(calls)
        finally:
            calls.close()
    except ConfigurationRefused as refused:
        return [Finding(Level.FAIL, "settings", str(refused))]
    except StreamsError as away:
        return [Finding(Level.FAIL, AWAY, str(away))]
    return [*_of_facts(facts), *(_of_settings(facts, keys, settings) if settings else ())]


def _of_facts(facts: ServerFacts) -> Iterator[Finding]:
    version = ".".join(map(str, facts.version))
    try:
        check_facts(facts)
    except ConfigurationRefused as refused:
        yield Finding(Level.FAIL, "redis", str(refused))
    else:
        yield Finding(Level.OK, "redis", f"{version}, {facts.maxmemory_policy}, {facts.replicas} replicas")


def _of_settings(facts: ServerFacts, keys: Keys | None, settings: Settings) -> Iterator[Finding]:
    if keys is not None and keys.partitions != settings.partitions:
        yield Finding(
            Level.FAIL, "partitions", f"HUB_PARTITIONS must be {keys.partitions}: the log was started with that number"
        )
    else:
        yield Finding(Level.OK, "partitions", str(settings.partitions))
    try:
        policy = DurabilityPolicy(settings.durability, facts)
    except ConfigurationRefused as refused:
        yield Finding(Level.FAIL, "durability", str(refused))
    else:
        levels = {kind: policy.level_of(kind) for kind in settings.durability}
        yield Finding(Level.OK, "durability", ", ".join(f"{kind}={level}" for kind, level in levels.items()))


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
