"""Declares settings and parses their values; `hub.config` lists them. Pure.

A reader parses a variable's text, and raises ValueError if it does not match `allowed`. The error never repeats the
text, which may be a secret. Used instead of pydantic-settings: ops/decisions/0009-settings.md.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_network
from types import MappingProxyType
from typing import Any, Final, Generic, NamedTuple, TypeVar, cast
from urllib.parse import urlsplit

from hub.auth.origins import ANY_ORIGIN, Network, parse_origins
from hub.limits.rates import DEFAULT_RATES, UNMETERED
from streams.archive.retention import ObjectLock, RetentionPolicy, parse_retention
from streams.channel import NAME_PATTERN, Kind
from streams.envelope import Durability
from streams.redis.places import Form, parse_place
from streams.sealing.sealed import SEALABLE, SealRule, parse_seal_rule

T = TypeVar("T")
METADATA_KEY: Final = "setting"
_RATE_NAMES: Final = (*DEFAULT_RATES, *UNMETERED)
_SIZE: Final = re.compile(r"(\d{1,12})\s*(B|KB|MB)?", re.IGNORECASE)
_UNIT_BYTES: Final = {"": 1, "B": 1, "KB": 1_024, "MB": 1_048_576}
_OBJECT: Final = re.compile(rf"({NAME_PATTERN})=([A-Za-z_][\w.]*):([A-Za-z_][\w.]*)")
_HOST: Final = re.compile(r"[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63}){0,8}")
_DATABASE: Final = re.compile(r"/\d{1,5}/?")
_RATE: Final = re.compile(r"([a-z]+)=(\d{1,9}(?:\.\d{1,6})?)/(\d{1,9})")


class SettingProblem(NamedTuple):
    """A variable, and the requirement that its value does not meet."""

    env: str
    must: str


class SettingRefused(ValueError):
    """All invalid settings at once; the text has one line for each."""

    def __init__(self, problems: tuple[SettingProblem, ...]) -> None:
        super().__init__("\n".join(f"{env} must be {must}" for env, must in problems))
        self.problems = problems


class Reader(NamedTuple, Generic[T]):
    """Parses a variable's text.

    Attributes:
        read: raises ValueError for a text that is not allowed.
        allowed: completes the sentence "HUB_X must be …".
    """

    read: Callable[[str], T]
    allowed: str


@dataclass(frozen=True, slots=True)
class Setting:
    """The declaration of one setting: the source of the table in the documentation, of `--help`, and of error texts.

    Attributes:
        shown_default: the default as an operator would write it, or a description of what applies if unset.
    """

    env: str
    reader: Reader[Any]
    description: str
    shown_default: str


def setting(env: str, reader: Reader[T], description: str, *, default: T, shown: str, is_secret: bool = False) -> T:
    """Declares a field of a settings dataclass; a secret is left out of its repr."""
    declared = Setting(env, reader, description, shown)
    made: T = field(default_factory=lambda: default, repr=not is_secret, metadata={METADATA_KEY: declared})
    return made


class NamedObject(NamedTuple):
    """One entry of HUB_AGENTS, HUB_HANDLERS or HUB_PROJECTIONS: a name and the import path of its object."""

    name: str
    module: str
    attribute: str

    @property
    def path(self) -> str:
        """The import path, `module:object`."""
        return f"{self.module}:{self.attribute}"


class RateOverride(NamedTuple):
    """One entry of HUB_RATE_LIMITS: tokens per second, and the burst."""

    rate_per_s: float
    burst: int


def _refuse(text: str) -> ValueError:
    return ValueError(f"{len(text)} characters that are not allowed")


def whole(lowest: int, highest: int) -> Reader[int]:
    """Parses a whole number within inclusive bounds."""

    def read(text: str) -> int:
        if not (text.isascii() and text.isdecimal()) or not lowest <= int(text) <= highest:
            raise _refuse(text)
        return int(text)

    return Reader(read, f"a whole number from {lowest} to {highest}")


def seconds(lowest: float, highest: float) -> Reader[float]:
    """Parses a number of seconds within bounds; fractions are allowed."""

    def read(text: str) -> float:
        value = float(text)
        if not lowest <= value <= highest:
            raise _refuse(text)
        return value

    return Reader(read, f"a number of seconds from {lowest:g} to {highest:g}")


def size_bytes(lowest: int, highest: int) -> Reader[int]:
    """Parses a size with the unit B, KB or MB (1MB is 1,048,576 bytes); without a unit, in bytes."""

    def read(text: str) -> int:
        found = _SIZE.fullmatch(text)
        value = int(found[1]) * _UNIT_BYTES[(found[2] or "").upper()] if found else -1
        if not lowest <= value <= highest:
            raise _refuse(text)
        return value

    return Reader(read, f"a size such as 512KB or 1MB (units B, KB, MB), from {lowest}B to {highest // 1_048_576}MB")


def url(*schemes: str) -> Reader[str | None]:
    """Parses a URL with one of these schemes, a host and optionally a valid port."""

    def read(text: str) -> str:
        parts = urlsplit(text)
        if (
            parts.scheme not in schemes or not parts.hostname or parts.port == 0
        ):  # reading `port` raises ValueError if it is not a number
            raise _refuse(text)
        return text

    return Reader(read, "a URL that begins with " + " or ".join(f"{scheme}://" for scheme in schemes))


REDIS_URLS: Final = (
    "a URL such as redis://host:6379/0, rediss://host:6379/0, unix:///path/to/socket?db=0, "
    "redis+sentinel://host:26379,host:26379/name or redis+cluster://host:6379,host:6379"
)


def redis_url() -> Reader[str | None]:
    """Parses the URL of a Redis; the client that connects interprets the options in its query."""
    of_server = url("redis", "rediss")

    def read(text: str) -> str | None:
        if parse_place(text).form is not Form.ONE:
            return text
        parts = urlsplit(text)
        if parts.scheme == "unix" and parts.path:
            return text
        if parts.path.strip("/") and not _DATABASE.fullmatch(parts.path):
            raise _refuse(text)
        return of_server.read(text)

    return Reader(read, REDIS_URLS)


def words(allowed: str, pattern: str = r"[^\s\x00](.*[^\s\x00])?") -> Reader[str]:
    """Accepts a text that matches a pattern completely."""
    compiled = re.compile(pattern, re.DOTALL)

    def read(text: str) -> str:
        if not compiled.fullmatch(text):
            raise _refuse(text)
        return text

    return Reader(read, allowed)


def optional_words(allowed: str, pattern: str = r"[^\s\x00](.*[^\s\x00])?") -> Reader[str | None]:
    """Like `words`, for a setting that may be absent."""
    return cast("Reader[str | None]", words(allowed, pattern))


def optional(reader: Reader[T]) -> Reader[T | None]:
    """Returns the reader for a setting that may be absent."""
    return cast("Reader[T | None]", reader)


def _read_origins(text: str) -> frozenset[str]:
    return frozenset({ANY_ORIGIN}) if text == ANY_ORIGIN else parse_origins(text)


def _entries(text: str) -> list[str]:
    return [entry.strip() for entry in text.split(",") if entry.strip()]


def _read_objects(text: str) -> tuple[NamedObject, ...]:
    found = [_OBJECT.fullmatch(entry) for entry in _entries(text)]
    specs = [NamedObject(*match.groups()) for match in found if match]
    if len(specs) != len(found) or len({spec.name for spec in specs}) != len(specs):
        raise _refuse(text)
    return tuple(specs)


def _read_rates(text: str) -> Mapping[str, RateOverride] | None:
    if text == "off":
        return None
    found = [_RATE.fullmatch(entry) for entry in _entries(text)]
    rates = {match[1]: RateOverride(float(match[2]), int(match[3])) for match in found if match}
    is_sound = all(name in _RATE_NAMES and rate.rate_per_s > 0 and rate.burst >= 1 for name, rate in rates.items())
    if len(rates) != len(found) or not is_sound:
        raise _refuse(text)
    return MappingProxyType(rates)


def every_kind(level: Durability) -> Mapping[Kind, Durability]:
    """Returns the same durability for every kind of channel."""
    return MappingProxyType(dict.fromkeys(Kind, level))


def _read_durability(text: str) -> Mapping[Kind, Durability]:
    levels = dict(every_kind(Durability.MEMORY))
    for entry in _entries(text):
        kind, is_one_kind, level = entry.rpartition("=")
        for chosen in [Kind(kind)] if is_one_kind else Kind:
            levels[chosen] = Durability(level)
    return MappingProxyType(levels)


OBJECTS: Final = Reader(_read_objects, "name=module:object, several separated by commas, each name once")


def _read_networks(text: str) -> tuple[Network, ...]:
    return () if text == "none" else tuple(ip_network(entry) for entry in _entries(text))


def _read_hosts(text: str) -> frozenset[str]:
    hosts = frozenset(entry.lower() for entry in _entries(text))
    if not all(_HOST.fullmatch(host) for host in hosts):
        raise _refuse(text)
    return hosts


def _read_share(text: str) -> float:
    value = float({"off": "0", "on": "1"}.get(text, text))
    if not 0.0 <= value <= 1.0:
        raise _refuse(text)
    return value


SHARE: Final = Reader(_read_share, "off, on, or a share from 0 to 1 such as 0.01")
PATHS: Final = Reader(lambda text: tuple(_entries(text)), "paths of files, separated by commas")
NETWORKS: Final = Reader(_read_networks, "`none`, or addresses and networks such as 10.0.0.0/8, separated by commas")
HOSTS: Final = Reader(_read_hosts, "host names without port, such as hub.example.com, separated by commas")
ORIGINS: Final = Reader(_read_origins, "`*`, or https://host or https://host:port, several separated by commas")
RATES: Final = Reader(
    _read_rates, "off, or class=rate/burst, several separated by commas; classes are " + " ".join(_RATE_NAMES)
)
DURABILITIES: Final = Reader(
    _read_durability,
    f"one of {' '.join(Durability)}, or kind=level, several separated by commas; kinds are {' '.join(Kind)}",
)


def _read_lock(text: str) -> ObjectLock:
    mode, _, days = text.partition(":")
    if mode not in {"governance", "compliance"} or re.fullmatch(r"[1-9]\d{0,4}d", days) is None:
        raise ValueError(text)
    return ObjectLock(mode.upper(), int(days[:-1]))


ARCHIVE_LOCK: Final[Reader[ObjectLock | None]] = Reader(
    _read_lock, "governance or compliance, and a number of days, such as governance:365d"
)
RETENTION: Final[Reader[RetentionPolicy | None]] = Reader(
    parse_retention,
    "scope=bounds, several separated by semicolons; a scope is *, kind, tenant/*, tenant/kind or tenant/kind:name; bounds are "
    "`forever`, or of hot_age:30d hot_count:1000 hot_bytes:64MB total_age:365d hold; a total_age is above its hot_age",
)
SEALED: Final[Reader[SealRule | None]] = Reader(
    parse_seal_rule,
    "tenant:kind, several separated by commas, with * for every tenant; the kinds are "
    + " ".join(sorted(SEALABLE))
    + ", because a document whose changes cannot all be read is lost",
)
