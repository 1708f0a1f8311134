"""Admission of connections: connect limits, failed attempts, and what each connection holds of its tenant's quota. Pure.

It counts; the caller closes sockets and answers. `charge` alone is called per event, and only where publishing is bounded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final, Protocol

from hub.auth.origins import LOOPBACK, Network, OriginPolicy, address_of, is_within
from hub.auth.tokens import Principal
from hub.errors import HubError
from hub.limits.quotas import EVENT_BYTES, Quotas
from hub.limits.rates import ADVICE_MS_MAX, RateLimiter
from streams.envelope import Appended, Draft, Lane
from streams.errors import StreamsError

PENDING_PER_ADDRESS_MAX: Final = 8_000
"""Sockets of one address that have not authenticated: four fifths of what a node takes by default. Smaller hurts everybody
behind one proxy when a node restarts, since all upgrade before the first says who it is; with more, one address could take
the whole node for the 10 s a handshake may last."""

PENALTY_CONNECTS: Final = 1_000.0
"""The price of a socket closed for not listening, in connects of its user: one second's worth by default. After twenty
of them (the burst) such a user may connect once a second; with less, a flood of reconnects costs more than refusing it saves."""

RESERVE_FROM: Final = 0.8
"""Share of Redis's `maxmemory` from which the rest is a reserve. It also keeps room for what ends runs and uploads."""
RESERVE_UNTIL: Final = 0.75
NEAR_BYTES: Final = 64 * 2**20
"""From this far below the reserve on, Redis's memory is looked at more often, and this node's events are counted between two looks:
as much as a node stores in a second, and more."""
TENANT_PART: Final = 0.02
"""Share of `maxmemory` that a tenant may take of the reserve, through each node: a tenth of it."""
_ANYBODY: Final = "@address"
"""Stands in the place of a tenant; no tenant's name has an `@`."""


class ConnectLimits:
    """One node's limits on connecting: polite users behind the same address are let in whatever a neighbour tries.

    A failed handshake counts against its address only, and only failures do. `now` is the limiter's clock.

    Raises, from every method that does: HubError 4004, or 4010 for sockets waiting to authenticate.
    """

    def __init__(self, limiter: RateLimiter, pending_per_address_max: int = PENDING_PER_ADDRESS_MAX) -> None:
        self._limiter = limiter
        self._pending_max = pending_per_address_max
        self._pending: dict[str, int] = {}

    def open(self, address: str, now: float) -> None:
        """Refuse an accepted socket, or count it as waiting until `identified`."""
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
        """Stop counting a socket as waiting: it authenticated, failed or left. Once for each `open` that did not raise."""
        waiting = self._pending.get(address, 0) - 1
        if waiting > 0:
            self._pending[address] = waiting
        else:
            self._pending.pop(address, None)

    def admit(self, tenant: str, user: str, now: float) -> None:
        """Refuse a user who connects too often; the token is good."""
        advice_ms = self._limiter.take((tenant, user), "connect", now)
        if advice_ms is not None:
            raise HubError(4004, "you connect too often; try again later", retry_after_ms=advice_ms, closes=True)

    def punish(self, tenant: str, user: str, now: float) -> None:
        """Delay the next sockets of a user whose socket was closed for not listening, longer each time."""
        advice_ms = self._limiter.take((tenant, user), "connect", now)
        if advice_ms is None or advice_ms < ADVICE_MS_MAX:
            self._limiter.charge((tenant, user), "connect", now, PENALTY_CONNECTS)

    def fail(self, address: str, now: float) -> None:
        """Count a failed authentication; raises 4004 when an address fails too often."""
        self._take(address, "auth", now, "too many failed attempts from your address; try again later")

    def pending_count(self) -> int:
        """Sockets that have not authenticated yet."""
        return sum(self._pending.values())

    def _take(self, address: str, class_: str, now: float, message: str) -> None:
        advice_ms = self._limiter.take((_ANYBODY, address), class_, now)
        if advice_ms is not None:
            raise HubError(4004, message, retry_after_ms=advice_ms, closes=True)


AUTH_FAILURES: Final = frozenset({4001, 4002, 4019})
"""Codes that count against an address."""
_WELL_SIGNED: Final = frozenset({4002, 4019})
"""Of these, the codes of tokens whose signature was good: a client that sends one is not guessing, and must be told what to do."""


class CountedConnection(Protocol):
    """A connection, as admission sees it.

    Attributes:
        address: failures count against it.
        is_pending: counted as not authenticated yet.
        held_tenant: the tenant of the quota it uses; None before it authenticated.
    """

    address: str
    is_pending: bool
    held_tenant: str | None

    def counted(self, *, is_pending: bool, held_tenant: str | None) -> None:
        """Keep what is counted for it, to be given back when it is gone."""
        ...


class Admission:
    """Admission of one node's connections.

    Args:
        connects: limits on connecting and failing.
        quotas: counts by tenant; what has no bound is not counted per event.
        origins: the pages that may open sockets.
        monotonic: the limiter's clock.
        proxies: the networks whose `X-Forwarded-For` is read.
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

    def address_of(self, client: tuple[str, int] | None, headers: Mapping[bytes, bytes]) -> str:
        """The address a request's failures count against."""
        return address_of(client, headers, self._proxies)

    def trusts(self, client: tuple[str, int] | None) -> bool:
        """True if the peer is a proxy whose headers are read."""
        return client is None or is_within(client[0], self._proxies)

    def opened(self, connection: CountedConnection) -> None:
        """Count a socket that has opened and must authenticate.

        Raises:
            HubError: 4004 or 4010, too many of this address.
        """
        self._connects.open(connection.address, self._monotonic())
        connection.counted(is_pending=True, held_tenant=None)

    def entered(self, connection: CountedConnection, principal: Principal) -> None:
        """Count a connection that has authenticated, unless there are too many.

        Raises:
            HubError: 4004 or 4010.
        """
        self._connects.admit(principal.tenant, principal.user, self._monotonic())
        self._quotas.open_connection(principal.tenant)
        self._identified(connection)
        connection.counted(is_pending=False, held_tenant=principal.tenant)

    def punish(self, principal: Principal) -> None:
        """Delay the next connections of a user whose connection is closed for ignoring refusals."""
        self._connects.punish(principal.tenant, principal.user, self._monotonic())

    def left(self, connection: CountedConnection) -> None:
        """Give back everything a closed connection held."""
        self._identified(connection)
        if connection.held_tenant is not None:
            self._quotas.close_connection(connection.held_tenant)
        connection.counted(is_pending=False, held_tenant=None)

    def refusal(self, address: str, error: HubError) -> HubError:
        """The answer to a refused token: `error`, or 4004 when the address fails too often.

        A well-signed token that expired or was revoked counts too, and is always answered with its own code: people behind
        one proxy are told to refresh whatever a neighbour tries.
        """
        if error.row.code not in AUTH_FAILURES:
            return error
        try:
            self._connects.fail(address, self._monotonic())
        except HubError as limited:
            return error if error.row.code in _WELL_SIGNED else limited
        return error

    def follow(self, tenant: str) -> None:
        """Count a channel that gets its first subscriber here.

        Raises:
            HubError: 4015.
        """
        self._quotas.open_channel(tenant)

    def unfollow(self, tenant: str) -> None:
        """Stop counting a channel that lost its last subscriber here."""
        self._quotas.close_channel(tenant)

    def charge(self, draft: Draft) -> None:
        """Charge an event about to be stored; called only while `is_metered`.

        Raises:
            HubError: 4004 or 4011.
        """
        if draft.lane is not Lane.EVENTS:
            return
        size_bytes = len(draft.data) + EVENT_BYTES
        self._left_bytes -= size_bytes
        if self._max_bytes and self._left_bytes < 0 and not self._quotas.is_reserve_open:
            self._quotas.open_reserve(int(self._max_bytes * TENANT_PART))
        self._quotas.publish(draft.channel.tenant, size_bytes, self._monotonic())

    def settle(self, draft: Draft, result: Appended | StreamsError | None) -> None:
        """Give back the charge of an event that was not stored, or had been stored before; charge for a new channel's keys."""
        if draft.lane is not Lane.EVENTS:
            return
        if not isinstance(result, Appended) or result.is_duplicate:
            self._quotas.take_back(draft.channel.tenant, len(draft.data) + EVENT_BYTES)
        elif result.is_first:
            self._quotas.begin_channel(draft.channel.tenant)

    def look_at_memory(self, used_bytes: int, max_bytes: int) -> bool:
        """Open the reserve when Redis is nearly full, and close it when there is room: no tenant fills it for the others.

        Between two looks the reserve is opened by what this node stores itself: a flood may fill a small Redis within a second.

        Returns:
            true when it was opened or closed since the last look.
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
        """True where the reserve is open, or may have to be opened before the next look."""
        return self._quotas.is_reserve_open or (self._max_bytes > 0 and self._left_bytes < NEAR_BYTES)

    @property
    def is_reserve_open(self) -> bool:
        """True while Redis's free memory is a reserve."""
        return self._quotas.is_reserve_open

    def _identified(self, connection: CountedConnection) -> None:
        if connection.is_pending:
            self._connects.identified(connection.address)
