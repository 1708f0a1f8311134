"""The modules that `make wheel` compiles with mypyc, and the ones of this installation that are.

See ops/decisions/0016-compiled-wheels.md.

A module is listed for the share of a message's or a handshake's time that runs in it. Not listed are modules that mypyc refuses
(pydantic models, classes made of `str`, lone surrogates in a literal, async generators), those whose classes are weakly
referenced or have subclasses in modules that stay Python, and those that run too seldom to matter.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from types import MappingProxyType
from typing import Final

_ROOT: Final = Path(__file__).parents[1]

MODULES: Final[Mapping[str, str]] = MappingProxyType({
    "hub.auth.origins": "each handshake: whose headers are trusted",
    "hub.auth.permissions": "each command: may it be written here",
    "hub.auth.tokens": "each handshake: the claims",
    "hub.auth.verifier": "each handshake: the token",
    "hub.errors": "classes that compiled modules raise",
    "hub.handlers.channels": "each subscription",
    "hub.handlers.chat": "each chat message",
    "hub.handlers.connection": "each handshake",
    "hub.http.front": "each connection's first bytes",
    "hub.limits.admission": "each handshake",
    "hub.limits.new_channels": "each subscription",
    "hub.limits.rates": "each message: the user's pace",
    "hub.metrics": "each delivery is counted",
    "hub.node.access": "each command: the channel's lists",
    "hub.node.connection": "each message in and out",
    "hub.node.deadlines": "each handshake",
    "hub.node.fanout": "each event to each subscriber",
    "hub.node.hub": "each handshake",
    "hub.node.live_fields": "each state in a subscription",
    "hub.node.openings": "each subscription",
    "hub.node.pages": "each page of a replay",
    "hub.node.presence": "each subscription",
    "hub.node.recovery": "each page of a replay",
    "hub.node.sessions": "each handshake",
    "hub.node.states": "each state in a subscription",
    "hub.node.subscribing": "each subscription",
    "hub.node.turns": "each handshake and each page of a replay",
    "hub.protocol.commands": "each command",
    "hub.protocol.replies": "each answer",
    "hub.protocol.session": "each message: JSON to command",
    "hub.protocol.subscription": "each event to each subscriber: its place",
    "hub.websocket.codec": "each frame",
    "hub.websocket.deflate": "each compressed frame",
    "hub.websocket.protocol": "each read of a socket",
    "hub.websocket.upgrade": "each handshake",
    "streams.cursor": "each delivery: the time in an id",
    "streams.envelope": "each event out of the log",
    "streams.events.validation": "each payload",
    "streams.records.presence": "each subscription: the names of its keys",
    "streams.records.settings": "each subscription: the channel's lists",
    "streams.redis.append": "each event into the log",
    "streams.redis.calls": "each question to Redis",
    "streams.redis.cluster": "a class of it is derived from a compiled one",
    "streams.redis.deleted": "a class of it is derived from a compiled one",
    "streams.redis.keys": "each event: the names of its keys",
    "streams.redis.log": "each event: its server",
    "streams.redis.looks": "each subscription",
    "streams.redis.replay": "each event of a replay",
    "streams.redis.tail": "each event out of the log",
    "streams.redis.wire": "each read and write of Redis",
    "streams.times": "each handshake: times in the wire's form",
})  # fmt: skip # a table
"""Module → the reason it is compiled."""


def compiled_modules() -> list[str]:
    """The modules of `MODULES` that Python loads compiled here; an editable install has none."""
    return [name for name in MODULES if any(_file(name, suffix).exists() for suffix in EXTENSION_SUFFIXES)]


def build_kind() -> str:
    """`compiled`, `pure Python`, or the share that is compiled, which no build of ours leaves."""
    count = len(compiled_modules())
    if not count:
        return "pure Python"
    return "compiled" if count == len(MODULES) else f"{count} of {len(MODULES)} modules compiled"


def _file(name: str, suffix: str) -> Path:
    return _ROOT / (name.replace(".", "/") + suffix)
