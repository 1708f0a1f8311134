"""Unfinished runs, parked events and running processes, over all channels, for auditors and operators (docs/protocol.md#http).

`hub parked` reads and puts back the same events.
"""

from __future__ import annotations

import logging
from typing import Annotated, Any, Final

from fastapi import APIRouter, Path, Query, Request, Response

from hub.auth.permissions import EVERYTHING
from hub.errors import HubError
from hub.http.requests import caller_of, inspector_of, operator_of
from hub.http.requests import limit as charge_rate
from streams.channel import Channel, channel_from_path
from streams.records.processes import Processes
from streams.records.run_store import RunStore
from streams.records.runs import RunView
from streams.redis.groups import Groups, Parked
from streams.times import rfc3339

router = APIRouter()
RUNS_MAX: Final = 200
"""Maximum number of runs in one answer: each costs one look at Redis."""
RUNS_PER_READ: Final = 50
"""Runs shown for the price of one read of the class `history`."""
LOOKED_AT_PER_READ: Final = 2_000
"""Runs of any tenant looked at for the price of one read."""
PARKED_MAX: Final = 200
"""Maximum number of parked events on a page, with reasons of at most 2,000 characters."""
PARKED_READS: Final = 2
"""Reads of the class `history` that a full page of parked events costs."""
_log = logging.getLogger(__name__)


@router.get("/v1/runs")
async def runs(
    request: Request, limit: Annotated[int, Query(ge=1, le=RUNS_MAX, description="most runs listed")] = RUNS_MAX
) -> dict[str, Any]:
    """Lists the tenant's unfinished runs. `complete` is false if there may be others."""
    hub, caller = await inspector_of(request)
    found = await RunStore(hub.log).unfinished(caller.principal.tenant, limit)
    hub.charge(caller.principal, "history", len(found.runs) / RUNS_PER_READ + found.looked_at / LOOKED_AT_PER_READ)
    return {"runs": [_shown_run(channel, run) for channel, run in found.runs], "complete": found.is_all}


def _shown_run(channel: Channel, run: RunView) -> dict[str, Any]:
    return {
        "channel": channel.wire,
        "run_id": run.run_id,
        "agent": run.agent,
        "by": run.by,
        "state": run.state,
        "segment": run.segment,
        "attempt": run.attempt,
        "since": rfc3339(run.since_ms),
        "deadline": rfc3339(run.deadline_ms) if run.deadline_ms else None,
        "questions": {"asked": run.asked, "answered": run.answered},
        "cancel": run.cancel or None,
    }


@router.get("/v1/parked")
async def parked(
    request: Request,
    after: Annotated[str, Query(max_length=64, description="the `next` of the page before")] = "",
    limit: Annotated[int, Query(ge=1, le=PARKED_MAX, description="events of all tenants looked at")] = PARKED_MAX,
) -> dict[str, Any]:
    """Lists the tenant's parked events with the reasons. A page may be short or empty; `next` is null on the last one."""
    hub, caller = await inspector_of(request)
    try:
        found, following = await Groups(hub.log).parked_page(caller.principal.tenant, after, limit)
    except ValueError:
        raise HubError(4005, "after must be `next` from an earlier page") from None
    looked_at = limit if following else len(found)
    hub.charge(caller.principal, "history", PARKED_READS * looked_at / PARKED_MAX)
    return {"parked": [_shown_parked(one) for one in found], "next": following}


@router.post("/v1/parked/{parked_id}/retry", status_code=204)
async def retry(request: Request, parked_id: Annotated[str, Path(description="an `id` of the list")]) -> Response:
    """Puts an event back: its handler tries again, and counts attempts from 1."""
    hub, caller = await caller_of(request)
    charge_rate(hub, caller, "command")
    if not caller.principal.grants.covers(EVERYTHING, "manage"):
        raise HubError(4003, "your token does not grant `manage` on *")
    groups = Groups(hub.log)
    try:
        found = await groups.parked_at(parked_id)
    except ValueError:
        found = None
    is_there = found is not None and found.tenant == caller.principal.tenant
    if not (is_there and await groups.put_back(parked_id)):
        raise HubError(4018, "nothing is parked under this ID; GET /v1/parked lists what is")
    _log.info("an operator put parked work back")
    return Response(status_code=204)


def _shown_parked(one: Parked) -> dict[str, Any]:
    return {
        "id": one.id,
        "handler": one.group,
        "channel": channel_from_path(one.path).wire,
        "event": one.event,
        "type": one.type,
        "attempts": one.attempts,
        "reason": one.reason,
    }


@router.get("/v1/processes")
async def processes(request: Request) -> dict[str, Any]:
    """Lists the processes with a lease: the nodes, and the workers with the number of their partitions and their agents."""
    hub, _ = await operator_of(request)
    found = Processes(hub.log)
    nodes = [{"node": one.node, "lease_ends": rfc3339(one.lease_ends_ms)} for one in await found.nodes()]
    workers = [
        {
            "worker": one.worker,
            "lease_ends": rfc3339(one.lease_ends_ms),
            "partitions": one.partitions,
            "agents": one.agents,
        }
        for one in await found.workers()
    ]
    return {"answered_by": hub.name, "nodes": nodes, "workers": workers}
