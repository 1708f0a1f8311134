"""The deadlines of connections: for the handshake, heartbeats and the token's expiry, all in one timer wheel."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final, Generic, TypeVar

from hub.auth.verifier import Verifier
from hub.config import Settings
from hub.errors import HubError
from hub.node.connection import Connection
from hub.ports import Clock
from hub.protocol.commands import Caller
from hub.protocol.replies import reply
from streams.json_bytes import to_json

EXPIRY_NOTICE_S: Final = 60.0
"""Seconds before the token expires at which `connection.expiring` is sent."""
AGAIN_S: Final = 1.0
"""Seconds until a connection is checked again after its check raised an exception."""
LATE_TICKS: Final = 2
"""Ticks after which a check comes so late that the node must have stood still.

What its clients sent meanwhile still lies in the sockets: such a check finds nobody silent, and the next one looks again.
"""

T = TypeVar("T")


class DeadlineWheel(Generic[T]):
    """Items by the tick in which they are due. An item is returned once; to be returned again it must be put back.

    Args:
        tick_s: the resolution in seconds; an item is returned up to one tick late, never early.
    """

    def __init__(self, tick_s: float) -> None:
        self.tick_s = tick_s
        self._slots: dict[int, list[T]] = {}
        self._next_slot: int | None = None

    def put(self, item: T, at_s: float) -> None:
        """Schedules `item` for the time `at_s`; a time in the past means the next tick."""
        slot = int(at_s / self.tick_s) + 1
        if self._next_slot is not None:
            slot = max(slot, self._next_slot)
        self._slots.setdefault(slot, []).append(item)

    def due(self, now_s: float) -> list[T]:
        """Returns every item whose time has come, each once."""
        last = int(now_s / self.tick_s)
        first = self._next_slot if self._next_slot is not None else min(self._slots, default=last)
        self._next_slot = last + 1
        if last - first > len(self._slots):  # the clock jumped: visit only the slots that exist
            slots = sorted(slot for slot in self._slots if slot <= last)
        else:
            slots = [slot for slot in range(first, last + 1) if slot in self._slots]
        return [item for slot in slots for item in self._slots.pop(slot)]


class Deadlines:
    """The deadlines of one node's connections.

    Args:
        settings: the timeouts.
        verifier: checks the tokens again.
        clock: the node's clocks.
        connections: the open ones; the wheel may return others, which are ignored.
    """

    def __init__(
        self, settings: Settings, verifier: Verifier, clock: Clock, connections: Collection[Connection]
    ) -> None:
        self._verifier = verifier
        self._clock = clock
        self._connections = connections
        self._handshake_s, self._silence_s = settings.handshake_timeout_s, 2 * settings.heartbeat_interval_s
        tick_s = min(1.0, settings.heartbeat_interval_s / 4, settings.handshake_timeout_s / 4)
        self._wheel: DeadlineWheel[Connection] = DeadlineWheel(tick_s)
        self._looked_at = clock.monotonic()

    def add(self, connection: Connection) -> None:
        """Watches a new connection, which must authenticate in time."""
        self._look_at(connection, connection.opened_at + self._handshake_s)

    def _look_at(self, connection: Connection, at_s: float) -> None:
        """Sets the time of a connection's next check. Its older entries in the wheel are ignored when they come due.

        Otherwise every refresh of a token would add one more entry that is put back again and again.
        """
        connection.look_next(at_s)
        self._wheel.put(connection, at_s)

    def look_soon(self, connection: Connection) -> None:
        """Checks a connection with the next tick, because its token has changed."""
        connection.expiry_told(False)
        if connection.look_at > (now := self._clock.monotonic()):
            self._look_at(connection, now)

    @property
    def tick_s(self) -> float:
        """The pause in seconds between two checks."""
        return self._wheel.tick_s

    async def look(self) -> None:
        """Checks each connection whose next deadline has come."""
        now = self._clock.monotonic()
        is_late = now - self._looked_at >= LATE_TICKS * self.tick_s
        self._looked_at = now
        failures: list[Exception] = []
        for connection in self._wheel.due(now):
            if connection.look_at <= now and connection in self._connections:
                try:
                    self._check(connection, now, is_late)
                except Exception as error:  # a failure with one connection must not leave the others unwatched
                    failures.append(error)
                    self._look_at(connection, now + AGAIN_S)
        if failures:
            raise failures[0]

    def _check(self, connection: Connection, now: float, is_late: bool) -> None:
        caller = connection.session.caller
        if caller is None:
            limit_at, error = connection.opened_at + self._handshake_s, (4008, "connection.init did not arrive in time")
        else:
            limit_at, error = connection.heard_at + self._silence_s, (4016, "no message for two heartbeat intervals")
        if now >= limit_at and not is_late:
            connection.fail(HubError(*error))
            return
        left_s = max(limit_at - now, self.tick_s)
        self._look_at(
            connection, now + (left_s if caller is None else min(left_s, self._check_token(connection, caller)))
        )

    def _check_token(self, connection: Connection, caller: Caller) -> float:
        """Warns the client before its token expires, or closes the connection; returns the seconds until the next check."""
        now = self._clock.now()
        try:
            self._verifier.recheck(caller.principal, now)
        except HubError as error:
            connection.fail(error)
            return 1.0
        left_s = caller.principal.expires_at - now
        if left_s > EXPIRY_NOTICE_S:
            return left_s - EXPIRY_NOTICE_S
        if not connection.is_expiry_told:
            connection.expiry_told(True)
            connection.send(reply("connection.expiring", None, None, to_json({"in_ms": int(left_s * 1000)})))
        return left_s
