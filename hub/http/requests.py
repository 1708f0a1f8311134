"""Reads what every HTTP route needs from a request: the bearer token, the body and the channel, within their limits."""

from __future__ import annotations

import asyncio
from typing import Annotated, Final

from fastapi import Path, Request

from hub.auth.permissions import EVERYTHING, Scope
from hub.auth.tokens import Principal
from hub.errors import HubError
from hub.node.hub import Hub
from hub.protocol.commands import Caller
from hub.protocol.session import channel_of
from streams.channel import Channel
from streams.log_context import CURRENT
from streams.tracing import valid_traceparent

ChannelPath = Annotated[str, Path(description="`kind:name`")]
"""The channel in a path."""


def hub_of(request: Request) -> Hub:
    """Returns the node's hub.

    Raises:
        HubError: 4013: the node is starting or stopping.
    """
    hub = getattr(request.app.state, "hub", None)
    if not isinstance(hub, Hub):
        raise HubError(4013, "the node is starting or stopping; try again in a moment", retry_after_ms=500)
    return hub


async def caller_of(request: Request) -> tuple[Hub, Caller]:
    """Returns the node's hub and the authenticated caller.

    Raises:
        HubError: 4001, 4002, 4019; 4004: too many failures from this address.
    """
    hub = hub_of(request)
    try:
        principal = await hub.verifier.verify(bearer_token(request), hub.clock.now(), request.scope)
    except HubError as error:
        raise hub.admission.refusal(address(request), error) from None
    CURRENT.set((Caller(principal),))
    if principal.scope is not None:
        principal = await _scoped(hub, request, principal)
    return hub, Caller(principal, origin=str(request.base_url).rstrip("/"))


async def _scoped(hub: Hub, request: Request, principal: Principal) -> Principal:
    """Records a request whose token has a scope; returns the principal for the tenant that the request names.

    Raises:
        HubError: 4003: not a tenant of the token; 4004, 4011, 4013: the request cannot be recorded.
    """
    principal = principal.visiting(request.query_params.get("tenant", principal.tenant))
    if request.method != "GET" and principal.home:
        raise HubError(4003, "in another tenant your token may only read")
    if not request.scope.get(_RECORDED):  # one route may call another
        request.scope[_RECORDED] = True
        channel = request.path_params.get("channel")
        route = getattr(request.scope.get("route"), "path", "")
        channels = [channel] if channel else []
        await hub.operator_calls.record(principal, f"{request.method} {route}", channels, traceparent_of(request))
    return principal


def address(request: Request) -> str:
    """Returns the client address that this request is counted under by the per-address limits."""
    client = (request.client.host, request.client.port) if request.client else None
    return hub_of(request).admission.address_of(client, dict(request.headers.raw))


async def limit_address(request: Request) -> None:
    """Limits requests without a token by their address.

    Raises:
        HubError: 4004 with `Retry-After`; 4013: the node is starting or stopping.
    """
    hub = hub_of(request)
    retry_after_ms = hub.limiter.take(("@address", address(request)), "open", hub.clock.monotonic())
    if retry_after_ms is not None:
        raise HubError(4004, "too many requests from your address; retry later", retry_after_ms=retry_after_ms)


def traceparent_of(request: Request) -> str | None:
    """Returns the trace that a request continues; a malformed one is ignored, as the W3C asks."""
    return valid_traceparent(request.headers.get("traceparent"))


def bearer_token(request: Request) -> str:
    """Returns the token of `Authorization: Bearer`; "" if there is none."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


_RECORDED: Final = "hub.is_recorded"
BODY_TIMEOUT_S: Final = 30.0
"""Seconds for a body: enough for 1 MB at 280 kbit/s. A slow body occupies a task and memory until then."""


async def read_body(request: Request, limit_bytes: int) -> bytes:
    """Reads the whole body, but never more than `limit_bytes`, whatever `Content-Length` says.

    Raises:
        HubError: 4011: it is larger; the rest is not read. 4005: it is too slow.
    """
    declared = request.headers.get("content-length", "0")
    if not declared.isdecimal() or int(declared) > limit_bytes:
        raise _too_large(limit_bytes)
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            return await _collect(request, limit_bytes)
    except TimeoutError:
        raise HubError(4005, "the body did not arrive in time; send it faster") from None


async def _collect(request: Request, limit_bytes: int) -> bytes:
    parts: list[bytes] = []
    size_bytes = 0
    async for part in request.stream():
        size_bytes += len(part)
        if size_bytes > limit_bytes:
            raise _too_large(limit_bytes)
        parts.append(part)
    return b"".join(parts)


def _too_large(limit_bytes: int) -> HubError:
    return HubError(4011, f"a body may have at most {limit_bytes} bytes")


def limit(hub: Hub, caller: Caller, rate: str | None) -> None:
    """Takes the cost of a request from the same buckets as commands on a socket.

    Raises:
        HubError: 4004 with `Retry-After`.
    """
    if rate is None:
        return
    principal = caller.principal
    retry_after_ms = hub.limiter.take(principal.payer, rate, hub.clock.monotonic())
    if retry_after_ms is not None:
        raise HubError(4004, "too many commands of this kind; retry later", retry_after_ms=retry_after_ms)


async def operator_of(request: Request) -> tuple[Hub, Caller]:
    """Returns the node's hub and a caller who may see the processes and their connections, after charging a command.

    Raises:
        HubError: as in `caller_of`; 4003: neither the scope operator, nor a grant of `*` on `*`; 4004.
    """
    hub, caller = await caller_of(request)
    principal = caller.principal
    if principal.scope is not Scope.OPERATOR and not principal.grants.covers(EVERYTHING, EVERYTHING):
        raise HubError(4003, "this is for operators: it needs the scope operator, or a grant of * on *")
    limit(hub, caller, "command")
    return hub, caller


async def inspector_of(request: Request) -> tuple[Hub, Caller]:
    """Returns the node's hub and a caller who may read all of the tenant, after charging a read.

    Raises:
        HubError: as in `caller_of`; 4003: neither a scope, nor a grant of `*` on `*`; 4004.
    """
    hub, caller = await caller_of(request)
    principal = caller.principal
    if principal.scope is None and not principal.grants.covers(EVERYTHING, EVERYTHING):
        raise HubError(4003, "this shows all channels: it needs the scope auditor or operator, or a grant of * on *")
    limit(hub, caller, "history")
    return hub, caller


async def readable_channel(hub: Hub, caller: Caller, wire: str) -> Channel:
    """Returns a channel that the caller may read, after charging the `history` rate.

    Raises:
        HubError: 4003, 4004, 4006.
        LogUnavailable: Redis is unreachable.
    """
    channel = channel_of(caller.principal.tenant, wire)
    if not caller.principal.grants.allows(wire, "read"):
        raise HubError(4003, "your token does not grant `read` on this channel")
    limit(hub, caller, "history")
    await hub.access.require(channel, caller.principal, "read")
    return channel
