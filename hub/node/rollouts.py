"""Follows the rollouts of the tenants that have sockets on this node, and moves users off WebSocket who may not use it any more.

A tenant's rollout is the state of its channel `system:rollout`, followed as any reader follows it. A change is applied
within the next round, to new sockets and open ones. While Redis is unreachable, a tenant whose rollout was never read has
WebSocket.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Collection
from dataclasses import replace
from typing import Final

from hub.errors import HubError
from hub.node.connection import Connection
from hub.node.fanout import Sub
from hub.node.subscribing import Subscriptions
from hub.ports import ChannelStates, Clock, Encoding, NodePort
from hub.protocol.session import SessionState
from hub.rollout import FeatureFlags, RolloutDecision
from projections.rollout import ROLLOUT, Rollout
from streams.channel import Channel, Kind
from streams.cursor import Look
from streams.errors import LogUnavailable

NAME: Final = "rollout"
"""The name of the channel, of the kind `system`."""
LOOK_S: Final = 0.25
"""Seconds between two rounds: a change reaches the open sockets of every node within this time and a read."""
WAIT_S: Final = 1.0
"""Maximum seconds that a handshake waits for its tenant's rollout; then it is let in, and moved later if need be."""
IDLE_MAX: Final = 1_000
"""Tenants without a socket whose rollout is followed nevertheless, so that their next handshake need not read it."""
IDLE_S: Final = 60.0
SWEPT_AT_ONCE: Final = 50
"""Open sockets that are judged, for about 50 µs each, before other work of the loop has its turn."""
WEBSOCKET_OFF: Final = "websocket_off"
"""The reason that `connection.drain` gives."""
_log: Final = logging.getLogger(__name__)


def channel_of(tenant: str) -> Channel:
    """The channel that holds the tenant's rollout."""
    return Channel(tenant, Kind.SYSTEM, NAME)


async def read_rollout(states: ChannelStates, channel: Channel, look: Look) -> Rollout:
    """Returns the rollout as of `look` or later.

    Raises:
        LogUnavailable: Redis is unreachable.
    """
    if not look.head.seq:
        return Rollout()
    state = await states.fold(channel, look)
    return replace(state.of(ROLLOUT))


class RolloutReader:
    """Follows one tenant's rollout; whatever arrives means that the rollout must be read again (see `hub.ports.Subscriber`).

    Attributes:
        sub: its subscription; None until Redis was reachable.
        is_due: True if the rollout must be read.
        opening: the first attempt to read it.
    """

    is_writable = True
    encoding = Encoding.PLAIN
    holds_state = wants_reasoning = False

    def __init__(self, tenant: str) -> None:
        self.tenant = tenant
        self.channel = channel_of(tenant)
        self.sub: Sub | None = None
        self.is_due = True
        self.asked_at = 0.0
        self.opening: asyncio.Task[None] | None = None

    def push(self, _frames: bytes, /) -> None:
        """Notes that there are new events."""
        self.is_due = True

    def send(self, _message: bytes, /) -> None:
        """Notes that the hub told its subscribers something."""
        self.is_due = True

    def tell(self, _channel: Channel, _message: bytes, /) -> None:
        """Notes that the log starts over."""
        self.is_due = True

    def flush(self) -> None:
        """Does nothing: there is no socket."""

    async def drained(self) -> None:
        """Returns at once: there is no write buffer."""

    def fail(self, _error: HubError) -> None:
        """Notes that the subscription cannot go on; what it stands for is read again."""
        self.is_due = True


class Rollouts:
    """The rollouts of the tenants of one node.

    Args:
        node: the node.
        subscriptions: follows the channels.
        flags: decides about a user.
        connections: the open ones.
    """

    def __init__(
        self, node: NodePort, subscriptions: Subscriptions, flags: FeatureFlags, connections: Collection[Connection]
    ) -> None:
        self._node, self._subscriptions, self._flags, self._connections = node, subscriptions, flags, connections
        self._clock: Clock = node.clock
        self._readers: dict[str, RolloutReader] = {}
        self._changed: set[str] = set()
        self._all_changed = False
        self._change_count = 0
        self._forget_at_s = 0.0

    @property
    def provider(self) -> str:
        """The name of the OpenFeature provider that decides."""
        return self._flags.name

    @property
    def is_stored(self) -> bool:
        """True if the stored rollouts decide, and no other provider."""
        return self._flags.stored is not None

    async def start(self) -> None:
        """Initialises the provider. If that fails, everybody has WebSocket until it tells that it is ready."""
        try:
            await self._flags.open(self._provider_changed)
        except Exception:
            _log.exception(
                "the provider of HUB_ROLLOUT_PROVIDER cannot start: everybody may use WebSocket, without a variant"
            )

    def close(self) -> None:
        """Shuts the provider down."""
        self._flags.close()

    async def decide(self, tenant: str, user: str) -> RolloutDecision:
        """Returns the flags of a user who connects. Valid only until the caller's next `await`."""
        if self._flags.stored is not None:
            await self._follow(tenant)
        while True:
            count = self._change_count
            decision = await self._flags.decide(tenant, user)
            if count == self._change_count:
                return decision

    async def look(self) -> None:
        """Reads the rollouts that have changed, and moves users off WebSocket who may not use it any more.

        Raises:
            Exception: some of them could not be read; the next round tries again.
        """
        failure: Exception | None = None
        due = [reader for reader in self._readers.values() if reader.is_due and reader.opening is None]
        for reader in due:  # one that is being opened would subscribe twice
            if not self._node.log.reaches(reader.channel):
                continue  # a server that is away costs the tenants on the others nothing
            try:
                await self._read(reader)
            except Exception as error:  # one tenant's damaged log does not stop the others
                failure = error
        await self._sweep()
        self._forget_idle()
        if failure is not None:
            raise failure

    def _provider_changed(self) -> None:
        if self._flags.stored is None:
            self._change_count += 1
            self._all_changed = True

    async def _follow(self, tenant: str) -> None:
        """Follows a tenant's rollout, and waits until it was read, or could not be."""
        reader = self._readers.get(tenant)
        if reader is None:
            reader = self._readers[tenant] = RolloutReader(tenant)
            reader.opening = self._node.spawn(self._open(reader))
        reader.asked_at = self._clock.monotonic()
        if reader.opening is not None:
            await asyncio.wait([reader.opening], timeout=WAIT_S)

    async def _open(self, reader: RolloutReader) -> None:
        try:
            with contextlib.suppress(LogUnavailable):  # it stays due, and the next round tries again
                await self._read(reader)
        finally:
            reader.opening = None

    async def _read(self, reader: RolloutReader) -> None:
        stored = self._flags.stored
        if stored is None:
            return
        if reader.sub is None:
            reader.sub, look = await self._subscriptions.listen(reader.channel, reader)
        else:
            look = await self._node.log.look(reader.channel)
        reader.is_due = False
        try:
            found = await read_rollout(self._node.states, reader.channel, look)
        except BaseException:
            reader.is_due = True
            raise
        known = stored.by_tenant.get(reader.tenant, Rollout())
        if found == known:
            return
        if found.revision:
            stored.by_tenant[reader.tenant] = found
        else:
            stored.by_tenant.pop(reader.tenant, None)
        self._change_count += 1
        self._changed.add(reader.tenant)
        _log.info("the rollout of a tenant has changed", extra={"tenant": reader.tenant, "revision": found.revision})

    async def _sweep(self) -> None:
        """Drains the open sockets of users who may not use WebSocket any more."""
        if not self._changed and not self._all_changed:
            return
        tenants, self._changed = self._changed, set()
        is_all, self._all_changed = self._all_changed, False
        judged = 0
        for connection in list(self._connections):
            caller = connection.session.caller
            if connection.is_listener or caller is None or not (is_all or caller.principal.tenant in tenants):
                continue
            decision = await self._flags.decide(caller.principal.tenant, caller.principal.user)
            if not decision.is_websocket_on and connection.session.state is not SessionState.CLOSED:
                connection.draining(WEBSOCKET_OFF)
            judged += 1
            if judged % SWEPT_AT_ONCE == 0:
                await asyncio.sleep(0)

    def _forget_idle(self) -> None:
        """Stops following tenants without a socket, if there are too many."""
        now_s = self._clock.monotonic()
        if len(self._readers) <= IDLE_MAX or now_s < self._forget_at_s:
            return
        self._forget_at_s = now_s + IDLE_S / 6  # not each round: all sockets are looked at
        before = now_s - IDLE_S
        idle = [reader for reader in self._readers.values() if reader.asked_at < before and reader.opening is None]
        if len(idle) <= IDLE_MAX:
            return
        held = {one.session.caller.principal.tenant for one in self._connections if one.session.caller is not None}
        for reader in sorted((one for one in idle if one.tenant not in held), key=lambda one: one.asked_at)[:-IDLE_MAX]:
            del self._readers[reader.tenant]
            if reader.sub is not None:
                self._subscriptions.stop_listening(reader.sub)
            if self._flags.stored is not None:
                self._flags.stored.by_tenant.pop(reader.tenant, None)
