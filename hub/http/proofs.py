"""Audits and proofs over HTTP: of channels, events and checkpoints, and the trees behind them in C2SP's layout tlog-tiles.

docs/protocol.md#leaves-and-proofs describes them. The answers are checked offline with `hub audit check`.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Final

from fastapi import APIRouter, Path, Query, Request, Response

from hub.errors import HubError
from hub.http.requests import ChannelPath, caller_of, inspector_of, limit, readable_channel
from streams.archive.heads import HeadLog
from streams.archive.merkle import TILE_WIDTH, entries_path, pack_entries, tile_path
from streams.archive.objects import ChannelFolder, TreeFolder
from streams.cursor import id_order
from streams.errors import ChannelUnverified, MalformedCursor
from streams.redis.replay import PAGE_EVENTS

router = APIRouter()
BUNDLES_MAX: Final = 64
"""Maximum number of bundles of 256 heads that one proof searches from the time of the event on."""
BUNDLES_PER_READ: Final = 4
"""Bundles searched for the price of one read of the class `history`."""
PROOF_READS: Final = 4
"""Price of a proof beyond the first read: it takes some forty objects of the store."""
AUDIT_READS: Final = 9
"""Price of an audit beyond the first read, also of one that is refused; each page of events costs one more."""
_TILE: Final = re.compile(r"(\d{1,2}|entries)/((?:x\d{3}/){0,3}\d{3})(?:\.p/(\d{1,3}))?")
_TEXT: Final = "text/plain; charset=utf-8"
TilePath = Annotated[
    str,
    Path(
        description="`<level>/<number>`, where the number is in groups such as `x001/234`; `.p/<width>` for a partial one"
    ),
]


@router.get("/v1/channels/{channel}/events/{event}/proof")
async def event_proof(
    request: Request, channel: ChannelPath, event: Annotated[str, Path(description="the event's id")]
) -> Response:
    """Returns the proof, at most 2 KB, that an event is under the newest checkpoint."""
    hub, caller = await caller_of(request)
    place = await readable_channel(hub, caller, channel)
    try:
        id_order(event)
    except MalformedCursor as error:
        raise HubError(4005, f"event: {error}") from None
    async with hub.archive.prover(place.tenant, BUNDLES_MAX) as prover:
        found = await hub.log.stored.page_from(place, event, 1)
        if not found or found[0].id.decode() != event or found[0].is_damaged:
            raise HubError(4018, "the channel has no such event")
        try:
            proof = await prover.event(place, found[0])
        finally:
            hub.charge(caller.principal, "history", PROOF_READS + prover.bundle_count / BUNDLES_PER_READ)
    return Response(proof.to_json(), media_type="application/json")


@router.get("/v1/channels/{channel}/audit")
async def audit(request: Request, channel: ChannelPath) -> dict[str, Any]:
    """Verifies the channel as `hub audit verify` does; `told` is the result in words. At most 50,000 events and 64 MiB."""
    hub, caller = await caller_of(request)
    place = await readable_channel(hub, caller, channel)
    hub.charge(caller.principal, "history", AUDIT_READS)
    try:
        found = await hub.audits.verify(place)
    except ChannelUnverified as error:
        raise HubError(4018, str(error)) from error
    hub.charge(caller.principal, "history", (found["hot_events"] + found["archived_events"]) / PAGE_EVENTS)
    return found


@router.get("/v1/log/checkpoint")
async def checkpoint(request: Request) -> Response:
    """Returns the newest checkpoint of the tenant's log of heads, a signed note."""
    hub, caller = await caller_of(request)
    limit(hub, caller, "history")
    async with hub.archive.prover(caller.principal.tenant) as prover:
        note = await prover.newest()
    return Response(note, media_type=_TEXT)


@router.get("/v1/log/checkpoint/{number}")
async def numbered_checkpoint(
    request: Request, number: Annotated[int, Path(ge=1, lt=10**12, description="counted from 1")]
) -> Response:
    """Returns an earlier checkpoint."""
    hub, caller = await caller_of(request)
    limit(hub, caller, "history")
    async with hub.archive.objects(caller.principal.tenant) as objects:
        note = await HeadLog(objects, caller.principal.tenant, "").checkpoint(number)
    if note is None:
        raise HubError(4018, "there is no checkpoint with this number")
    return Response(note, media_type=_TEXT)


@router.get("/v1/log/consistency")
async def consistency(
    request: Request,
    old: Annotated[int, Query(lt=2**53, description="the number of heads of an older checkpoint")] = 0,
) -> Response:
    """Returns the proof, at most 2 KB, that the newest checkpoint continues an older one."""
    hub, caller = await caller_of(request)
    limit(hub, caller, "history")
    async with hub.archive.prover(caller.principal.tenant) as prover:
        proof = await prover.consistency(old)
    hub.charge(caller.principal, "history", PROOF_READS)
    return Response(proof.to_json(), media_type="application/json")


@router.get("/v1/log/tile/{tile:path}")
async def log_tile(request: Request, tile: TilePath) -> Response:
    """Returns a tile of the tenant's log, or with `entries/` a bundle of its heads; they name every channel."""
    hub, caller = await inspector_of(request)
    async with hub.archive.objects(caller.principal.tenant) as objects:
        log = HeadLog(objects, caller.principal.tenant, "")
        level, number, width = _parse(tile)
        if level is None:
            entries = [one async for one in log.leaves(number * TILE_WIDTH + width, number * TILE_WIDTH)]
            return _binary(pack_entries(entries[0]))
        return _binary(await log.tree.tile_at_least(level, number, width))


@router.get("/v1/channels/{channel}/tile/{tile:path}")
async def channel_tile(
    request: Request,
    channel: ChannelPath,
    tile: TilePath,
    epoch: Annotated[
        str | None, Query(pattern=r"^[0-9A-Za-z_-]{1,64}$", description="an earlier epoch; the present one if left out")
    ] = None,
) -> Response:
    """Returns a tile of the channel's tree; its leaves are the events, so it has no bundles of entries."""
    hub, caller = await caller_of(request)
    place = await readable_channel(hub, caller, channel)
    level, number, width = _parse(tile)
    if level is None:
        raise HubError(4018, "a channel's tree has no entries: its leaves are the channel's events")
    async with hub.archive.objects(place.tenant) as objects:
        tree: TreeFolder = ChannelFolder(objects, place, epoch or (await hub.log.look(place)).epoch).tree
        return _binary(await tree.tile_at_least(level, number, width))


def _parse(tile: str) -> tuple[int | None, int, int]:
    """The level (None for entries), number and width of a tile.

    Raises:
        HubError: 4018: no tile has this path.
    """
    if (found := _TILE.fullmatch(tile)) is not None:
        level = None if found[1] == "entries" else int(found[1])
        number, width = int(found[2].replace("x", "").replace("/", "")), int(found[3] or TILE_WIDTH)
        path = entries_path(number, width) if level is None else tile_path(level, number, width)
        if 0 < width <= TILE_WIDTH and path == f"tile/{tile}":  # each tile has one path, which caches may keep
            return level, number, width
    raise HubError(4018, "a tile's path is <level>/<number>, with .p/<width> if it is partial")


def _binary(data: bytes) -> Response:
    return Response(data, media_type="application/octet-stream")
