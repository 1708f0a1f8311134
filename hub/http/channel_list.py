"""Lists, over HTTP, the channels that the token may read.

docs/protocol.md#http describes it.
"""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Request

from hub.errors import HubError
from hub.http.requests import caller_of, limit
from hub.node.hub import Hub
from hub.protocol.commands import Caller
from hub.protocol.session import channel_of
from streams.archive.manifest import ArchiveMark
from streams.channel import Kind
from streams.records.directory import ChannelDirectory, ListedChannel
from streams.times import rfc3339

router = APIRouter()
LISTED_MAX: Final = 200
"""Maximum entries on a page: each channel costs one look at Redis."""
PER_READ: Final = 50
"""Channels looked at for the price of one read of the class `history`."""


@router.get("/v1/channels")
async def channels(
    request: Request,
    kind: Annotated[str | None, Query(description="only channels of this kind")] = None,
    prefix: Annotated[str, Query(max_length=128, description="how the name begins")] = "",
    after: Annotated[str, Query(max_length=160, description="the `next` of the page before")] = "",
    limit_: Annotated[int, Query(ge=1, le=LISTED_MAX, alias="limit", description="most channels of the page")] = 100,
) -> dict[str, Any]:
    """Lists the channels that the token may read, by kind and name. A page may be short; `next` is null on the last one."""
    hub, caller = await caller_of(request)
    limit(hub, caller, "history")
    kinds, name = _start(kind, after, caller)
    directory = ChannelDirectory(hub.log)
    listed: list[ListedChannel] = []
    for one in kinds:
        listed += await directory.channels(
            caller.principal.tenant, one, prefix=prefix, after=name, limit=limit_ - len(listed)
        )
        name = ""
        if len(listed) == limit_:
            break
    hub.charge(caller.principal, "history", len(listed) / PER_READ)
    shown = await asyncio.gather(*(_shown(hub, caller, one) for one in listed))
    following = listed[-1].channel.wire if len(listed) == limit_ else None
    return {"channels": [one for one in shown if one is not None], "next": following}


def _start(kind: str | None, after: str, caller: Caller) -> tuple[list[Kind], str]:
    """Returns the kinds to list, and the name after which the first of them starts."""
    if kind is not None and kind not in set(Kind):
        raise HubError(4005, "kind must be one of " + ", ".join(Kind))
    kinds = list(Kind) if kind is None else [Kind(kind)]
    if not after:
        return kinds, ""
    last = channel_of(caller.principal.tenant, after)
    if last.kind not in kinds:
        raise HubError(4005, "after must be `next` from an earlier page of the same kind")
    return kinds[kinds.index(last.kind) :], last.name


async def _shown(hub: Hub, caller: Caller, listed: ListedChannel) -> dict[str, Any] | None:
    channel = listed.channel
    if not caller.principal.grants.allows(channel.wire, "read"):
        return None
    try:
        await hub.access.require(channel, caller.principal, "read")
    except HubError:
        return None
    look = await hub.log.look(channel)
    mark = ArchiveMark.parse(look.archive)
    return {
        "channel": channel.wire,
        "head": {"id": look.head.id, "seq": look.head.seq},
        "first": look.floor.seq + 1,
        "last_activity": rfc3339(int(look.head.id.partition("-")[0]) or listed.active_ms),
        "archived_to": mark.upto.seq if mark.upto.seq > mark.removed.seq else None,
    }
