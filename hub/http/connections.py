"""The connections of this node, for operators: who is connected with what, and the end of one (docs/protocol.md#http).

Each node answers for itself, and for the caller's tenant alone.
"""

from __future__ import annotations

import logging
from typing import Annotated, Any, Final

from fastapi import APIRouter, Path, Query, Request, Response

from hub.errors import HubError
from hub.http.requests import operator_of
from hub.node.connection import Connection
from streams.json_bytes import to_json
from streams.times import rfc3339

router = APIRouter()
SHOWN_MAX: Final = 100
"""Maximum number of connections in one answer."""
SHOWN_CHANNELS_MAX: Final = 20_000
"""Number of their channels, about 1.5 MB, from which no further connection is shown: HUB_MAX_SUBSCRIPTIONS may be large."""
PER_COMMAND: Final = 200
"""Channels shown for the price of one command."""
LOOKED_AT_PER_COMMAND: Final = 2_000
"""Connections looked at for the price of one command."""
_log = logging.getLogger(__name__)


@router.get("/v1/connections")
async def connections(
    request: Request,
    user: Annotated[str | None, Query(description="only this user's")] = None,
    limit: Annotated[int, Query(ge=1, le=SHOWN_MAX, description="most connections listed")] = SHOWN_MAX,
) -> Response:
    """The tenant's connections to this node, oldest first, each with the cursor of each channel it follows."""
    hub, caller = await operator_of(request)
    found = [
        one
        for one in hub.connections
        if (held := one.session.caller) is not None
        and held.principal.tenant == caller.principal.tenant
        and user in {None, held.principal.user}
    ]
    found.sort(key=lambda one: one.opened_at)
    now_ms, now_s = round(hub.clock.now() * 1000), hub.clock.monotonic()
    shown: list[dict[str, Any]] = []
    channel_count = 0
    for one in found[:limit]:
        if channel_count >= SHOWN_CHANNELS_MAX:
            break
        shown.append(_shown(one, now_ms - round((now_s - one.opened_at) * 1000)))
        channel_count += len(one.subscriptions)
    hub.charge(caller.principal, "command", channel_count / PER_COMMAND + len(hub.connections) / LOOKED_AT_PER_COMMAND)
    body = to_json({"node": hub.name, "total": len(found), "connections": shown})
    return Response(body, media_type="application/json")


@router.delete("/v1/connections/{session_id}", status_code=204)
async def close(
    request: Request, session_id: Annotated[str, Path(description="that of a connection in the list")]
) -> Response:
    """Ends a connection to this node as a restart would: the client is told when to reconnect, and resumes.

    To keep somebody out, revoke the token.
    """
    hub, caller = await operator_of(request)
    tenant = caller.principal.tenant
    for one in hub.connections:
        held = one.session.caller
        if held is not None and one.session.id == session_id and held.principal.tenant == tenant:
            one.draining()
            _log.info("an operator closed a connection")
            return Response(status_code=204)
    raise HubError(4018, "there is no such connection to this node; GET /v1/connections lists those there are")


def _shown(one: Connection, opened_ms: int) -> dict[str, Any]:
    caller = one.session.caller
    assert caller is not None  # noqa: S101 - the callers list only sessions that have one
    return {
        "session_id": one.session.id,
        "kind": "stream" if one.is_listener else "socket",
        "user": caller.principal.user,
        "client_id": caller.client_id,
        "address": one.address,
        "opened_at": rfc3339(opened_ms),
        "channels": {
            sub.fanout.channel.wire: {"after": sub.after, "seq": sub.seq} for sub in one.subscriptions.values()
        },
    }
