"""Compares the keys documented in docs/redis-keys.md with those in a Redis."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from redis import Redis

PAGE: Final = Path(__file__).parents[2] / "docs" / "redis-keys.md"
_ROW: Final = re.compile(r"^\| `([^`]+)` \| ([a-z ]+) \|", re.MULTILINE)
_PLACE: Final = re.compile(r"<(\w+)>")
_PLACES: Final = {"kind": "(?:conversation|team|document|agent|user|system)", "command": ".+", "key": ".+", "job": ".+"}
"""Regular expressions for placeholders that may contain colons or have few values; names, IDs and tenants contain no colons."""
PARTITION: Final = "{p01-71m}"


def documented_keys() -> dict[str, str]:
    """The documented keys: pattern → type, such as `hub:{p01-71m}:<tenant>:<kind>:<name>`, a stream."""
    return dict(_ROW.findall(PAGE.read_text(encoding="utf-8")))


def regex_of(pattern: str) -> re.Pattern[str]:
    """Convert a documented pattern to a regular expression; the page's example partition matches any partition."""
    escaped = re.escape(pattern.replace(PARTITION, "\0"))
    return re.compile(_PLACE.sub(lambda at: _PLACES.get(at[1], "[^:]+"), escaped).replace("\0", r"\{p\d+(-\w+)?\}"))


def keys_in(redis_url: str) -> dict[str, str]:
    """The keys in a Redis, with their types."""
    with Redis.from_url(redis_url, decode_responses=True) as redis:
        types = {key: redis.type(key) for key in redis.scan_iter(count=1000)}
    return {key: "sorted set" if type_ == "zset" else type_ for key, type_ in types.items() if type_ != "none"}


def unseen(keys: Iterable[str]) -> set[str]:
    """The documented patterns that match none of the keys."""
    names = list(keys)
    return {pattern for pattern in documented_keys() if not any(map(regex_of(pattern).fullmatch, names))}


def undocumented(keys: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """The keys, with their types, that match no documented pattern."""
    rows = [(regex_of(pattern), type_) for pattern, type_ in documented_keys().items()]
    return [(key, type_) for key, type_ in keys if not any(t == type_ and r.fullmatch(key) for r, t in rows)]
