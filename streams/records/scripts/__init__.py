"""The Lua scripts of the records, one file each; the head of each file states its KEYS, ARGV, reply and what is atomic."""

from __future__ import annotations

from streams.redis.scripts import Script, read_script


def load(name: str) -> Script:
    """Read `<name>.lua` from this package."""
    return read_script(__package__, name)
