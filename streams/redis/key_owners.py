"""The owner of each key of a partition: one channel, or several channels of the partition together. Pure.

`streams.redis.repartition` needs it: a channel's keys move with the channel, shared ones are divided.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final, NamedTuple

from streams.channel import Channel, parse_channel
from streams.errors import MalformedChannel


class Shared(StrEnum):
    """The keys of a partition that several channels share, by the form of what they hold."""

    DIRECTORY = "channels"
    COMMAND_IDS = "idem"
    DEVICES = "node"
    RUNS = "runs"
    STATUS_ENDS = "status-ends"
    FOLLOWED = "presence-followed"
    GROUPS = "groups"
    WORK = "work"
    PARKED = "parked"
    LEASE = "lease"
    NODES = "nodes"
    BELL = "bell"
    CONFIG = "config"


OF_PATHS: Final = frozenset({Shared.RUNS, Shared.STATUS_ENDS, Shared.FOLLOWED})
"""Sorted sets whose members begin with a channel's path."""
_ALONE: Final = {one.value: one for one in Shared if one not in {Shared.COMMAND_IDS, Shared.DIRECTORY, Shared.DEVICES}}
"""Those of which a partition has one."""


class Owner(NamedTuple):
    """The owner of a key.

    Attributes:
        channel: the channel; None if the key is shared, or its record names the channel.
        shared: the kind of a shared key.
        tenant: the tenant of a shared key, "" if it has none.
        is_in_record: the hash of an upload: its field `channel` names the channel's path.
    """

    channel: Channel | None = None
    shared: Shared | None = None
    tenant: str = ""
    is_in_record: bool = False


def owner_of(name: str) -> Owner | None:
    """The owner of a key, given its name behind the partition's prefix; None if this version knows no such key."""
    match name.split(":"):
        case [alone]:
            found = Owner(shared=_ALONE[alone]) if alone in _ALONE else None
        case ["node", _node]:
            found = Owner(shared=Shared.DEVICES)
        case [tenant, "channels", _kind]:
            found = Owner(shared=Shared.DIRECTORY, tenant=tenant)
        case [tenant, "idem", _who, *_]:
            found = Owner(shared=Shared.COMMAND_IDS, tenant=tenant)
        case [_, "guard", "upload", _file]:
            found = Owner(is_in_record=True)
        case [tenant, "guard", _, kind, name_, *_] | [tenant, "lease", kind, name_, *_]:
            found = _of_channel(tenant, kind, name_)
        case [tenant, kind, name_, *_]:  # whatever follows the channel's path is the channel's
            found = _of_channel(tenant, kind, name_)
        case _:
            found = None
    return found


def _of_channel(tenant: str, kind: str, name: str) -> Owner | None:
    try:
        return Owner(parse_channel(tenant, f"{kind}:{name}"))
    except MalformedChannel:
        return None
