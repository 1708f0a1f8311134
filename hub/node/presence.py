"""Reports presence of this node's sockets: joins at once, lost sockets after a grace period.

A socket that closes leaves its channels 10 s later, unless the same client has reconnected before, so that a short
disconnect is not shown. If a node dies, its lease expires within 8 s and any other node makes its devices leave, so
that everybody knows within 15 s. That holds even if Redis lost the lease before (FLUSHALL, a failover): devices whose
node has no lease are removed.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections.abc import Mapping
from typing import Final, Literal

from hub.ports import ClientConnection
from streams.channel import Channel, Kind
from streams.errors import StreamsError
from streams.loops import Loop
from streams.records.presence import FOLLOWED_S, LEASE_MS, MemberStatus, PresenceChange, PresenceStore, Share
from streams.redis.log import Log

GRACE_S: Final = 10.0
RENEW_EVERY_S: Final = 2.5
STATUS_ENDS_EVERY_S: Final = 1.0
FOLLOW_EVERY_S: Final = FOLLOWED_S / 3
"""Seconds between two reports of the channels whose presence is followed here."""
FLUSH_EVERY_S: Final = 0.02
"""Seconds for which changes are collected: thousands of joins after a deploy become a few script calls."""

_log = logging.getLogger(__name__)
_Place = tuple[Channel, str, str]  # channel, user, client id


class PresenceTracker:
    """Turns subscriptions into devices that join and leave."""

    def __init__(self, log: Log, node: str, *, grace_s: float = GRACE_S) -> None:
        self.store = PresenceStore(log)
        self._node = node
        self._grace_s = grace_s
        self._numbers = itertools.count(1)
        self._here: dict[tuple[ClientConnection, Channel], str] = {}
        self._vanished: dict[_Place, tuple[str, Channel, asyncio.TimerHandle]] = {}
        self._statuses: dict[str, dict[str, PresenceChange]] = {}
        self._changes: list[PresenceChange] = []
        self._waiters: list[asyncio.Future[None]] = []
        self._is_due = asyncio.Event()
        self._log = log
        self._loops: list[Loop] = []
        self._steady_since: float | None = None
        self._unleased_since: dict[str, float] = {}
        self._share = Share()
        self._followed: set[Channel] = set()
        self._told_since = log.connect_count
        self._must_replace = False
        self._unsettled_since: float | None = None

    @property
    def lag_s(self) -> float:
        """Age of the oldest change that is not reported yet, in seconds; 0 if all are."""
        return 0.0 if self._unsettled_since is None else time.monotonic() - self._unsettled_since

    async def start(self) -> None:
        """Takes the node's lease and starts reporting presence."""
        self._share = (await self.store.renew(self._node, wants_dead=False)).share
        self._steady_since = time.monotonic()
        loops = self._log.loops
        self._loops = [
            loops.keep("presence", self._tell_always),
            loops.every("presence_lease", self._live, RENEW_EVERY_S),
            loops.every("status_ends", self._end_statuses, STATUS_ENDS_EVERY_S),
            loops.every("presence_followed", self._follow_all, FOLLOW_EVERY_S),
        ]

    async def stop(self) -> None:
        """Stops reporting presence and releases the lease, so that other nodes make the remaining devices leave."""
        await self._log.loops.stop(*self._loops)
        for _, _, timer in self._vanished.values():
            timer.cancel()
        try:
            await self.store.forget(self._node)
        except StreamsError as error:
            _log.info("the node's lease was not released and will expire: %s", error)

    def is_followed(self, channel: Channel) -> bool:
        """True if the presence in a channel is followed here, as Redis knows."""
        return channel in self._followed

    async def follow(self, channel: Channel) -> None:
        """Has the presence in a channel told; call it before the channel is read.

        Raises:
            LogUnavailable: Redis is unreachable.
        """
        if channel not in self._followed:
            await self.store.follow([channel])
            self.followed(channel)

    def followed(self, channel: Channel) -> None:
        """Keeps the presence in a channel told until `unfollow`; call it when a subscriber has begun to follow it."""
        self._followed.add(channel)

    def unfollow(self, channel: Channel) -> None:
        """Stops having the presence in a channel told, after a while: nobody here follows it any more."""
        self._followed.discard(channel)

    async def _follow_all(self) -> None:
        await self.store.follow(self._followed)

    def joined(self, connection: ClientConnection, channel: Channel) -> None:
        """Reports that a connection follows a channel."""
        caller = connection.session.caller
        if channel.kind is Kind.USER or (connection, channel) in self._here or caller is None:
            return
        if (
            caller.principal.scope is not None
        ):  # who reads by a scope is recorded in system:operators, and takes no part
            return
        place = _place(connection, channel)
        if (back := self._vanished.pop(place, None)) is not None:
            back[2].cancel()
            self._here[(connection, channel)] = back[0]
            return
        device = f"{self._node}.{next(self._numbers)}"
        self._here[(connection, channel)] = device
        self._change(PresenceChange("join", channel, device, place[1], place[2]))

    def left(self, connection: ClientConnection, channel: Channel) -> None:
        """Reports that a client left a channel on request."""
        device = self._here.pop((connection, channel), None)
        if device is not None:
            self._leave(device, channel, connection.session.principal.user)

    def vanished(self, connection: ClientConnection, channel: Channel) -> None:
        """Reports that a connection was lost, unless its client is back within the grace period."""
        device = self._here.pop((connection, channel), None)
        if device is None:
            return
        place = _place(connection, channel)
        if (former := self._vanished.pop(place, None)) is not None:
            former[2].cancel()
            self._leave(former[0], channel, place[1])
        timer = asyncio.get_running_loop().call_later(self._grace_s, self._gone, place, channel)
        self._vanished[place] = (device, channel, timer)

    def changed(self, connection: ClientConnection, channel: Channel, status: str) -> None:
        """Reports a user's status in a channel."""
        self._set_status("status", connection, channel, status)

    async def member_changed(self, connection: ClientConnection, channel: Channel, status: MemberStatus) -> None:
        """Reports the status of a team's member; returns once it is stored.

        Raises:
            LogUnavailable: Redis is unreachable; the status is reported once it is back.
        """
        if not self._set_status("member", connection, channel, status.kept):
            return
        told: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(told)
        await told

    def _set_status(
        self, operation: Literal["status", "member"], connection: ClientConnection, channel: Channel, value: str
    ) -> bool:
        device = self._here.get((connection, channel))
        if device is None:
            return False
        change = PresenceChange(operation, channel, device, connection.session.principal.user, value)
        said = self._statuses.pop(device, {})  # inserted again: the newest is last
        self._statuses[device] = said | {operation: change}
        self._change(change)
        return True

    def _gone(self, place: _Place, channel: Channel) -> None:
        device, _, _ = self._vanished.pop(place)
        self._leave(device, channel, place[1])

    def _leave(self, device: str, channel: Channel, user: str) -> None:
        self._statuses.pop(device, None)
        self._change(PresenceChange("leave", channel, device, user))

    def _change(self, change: PresenceChange) -> None:
        self._changes.append(change)
        self._set_due()

    async def _tell_always(self) -> None:
        while True:
            await self._is_due.wait()
            await asyncio.sleep(FLUSH_EVERY_S)
            self._is_due.clear()
            if self._must_replace:
                await self._replace()
            changes, self._changes = self._changes, []
            waiters, self._waiters = self._waiters, []
            try:
                await self.store.apply(self._node, changes)
            except BaseException as error:
                self._changes = changes + self._changes
                self._replace_soon()
                _answer(waiters, error)
                raise
            _answer(waiters, None)
            if not self._is_due.is_set():
                self._unsettled_since = None

    def _set_due(self) -> None:
        if self._unsettled_since is None:
            self._unsettled_since = time.monotonic()
        self._is_due.set()

    def _replace_soon(self) -> None:
        """Schedules a comparison of what was reported with the sockets here, which finds joins and leaves.

        Of the waiting changes only statuses are kept.
        """
        here = set(self._here.values())
        statuses = {
            (c.device, c.operation): c
            for c in self._changes
            if c.operation not in {"join", "leave"} and c.device in here
        }
        self._changes = list(statuses.values())
        self._must_replace = True
        self._set_due()

    async def _replace(self) -> None:
        """Corrects what this node has reported to match its sockets.

        Changes that arrive meanwhile are reported afterwards.
        """
        self._must_replace = False
        failure: StreamsError | None = None
        try:
            for partition in range(self._log.keys.partitions):
                try:
                    told = await self.store.told(self._node, partition)
                    await self.store.apply(self._node, self._differences(partition, told))
                except StreamsError as error:  # the partitions on other servers of a Cluster are corrected
                    failure = error
            if failure is not None:
                raise failure
        except BaseException as error:
            self._replace_soon()
            waiters, self._waiters = self._waiters, []
            _answer(waiters, error)
            raise

    def _differences(self, partition: int, told: Mapping[tuple[str, Channel], str]) -> list[PresenceChange]:
        here = {(device, channel): _place(connection, channel) for (connection, channel), device in self._here.items()}
        here |= {(device, channel): place for place, (device, channel, _) in self._vanished.items()}
        of = self._log.keys.of
        changes: list[PresenceChange] = []
        joined: set[str] = set()
        for (device, channel), (_, user, client) in here.items():
            if of(channel).partition == partition and (device, channel) not in told:
                changes.append(PresenceChange("join", channel, device, user, client))
                joined.add(device)
        # In the order in which they were set: of a person's several devices, the one that set it last determines the status.
        changes += [said for device, several in self._statuses.items() if device in joined for said in several.values()]
        changes += [
            PresenceChange("leave", channel, device, user)
            for (device, channel), user in told.items()
            if (device, channel) not in here
        ]
        return changes

    async def _end_statuses(self) -> None:
        await self.store.end_statuses(self._node, self._share_of_turn(STATUS_ENDS_EVERY_S))

    def _share_of_turn(self, every_s: float) -> list[int]:
        """The partitions that are this node's to look at now, by Redis's clock, which all nodes share."""
        turn = int(self._log.now_ms() / 1_000 / every_s)
        return self._share.partitions(self._log.keys.partitions, turn)

    async def _live(self) -> None:
        try:  # first, so that nothing else costs the node its lease
            await self._renew()
        except Exception:
            self._steady_since = None
            raise
        count = self._log.connect_count
        if self._told_since != count:  # after a reconnect Redis may have lost what was reported
            self._told_since = count  # a partition that is away raises it again once it is back
            try:
                await self._follow_all()
            finally:  # a partition that is away holds up no others
                self._replace_soon()

    async def _renew(self) -> None:
        # After an outage of Redis every lease has ended: reap nobody before the others could renew theirs.
        is_steady = self._steady_since is not None and time.monotonic() - self._steady_since > LEASE_MS / 1000
        had_lease, self._share, dead = await self.store.renew(self._node, wants_dead=is_steady)
        if self._steady_since is None:
            self._steady_since = time.monotonic()
        if not had_lease:  # the lease was lost, and other nodes may have removed our devices
            self._replace_soon()
        for node in (*dead, *await self._unleased(is_steady=is_steady)):
            count = await self.store.reap(node)
            _log.info("node %s is dead; %d of its devices were removed", node, count)

    async def _unleased(self, *, is_steady: bool) -> list[str]:
        """Returns the nodes whose lease ended longer ago than a lease lasts: a live node would have renewed it by now."""
        now_s = time.monotonic()
        everywhere = range(self._log.keys.partitions)
        # Once one is found, it is looked for in all partitions until it is certain.
        looked_at = everywhere if self._unleased_since else self._share_of_turn(RENEW_EVERY_S)
        found = await self.store.unleased(looked_at)
        self._unleased_since = {node: self._unleased_since.get(node, now_s) for node in found}
        return [
            node for node, since_s in self._unleased_since.items() if is_steady and now_s - since_s > LEASE_MS / 1000
        ]


def _place(connection: ClientConnection, channel: Channel) -> _Place:
    caller = connection.session.caller
    if caller is None:
        raise ValueError("only an established session is present anywhere")
    return (channel, caller.principal.user, caller.client_id or "")


def _answer(waiters: list[asyncio.Future[None]], error: BaseException | None) -> None:
    for waiter in waiters:
        if waiter.done():  # its socket has closed
            continue
        if error is None:
            waiter.set_result(None)
        elif isinstance(error, Exception):
            waiter.set_exception(error)
        else:
            waiter.cancel()
