"""The rollout of the caller's tenant: who may use WebSocket, and the variants (docs/guides/rollout.md).

The channel `system:rollout` holds it: a change is an event there, and the nodes follow it.
"""

from __future__ import annotations

import json
from typing import Any, Final

from fastapi import APIRouter, Request, Response

from hub.auth.permissions import Scope
from hub.errors import ErrorDetail, HubError
from hub.http.requests import caller_of, limit, read_body, traceparent_of
from hub.node.hub import Hub
from hub.node.rollouts import channel_of, read_rollout
from hub.protocol.commands import Caller
from hub.protocol.session import read_values
from projections.rollout import shown
from streams.envelope import Actor
from streams.events import CATALOGUE
from streams.events.rollout import ALL_PERCENT, RolloutChanged
from streams.events.validation import InvalidPayload, validate
from streams.json_bytes import to_json

router = APIRouter()
_CHANGED: Final = "rollout.changed"


@router.get("/v1/rollout")
async def rollout(request: Request) -> Response:
    """The tenant's rollout, and the name of the provider that decides."""
    hub, caller = await caller_of(request)
    if caller.principal.scope is None:
        raise HubError(4003, "the rollout is for operators: it needs the scope operator, or auditor to read it")
    limit(hub, caller, "command")
    return await _shown(hub, caller)


@router.put("/v1/rollout")
async def change(request: Request) -> Response:
    """Changes the tenant's rollout; absent fields stay as they are. Every node applies it within 2 seconds."""
    hub, caller = await caller_of(request)
    principal = caller.principal
    if principal.scope is not Scope.OPERATOR:
        raise HubError(4003, "the rollout is for operators: changing it needs the scope operator")
    limit(hub, caller, "command")
    if not hub.rollouts.is_stored:
        raise HubError(4024, "HUB_ROLLOUT_PROVIDER decides on this hub; change the rollout there")
    payload = _checked(await read_body(request, CATALOGUE[_CHANGED].limit_bytes))
    place, author = channel_of(principal.tenant), Actor("user", principal.user)
    await hub.broadcast(place, _CHANGED, payload, author, traceparent=traceparent_of(request))
    return await _shown(hub, caller)


async def _shown(hub: Hub, caller: Caller) -> Response:
    channel = channel_of(caller.principal.tenant)
    found = await read_rollout(hub.states, channel, await hub.log.look(channel))
    return Response(to_json(shown(found) | {"provider": hub.rollouts.provider}), media_type="application/json")


def _checked(body: bytes) -> dict[str, Any]:
    """Returns the payload of a change that changes something and makes sense."""
    value = read_values(body)[0] if body.lstrip()[:1] == b"{" else None
    if not isinstance(value, dict):
        raise HubError(4005, "send an object with websocket_percent, variants or both, and a note if you like")
    try:
        model, data = validate(CATALOGUE[_CHANGED], value)
    except InvalidPayload as error:
        details = tuple(ErrorDetail(one.field, one.problem) for one in error.problems)
        raise HubError(4005, "the rollout cannot be read; the details name the fields", details=details) from None
    assert isinstance(model, RolloutChanged)  # noqa: S101 - what the catalogue declares for this type
    if model.websocket_percent is None and model.variants is None:
        raise HubError(4005, "nothing would change; send websocket_percent, variants or both")
    variants = model.variants or []
    if len({one.name for one in variants}) < len(variants):
        raise _refused("names a variant twice")
    if sum(one.percent for one in variants) > ALL_PERCENT:
        raise _refused(f"shares out more than {ALL_PERCENT:g} %")
    payload: dict[str, Any] = json.loads(data)
    return payload


def _refused(problem: str) -> HubError:
    return HubError(4005, f"the list of variants {problem}", details=(ErrorDetail("variants", problem),))
