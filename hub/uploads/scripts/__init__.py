"""The Lua scripts of uploads, one file each; the head of a file states its KEYS, ARGV, reply and what is atomic."""

from __future__ import annotations

from hashlib import sha1
from importlib.resources import files

from streams.redis.scripts import Script


def load(name: str) -> Script:
    """Read `<name>.lua` from this package."""
    text = files(__package__).joinpath(f"{name}.lua").read_bytes()
    return Script(text, sha1(text, usedforsecurity=False).hexdigest().encode())
