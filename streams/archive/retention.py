"""Retention: how long events stay in Redis and in the archive, by channel. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from streams.channel import NAME_PATTERN, TENANT_PATTERN, Channel, Kind

_KINDS: Final = "|".join(Kind)
_SCOPE: Final = re.compile(
    rf"\*|{_KINDS}|{TENANT_PATTERN}/(?:\*|{_KINDS})|{TENANT_PATTERN}/(?:{_KINDS}):{NAME_PATTERN}"
)
_AGE: Final = re.compile(r"(\d{1,6})(s|m|h|d)")
_SIZE: Final = re.compile(r"(\d{1,9})(KB|MB|GB)")
_UNIT_MS: Final = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_UNIT_BYTES: Final = {"KB": 1_024, "MB": 1_048_576, "GB": 1_073_741_824}
SLACK: Final = 0.1
"""A bound may be exceeded by this part before events are archived: it makes segments of many events."""


@dataclass(frozen=True, slots=True)
class Retention:
    """The bounds of a channel. None is no bound: with none for Redis, events stay there for ever.

    Attributes:
        hot_age_ms, hot_count, hot_bytes: the events that stay in Redis, by age, number, and memory of the stream.
        total_age_ms: the age at which a segment is removed from the archive.
        is_held: nothing is removed from the archive, whatever the age (legal hold).
    """

    hot_age_ms: int | None = None
    hot_count: int | None = None
    hot_bytes: int | None = None
    total_age_ms: int | None = None
    is_held: bool = False

    @property
    def moves(self) -> bool:
        """True if events are moved from Redis to the archive at all."""
        return (self.hot_age_ms, self.hot_count, self.hot_bytes) != (None, None, None)


@dataclass(frozen=True, slots=True)
class RetentionPolicy:
    """The bounds by scope; the most specific scope of a channel decides alone."""

    rules: Mapping[str, Retention]

    def of(self, channel: Channel) -> Retention:
        """The bounds of a channel: its own, or those of its tenant's kind, its tenant, its kind, or all channels."""
        tenant, kind = channel.tenant, channel.kind.value
        for scope in (f"{tenant}/{channel.wire}", f"{tenant}/{kind}", f"{tenant}/*", kind, "*"):
            if scope in self.rules:
                return self.rules[scope]
        return _FOREVER


_FOREVER: Final = Retention()


def parse_retention(text: str) -> RetentionPolicy:
    """Read `scope=bound bound;scope=…`, such as `*=hot_age:30d hot_count:100000;document=forever;acme/team:9=hot_age:1d hold`.

    Raises:
        ValueError: it has another form, names a scope twice, or a total age below the hot age.
    """
    rules: dict[str, Retention] = {}
    for entry in filter(None, map(str.strip, text.split(";"))):
        scope, _, bounds = entry.partition("=")
        if not _SCOPE.fullmatch(scope.strip()) or scope.strip() in rules:
            raise ValueError(f"no scope, or named twice: {scope}")
        rules[scope.strip()] = _read_bounds(bounds.split())
    if not rules:
        raise ValueError("no rule")
    return RetentionPolicy(rules)


def _read_bounds(bounds: list[str]) -> Retention:
    if (
        not bounds
        or ("forever" in bounds and len(bounds) > 1)
        or len({one.partition(":")[0] for one in bounds}) != len(bounds)
    ):
        raise ValueError("no bounds, or one twice")
    found: dict[str, int | bool] = {}
    for bound in bounds:
        name, _, value = bound.partition(":")
        if bound == "hold":
            found["is_held"] = True
        elif name in {"hot_age", "total_age"}:
            found[f"{name}_ms"] = _read_unit(_AGE, _UNIT_MS, value)
        elif name == "hot_bytes":
            found["hot_bytes"] = _read_unit(_SIZE, _UNIT_BYTES, value)
        elif name == "hot_count" and value.isascii() and value.isdecimal() and 0 < int(value) < 10**12:
            found["hot_count"] = int(value)
        elif bound != "forever":
            raise ValueError(bound)
    made = Retention(**found)  # type: ignore[arg-type]  # the names and types are those of the fields
    if made.total_age_ms is not None and (made.hot_age_ms is None or made.total_age_ms <= made.hot_age_ms):
        raise ValueError("a total age needs a hot age below it")
    return made


def _read_unit(pattern: re.Pattern[str], units: Mapping[str, int], value: str) -> int:
    found = pattern.fullmatch(value)
    if found is None or not int(found[1]):
        raise ValueError(value)
    return int(found[1]) * units[found[2]]


class ObjectLock(NamedTuple):
    """A retention by S3 Object Lock: its mode, `GOVERNANCE` or `COMPLIANCE`, and its length in days from the upload."""

    mode: str
    days: int


@dataclass(frozen=True, slots=True)
class HotFacts:
    """A channel's stream as retention sees it.

    Attributes:
        head_seq, floor_seq: its newest event, and the newest one that was trimmed.
        oldest_ms: the time of its oldest event.
        memory_bytes: memory of the stream; 0 if unknown.
    """

    head_seq: int
    floor_seq: int
    oldest_ms: int
    memory_bytes: int


def trim_to(retention: Retention, facts: HotFacts, now_ms: int, *, is_tight: bool) -> tuple[int, int | None]:
    """The seq and the time (milliseconds) up to which events are due to leave Redis; 0 and None where a bound is kept.

    The larger one counts. With slack, except if memory `is_tight`. The newest event always stays.
    """
    slack = 1 if is_tight else 1 + SLACK
    kept = facts.head_seq - facts.floor_seq
    seq, until_ms = 0, None
    if retention.hot_count is not None and kept > max(retention.hot_count * slack, 1):
        seq = facts.head_seq - retention.hot_count
    if retention.hot_bytes is not None and facts.memory_bytes > retention.hot_bytes * slack:
        seq = max(seq, facts.floor_seq + int(kept * (1 - retention.hot_bytes / facts.memory_bytes)))
    if retention.hot_age_ms is not None and now_ms - facts.oldest_ms > retention.hot_age_ms * slack:
        until_ms = now_ms - retention.hot_age_ms
    return min(seq, facts.head_seq - 1), until_ms
