"""The Lua scripts of the log, one file each; the head of each file states its KEYS, ARGV, reply and what is atomic."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha1
from importlib.resources import files


@dataclass(frozen=True, slots=True)
class Script:
    """A script's text and its SHA-1 digest, by which EVALSHA calls it. Log lines name it."""

    text: bytes
    digest: bytes
    name: str


def load(name: str) -> Script:
    """Read `<name>.lua` from this package."""
    return read_script(__package__, name)


def read_script(package: str, name: str) -> Script:
    """Read `<name>.lua` from a package of scripts."""
    text = files(package).joinpath(f"{name}.lua").read_bytes()
    return Script(text, sha1(text, usedforsecurity=False).hexdigest().encode(), name)
