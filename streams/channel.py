"""Channels: each belongs to a tenant, has a kind and a name, and holds one ordered log of events. Pure."""

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
"""Maximum number of parsed channels that are cached. A smaller cache costs a parse (2 µs) per message; a larger one costs about
500 bytes per channel, 1,100 with the longest names. Any client may name channels, so this bounds the memory that clients can
make a node use: 18 MB.
"""


class Kind(StrEnum):
    """The kinds of channel; each has its own state and its own events."""

    CONVERSATION = "conversation"
    TEAM = "team"
    DOCUMENT = "document"
    AGENT = "agent"
    USER = "user"
    SYSTEM = "system"


class Channel(str):
    """A channel, identified by tenant, kind and name. Channels of the same name in two tenants are different channels.

    Its text is its path, `tenant:kind:name`, the form used in keys and bell entries. No part may contain a colon, so the path
    is unambiguous. The hash of the text is computed once, because every event looks it up in several tables.

    Attributes:
        wire: the form on the wire, `kind:name`; the tenant comes from the token and is never sent.
    """

    __slots__ = ("kind", "name", "tenant", "wire")

    tenant: str
    kind: Kind
    name: str
    wire: str

    def __new__(cls, tenant: str, kind: Kind, name: str) -> Self:
        """Build a channel from parts that `parse_channel` has already checked."""
        made = super().__new__(cls, f"{tenant}:{kind.value}:{name}")
        made.tenant, made.kind, made.name, made.wire = tenant, kind, name, f"{kind.value}:{name}"
        return made

    @property
    def path(self) -> str:
        """The same text as a plain `str`."""
        return str(self)

    def __getnewargs__(self) -> tuple[str, Kind, str]:  # type: ignore[override]  # a text's own are one text
        """The constructor arguments; `copy` and `pickle` rebuild the channel from them."""
        return self.tenant, self.kind, self.name

    def partition_of(self, count: int) -> int:
        """The channel's partition, out of `count`: CRC16 (XMODEM, as in Redis Cluster) of the path, modulo `count`."""
        return crc_hqx(self.encode(), 0) % count


@lru_cache(maxsize=_INTERNED_MAX)
def parse_channel(tenant: str, wire: str) -> Channel:
    """Parse `kind:name` as a channel of `tenant`.

    Raises:
        MalformedChannel: the kind is unknown, or the name or tenant does not match the grammar.
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
    """Rebuild a channel from its `path`, the form in keys and bell entries."""
    tenant, _, wire = path.partition(":")
    return parse_channel(tenant, wire)
