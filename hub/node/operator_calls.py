"""Records each use of a token with a scope in `system:operators` of the tenant that was read (docs/protocol.md#scopes)."""

from __future__ import annotations

from collections.abc import Awaitable, Iterable, Mapping
from typing import Any, Final, Protocol

from hub.auth.tokens import Principal
from hub.errors import HubError
from hub.limits.rates import RateLimiter
from hub.ports import Clock
from hub.protocol.commands import Command
from hub.protocol.replies import log_error
from streams.channel import Channel, Kind, parse_channel
from streams.envelope import Actor, Appended
from streams.errors import MalformedChannel, StreamsError
from streams.events.channels import ChannelSubscribe
from streams.events.declaration import Action
from streams.events.operators import CHANNELS_MAX

OPERATORS: Final = "operators"
"""The name of the channel, of the kind `system`."""


class Broadcast(Protocol):
    """Appends an event and charges the tenant for it."""

    def __call__(
        self, channel: Channel, type_: str, payload: Mapping[str, Any], actor: Actor, *, traceparent: str | None
    ) -> Awaitable[Appended]:
        """Appends the event."""
        ...


class OperatorCalls:
    """Records calls before they are answered. Their number is limited by the rate class `operator`, their size by the event's.

    Args:
        limiter: the node's rate limits.
        clock: the node's clocks.
        broadcast: appends an event and charges the tenant for it.
    """

    def __init__(self, limiter: RateLimiter, clock: Clock, broadcast: Broadcast) -> None:
        self._limiter, self._clock, self._broadcast = limiter, clock, broadcast

    async def record(
        self, principal: Principal, call: str, channels: Iterable[str] = (), traceparent: str | None = None
    ) -> None:
        """Records a call; a token without a scope is not recorded.

        Args:
            principal: the caller.
            call: an HTTP method with the pattern of its path, or the type of a command.
            channels: the channels that were asked for; malformed names are left out.
            traceparent: the trace that the call continues.

        Raises:
            HubError: 4004: too many calls; 4011: the tenant's quota is used up; 4013: Redis is unreachable. Nothing may be
                answered then.
        """
        if principal.scope is None:
            return
        retry_after_ms = self._limiter.take(principal.payer, "operator", self._clock.monotonic())
        if retry_after_ms is not None:
            raise HubError(4004, "you used a token with a scope too often; retry later", retry_after_ms=retry_after_ms)
        payload: dict[str, Any] = {"scope": principal.scope.value, "call": call}
        if principal.home:
            payload["tenant"] = principal.home
        if named := [wire for wire in channels if _is_channel(wire)][:CHANNELS_MAX]:
            payload["channels"] = named
        place = Channel(principal.tenant, Kind.SYSTEM, OPERATORS)
        try:
            author = Actor("user", principal.user)
            await self._broadcast(place, "operator.call", payload, author, traceparent=traceparent)
        except StreamsError as error:
            raise log_error(error) from error

    async def record_command(self, command: Command) -> None:
        """Records a command that reads. Other commands are in the log themselves, as events.

        Raises:
            HubError: as in `record`.
        """
        if command.event.action is not Action.READ:
            return
        channels = [command.channel.wire] if command.channel is not None else []
        if isinstance(command.payload, ChannelSubscribe):
            channels = [item.channel for item in command.payload.channels]
        await self.record(command.caller.principal, command.event.name, channels, command.traceparent)


def _is_channel(wire: str) -> bool:
    try:
        parse_channel("t", wire)
    except MalformedChannel:
        return False
    return True
