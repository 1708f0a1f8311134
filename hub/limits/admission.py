"""Admission of connections: limits on connecting, on failed attempts, and on the connections of a tenant. Pure.

It only counts; the caller closes sockets and sends answers. Only `charge` runs per event, and only if publishing is
limited.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final, Protocol

from hub.auth.origins import LOOPBACK, Network, OriginPolicy, address_of, is_within
from hub.auth.tokens import Principal
from hub.errors import HubError
from hub.limits.quotas import CHANNEL_BYTES, EVENT_BYTES, Quotas
from hub.limits.rates import ADVICE_MS_MAX, RateLimiter
from streams.envelope import Appended, Draft, Lane
from streams.errors import StreamsError

PENDING_PER_ADDRESS_MAX: Final = 8_000
"""Maximum unauthenticated sockets of one address: four fifths of a node's default limit. A smaller value hurts clients behind
one proxy when a node restarts, since all of them upgrade before the first one authenticates; a larger one lets a single
address occupy the whole node for the 10 s that a handshake may take."""

PENALTY_CONNECTS: Final = 1_000.0
"""Charge for a socket that was closed because it ignored refusals, in connects of its user: a second's worth by default. After
twenty such closes (the burst) the user may connect once a second; with less, the reconnects would cost more than is saved."""

RESERVE_FROM: Final = 0.8
"""Share of Redis's `maxmemory` above which the rest is a reserve. The reserve also leaves room to end runs and uploads."""
RESERVE_UNTIL: Final = 0.75
NEAR_BYTES: Final = 64 * 2**20
"""Within this many bytes of the reserve, Redis's memory is read more often, and this node's events are counted in between. More
than a node stores in a second."""
TENANT_PART: Final = 0.02
"""Share of `maxmemory` that a tenant may use of the reserve through each node: a tenth of the reserve."""
_ANYBODY: Final = "@address"
"""Used instead of a tenant in keys; tenant names contain no `@`."""


class ConnectLimits:
    """One node's limits on connecting. Users behind an address are admitted even if others there misbehave.

    Only failed handshakes count against an address. `now` is in seconds of the limiter's clock. Methods that
    refuse raise HubError 4004, or 4010 for too many sockets waiting to authenticate.
    """

    def __init__(self, limiter: RateLimiter, pending_per_address_max: int = PENDING_PER_ADDRESS_MAX) -> None:
        self._limiter = limiter
        self._pending_max = pending_per_address_max
        self._pending: dict[str, int] = {}

    def open(self, address: str, now: float) -> None:
        """Refuses an accepted socket, or counts it as waiting until `identified` is called."""
        self._take(address, "address", now, "too many connections from your address; try again later")
        waiting = self._pending.get(address, 0)
        if not self._limiter.is_off and waiting >= self._pending_max:
            raise HubError(
                4010,
                "too many connections from your address are waiting to authenticate; try again later",
                retry_after_ms=1_000,
            )
        self._pending[address] = waiting + 1

    def identified(self, address: str) -> None:
        """Stops counting a socket as waiting: it has authenticated, failed or closed.

        Call it once for each successful `open`.
        """
        waiting = self._pending.get(address, 0) - 1
        if waiting > 0:
            self._pending[address] = waiting
        else:
            self._pending.pop(address, None)

    def admit(self, tenant: str, user: str, now: float) -> None:
        """Refuses a user who connects too often. The token has been verified."""
        advice_ms = self._limiter.take((tenant, user), "connect", now)
        if advice_ms is not None:
            raise HubError(4004, "you connect too often; try again later", retry_after_ms=advice_ms, closes=True)

    def punish(self, tenant: str, user: str, now: float) -> None:
        """Delays the next connects of a user whose socket was closed because it ignored refusals, longer each time."""
        advice_ms = self._limiter.take((tenant, user), "connect", now)
        if advice_ms is None or advice_ms < ADVICE_MS_MAX:
            self._limiter.charge((tenant, user), "connect", now, PENALTY_CONNECTS)

    def fail(self, address: str, now: float) -> None:
        """Counts a failed authentication; raises 4004 if the address fails too often."""
        self._take(address, "auth", now, "too many failed attempts from your address; try again later")

    def pending_count(self) -> int:
        """The number of sockets that have not authenticated yet."""
        return sum(self._pending.values())

    def _take(self, address: str, class_: str, now: float, message: str) -> None:
        advice_ms = self._limiter.take((_ANYBODY, address), class_, now)
        if advice_ms is not None:
            raise HubError(4004, message, retry_after_ms=advice_ms, closes=True)


AUTH_FAILURES: Final = frozenset({4001, 4002, 4019})
"""Error codes that are counted as failed attempts of an address."""
_WELL_SIGNED: Final = frozenset({4002, 4019})
"""Those of them for tokens with a valid signature: such a client is not guessing, and needs to know what to do."""


class CountedConnection(Protocol):
    """A connection, as far as admission needs to know it.

    Attributes:
        address: the client address that its failures count against.
        is_pending: True while it counts as unauthenticated.
        held_tenant: the tenant whose quota it counts against; None before it authenticated.
    """

    address: str
    is_pending: bool
    held_tenant: str | None

    def counted(self, *, is_pending: bool, held_tenant: str | None) -> None:
        """Stores what was counted for this connection, so that it can be given back when it closes."""
        ...


class Admission:
    """Admission of one node's connections.

    Args:
        connects: limits on connecting and on failures.
        quotas: counts per tenant; events are counted only where a quota limits them.
        origins: the pages that may open sockets.
        monotonic: the limiter's clock.
        proxies: the networks whose `X-Forwarded-For` is trusted.
    """

    def __init__(
        self,
        connects: ConnectLimits,
        quotas: Quotas,
        origins: OriginPolicy,
        monotonic: Callable[[], float],
        proxies: Sequence[Network] = LOOPBACK,
    ) -> None:
        self._connects, self._quotas, self.origins, self._monotonic = connects, quotas, origins, monotonic
        self._proxies = proxies
        self._has_quota = quotas.quota.bytes_stored is not None or quotas.quota.publishes_per_s is not None
        self.is_metered = self._has_quota
        self._max_bytes = 0
        self._left_bytes = 0
        self._was_open = False

    @property
    def pending_count(self) -> int:
        """The number of sockets that have not authenticated yet."""
        return self._connects.pending_count()

    def address_of(self, client: tuple[str, int] | None, headers: Mapping[bytes, bytes]) -> str:
        """Returns the client address under which the failed attempts of a request are counted."""
        return address_of(client, headers, self._proxies)

    def trusts(self, client: tuple[str, int] | None) -> bool:
        """True if the peer is a proxy whose headers are trusted."""
        return client is None or is_within(client[0], self._proxies)

    def opened(self, connection: CountedConnection) -> None:
        """Counts a new socket that must still authenticate.

        Raises:
            HubError: 4004 or 4010: too many from this address.
        """
        self._connects.open(connection.address, self._monotonic())
        connection.counted(is_pending=True, held_tenant=None)

    def entered(self, connection: CountedConnection, principal: Principal) -> None:
        """Counts a connection that has authenticated, unless there are too many.

        Raises:
            HubError: 4004 or 4010.
        """
        self._connects.admit(principal.tenant, principal.user, self._monotonic())
        self._quotas.open_connection(principal.tenant)
        self._identified(connection)
        connection.counted(is_pending=False, held_tenant=principal.tenant)

    def punish(self, principal: Principal) -> None:
        """Delays the next connects of a user whose socket is closed because it ignored refusals."""
        self._connects.punish(principal.tenant, principal.user, self._monotonic())

    def left(self, connection: CountedConnection) -> None:
        """Gives back everything that was counted for a closed connection."""
        self._identified(connection)
        if connection.held_tenant is not None:
            self._quotas.close_connection(connection.held_tenant)
        connection.counted(is_pending=False, held_tenant=None)

    def refusal(self, address: str, error: HubError) -> HubError:
        """Returns the answer to a refused token: `error`, or 4004 if the address fails too often.

        A correctly signed token that has expired or was revoked counts too, but always gets its own code:
        users behind one proxy must learn that they need a new token, whatever others there do.
        """
        if error.row.code not in AUTH_FAILURES:
            return error
        try:
            self._connects.fail(address, self._monotonic())
        except HubError as limited:
            return error if error.row.code in _WELL_SIGNED else limited
        return error

    def follow(self, tenant: str) -> None:
        """Counts a channel that gets its first subscriber on this node.

        Raises:
            HubError: 4015.
        """
        self._quotas.open_channel(tenant)

    def unfollow(self, tenant: str) -> None:
        """Stops counting a channel that lost its last subscriber on this node."""
        self._quotas.close_channel(tenant)

    def charge(self, draft: Draft) -> None:
        """Charges an event that is about to be stored; called only while `is_metered`.

        Raises:
            HubError: 4004 or 4011.
        """
        if draft.lane is not Lane.EVENTS:
            return
        size_bytes = len(draft.data) + EVENT_BYTES
        if self._max_bytes and self._left_bytes < size_bytes and not self._quotas.is_reserve_open:
            self._quotas.open_reserve(int(self._max_bytes * TENANT_PART))
        self._quotas.publish(draft.channel.tenant, size_bytes, self._monotonic())
        self._left_bytes -= size_bytes

    def settle(self, draft: Draft, result: Appended | StreamsError | None) -> None:
        """Refunds an event that was not stored, or had been stored before; charges the keys of a new channel."""
        if draft.lane is not Lane.EVENTS:
            return
        if not isinstance(result, Appended) or result.is_duplicate:
            size_bytes = len(draft.data) + EVENT_BYTES
            self._left_bytes += size_bytes
            self._quotas.take_back(draft.channel.tenant, size_bytes)
        elif result.is_first:
            self._left_bytes -= CHANNEL_BYTES
            self._quotas.begin_channel(draft.channel.tenant)

    def look_at_memory(self, used_bytes: int, max_bytes: int) -> bool:
        """Opens the reserve when Redis is nearly full, so that no tenant can fill it for the others, and closes it again.

        Between two calls this node's own events can open it too, because a flood may fill a small Redis
        within a second.

        Returns:
            True if the reserve was opened or closed since the last call.
        """
        self._max_bytes, self._left_bytes = max_bytes, int(max_bytes * RESERVE_FROM) - used_bytes
        if max_bytes and self._left_bytes <= 0:
            self._quotas.open_reserve(int(max_bytes * TENANT_PART))
        elif not max_bytes or used_bytes < max_bytes * RESERVE_UNTIL:
            self._quotas.close_reserve()
        self.is_metered = self._has_quota or self.is_nearly_full
        was_open, self._was_open = self._was_open, self._quotas.is_reserve_open
        return self._was_open != was_open

    @property
    def is_nearly_full(self) -> bool:
        """True if the reserve is open, or may have to be opened before the next call of `look_at_memory`."""
        return self._quotas.is_reserve_open or (self._max_bytes > 0 and self._left_bytes < NEAR_BYTES)

    @property
    def is_reserve_open(self) -> bool:
        """True while Redis's free memory is treated as a reserve."""
        return self._quotas.is_reserve_open

    def _identified(self, connection: CountedConnection) -> None:
        if connection.is_pending:
            self._connects.identified(connection.address)
