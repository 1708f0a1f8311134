"""A channel: the place an event belongs to, named by tenant, kind and name. Pure."""

from __future__ import annotations

import re
from binascii import crc_hqx
from enum import StrEnum
from functools import lru_cache
from typing import Final, Self

from streams.errors import MalformedChannel

NAME_PATTERN: Final = r"[A-Za-z0-9_.@|+~-]{1,128}"
TENANT_PATTERN: Final = r"[A-Za-z0-9_-]{1,64}"
_NAME: Final = re.compile(NAME_PATTERN)
_TENANT: Final = re.compile(TENANT_PATTERN)
_INTERNED_MAX: Final = 16_384
"""Channels kept parsed. Smaller costs a parse (2 µs) per frame, larger costs about 500 bytes each, 1,100 with the longest
names: anybody may name channels, so this is what they can make a node keep, 18 MB."""


class Kind(StrEnum):
    """The kinds of channel; each has its own state and its own events."""

    CONVERSATION = "conversation"
    TEAM = "team"
    DOCUMENT = "document"
    AGENT = "agent"
    USER = "user"


class Channel(str):
    """Tenant, kind and name. Two tenants' channels of one name are two channels.

    As text it is its path, `tenant:kind:name`, the form in keys and bell entries. No part may hold a colon, so that is
    unambiguous. The text's hash is computed once, because every event looks it up in several tables.

    Attributes:
        wire: the form on the wire, `kind:name`; the tenant comes from the token and is never written there.
        path: itself, as plain text.
    """

    __slots__ = ("kind", "name", "path", "tenant", "wire")

    tenant: str
    kind: Kind
    name: str
    wire: str
    path: str

    def __new__(cls, tenant: str, kind: Kind, name: str) -> Self:
        """Build a channel from parts that `parse_channel` has checked."""
        path = f"{tenant}:{kind.value}:{name}"
        made = super().__new__(cls, path)
        made.tenant, made.kind, made.name = tenant, kind, name
        made.wire, made.path = f"{kind.value}:{name}", path
        return made

    def __getnewargs__(self) -> tuple[str, Kind, str]:  # type: ignore[override]  # a text's own are one text
        """The arguments that rebuild it, for copies."""
        return self.tenant, self.kind, self.name

    def partition_of(self, count: int) -> int:
        """The partition of `count` this channel lives in: CRC16 (XMODEM, as Redis Cluster uses) of the path."""
        return crc_hqx(self.encode(), 0) % count


@lru_cache(maxsize=_INTERNED_MAX)
def parse_channel(tenant: str, wire: str) -> Channel:
    """Read `kind:name` as a channel of `tenant`.

    Raises:
        MalformedChannel: unknown kind, or a name or tenant outside the grammar.
    """
    kind, _, name = wire.partition(":")
    if kind not in Kind._value2member_map_:
        raise MalformedChannel("the channel's kind must be one of " + ", ".join(Kind))
    if not _NAME.fullmatch(name):
        raise MalformedChannel("a channel's name is 1 to 128 of A-Z a-z 0-9 _ . @ | + ~ -")
    if not _TENANT.fullmatch(tenant):
        raise MalformedChannel("a tenant is 1 to 64 of A-Z a-z 0-9 _ -")
    return Channel(tenant, Kind(kind), name)


def channel_from_path(path: str) -> Channel:
    """The channel a `path` names, as keys and bell entries write it."""
    tenant, _, wire = path.partition(":")
    return parse_channel(tenant, wire)
