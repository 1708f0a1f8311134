"""Who makes an HTTP request: the token in `Authorization: Bearer`, verified as on the socket."""

from __future__ import annotations

from fastapi import Request

from hub.errors import HubError
from hub.limits.admission import address_of
from hub.node.hub import Hub
from hub.protocol.commands import Caller


def hub_of(request: Request) -> Hub:
    """The node's hub.

    Raises:
        HubError: 4013, the node is starting or stopping.
    """
    hub = getattr(request.app.state, "hub", None)
    if not isinstance(hub, Hub):
        raise HubError(4013, "the node is not up; try again in a moment", retry_after_ms=500)
    return hub


async def caller_of(request: Request) -> tuple[Hub, Caller]:
    """The hub, and who asks it.

    Raises:
        HubError: 4001, 4002, 4019; 4004 when the address fails too often.
    """
    hub = hub_of(request)
    try:
        principal = await hub.services.verifier.verify(bearer_token(request), hub.services.now())
    except HubError as error:
        client = (request.client.host, request.client.port) if request.client else None
        raise hub.door.refusal(address_of(client, dict(request.headers.raw)), error) from None
    return hub, Caller(principal, origin=str(request.base_url).rstrip("/"))


def bearer_token(request: Request) -> str:
    """What `Authorization: Bearer` holds.

    Raises:
        HubError: 4001, nothing.
    """
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise HubError(4001, "send a token as Authorization: Bearer")
    return token.strip()
