"""Presence in channels: devices by node, people by device, leases of nodes, and read positions. All are kept beside the log.

This module knows devices and nodes but no sockets; the hub reports when a device joins or leaves.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Literal, NamedTuple

from streams.channel import Channel, Kind, channel_from_path
from streams.envelope import Guard
from streams.errors import CommandRefused, StreamsError
from streams.json_bytes import to_json
from streams.records.scripts import load
from streams.redis.calls import pairs, text_pairs
from streams.redis.keys import DEFAULT_LIMITS, NODES, Limits
from streams.redis.log import Log
from streams.redis.sights import KeyRead
from streams.redis.wire import Reply

PRESENCE: Final = load("presence")
PROCESS_LEASE: Final = load("process_lease")
LEASE_MS: Final = 8_000
"""Lifetime of a node's lease. With a shorter one, the people of a node that merely stalls disappear; with a longer one, those
of a dead node stay beyond the promised 15 s.
"""
BATCH_CHANGES: Final = 200
SCAN_COUNT: Final = 1_000
LISTED_MAX: Final = 200
"""Maximum number of people listed in a snapshot; for a larger channel only their number is given."""

_UNESCAPED: Final = re.compile(rb"[A-Za-z0-9_.@|+~ -]*")
"""Texts that JSON writes as they are: names of users (`NAME_PATTERN`), statuses and numbers."""

FOLLOWED_S: Final = 900
"""Time for which presence is told after somebody began to follow it, or said so again; as long as a live lane is kept."""
VISIT_S: Final = 300
"""Maximum time for which a member's status is kept without a connected device."""


class PresenceChange(NamedTuple):
    """A device that joins, leaves or sets its person's status. A "visit" sets the status without a device.

    Attributes:
        value: the client ID for a join, the status for a status, `MemberStatus.kept` for a member or a visit.
    """

    operation: Literal["join", "leave", "status", "member", "visit", "over"]
    channel: Channel
    device: str
    user: str
    value: str = ""


class Present(NamedTuple):
    """A person in a channel."""

    user: str
    status: str
    devices: int


class MemberStatus(NamedTuple):
    """A team member's status, as the member set it.

    Attributes:
        until_ms: its end, in milliseconds since 1970; 0 for none.
        rest: the payload's other fields, as they are sent.
    """

    status: str
    until_ms: int
    rest: Mapping[str, str]

    @property
    def kept(self) -> str:
        """The form in which scripts/presence.lua stores it."""
        return f"{self.status} {self.until_ms} {to_json(self.rest).decode()}"

    def is_over(self, now_ms: int) -> bool:
        """True if its end has passed."""
        return 0 < self.until_ms <= now_ms

    def hides(self, now_ms: int) -> bool:
        """True while the member is invisible to others."""
        return self.status == "invisible" and not self.is_over(now_ms)


class Share(NamedTuple):
    """A node's share of what any node may do, so that many nodes together ask Redis as often as one would alone.

    Attributes:
        before: number of living nodes that come before this one.
        nodes: number of living nodes.
    """

    before: int = 0
    nodes: int = 1

    def partitions(self, count: int, turn: int) -> list[int]:
        """The partitions to look at in a turn. Each is one node's, and another's in the next turn: a dead node delays it once."""
        return [at for at in range(count) if (at + turn) % self.nodes == self.before]


class Renewed(NamedTuple):
    """The renewal of a node's lease.

    Attributes:
        had_lease: false if it had expired and was removed.
        share: the node's share among the living ones.
        dead: the nodes whose lease has expired.
    """

    had_lease: bool
    share: Share
    dead: list[str]


class PresenceStore:
    """Presence in all channels."""

    def __init__(self, log: Log, limits: Limits = DEFAULT_LIMITS) -> None:
        self._limits = limits
        self._log = log
        self._keys = log.keys
        self._nodes = log.calls_at(NODES)

    async def apply(self, node: str, changes: Iterable[PresenceChange]) -> None:
        """Apply join, leave and status changes of one node's devices. Repeating them has no further effect.

        Raises:
            LogUnavailable, CommandRefused: some changes may have been applied.
        """
        by_partition: dict[int, list[PresenceChange]] = {}
        for change in changes:
            by_partition.setdefault(self._keys.of(change.channel).partition, []).append(change)
        failure: Exception | None = None
        for partition, several in by_partition.items():
            try:
                for start in range(0, len(several), BATCH_CHANGES):
                    await self._apply(node, partition, several[start : start + BATCH_CHANGES])
            except (StreamsError, CommandRefused) as error:  # an error in one partition must not hold up the others
                failure = error
        if failure is not None:
            raise failure

    async def follow(self, channels: Iterable[Channel]) -> None:
        """Have joins, leaves and statuses in these channels told for `FOLLOWED_S` from now on.

        Raises:
            LogUnavailable: a server is unreachable.
        """
        now_ms = self._log.now_ms()
        by_partition: dict[int, list[str | int]] = {}
        for channel in channels:
            members = by_partition.setdefault(self._keys.of(channel).partition, [])
            members += (now_ms + FOLLOWED_S * 1000, channel.path)
        failure: Exception | None = None
        for partition, members in by_partition.items():
            key, calls = self._keys.presence_followed(partition), self._log.calls_in(partition)
            try:
                await calls.pipeline(
                    [("ZADD", key, *members), ("ZREMRANGEBYSCORE", key, 0, now_ms), ("EXPIRE", key, FOLLOWED_S)]
                )
            except (StreamsError, CommandRefused) as error:  # the partitions on other servers of a Cluster are told
                failure = error
        if failure is not None:
            raise failure

    async def told(self, node: str, partition: int) -> dict[tuple[str, Channel], str]:
        """The devices that a node has reported in a partition: (device, channel) → user."""
        found: dict[tuple[str, Channel], str] = {}
        at: bytes | None = None
        while at != b"0":
            at, raw = await self._log.calls_in(partition).call(
                "HSCAN", self._keys.node(partition, node), at or b"0", "COUNT", SCAN_COUNT
            )
            for field, user in text_pairs(raw).items():
                device, _, path = field.partition(" ")
                found[device, channel_from_path(path)] = user
        return found

    async def _apply(self, node: str, partition: int, changes: list[PresenceChange]) -> None:
        keys: list[bytes] = [
            self._keys.bell(partition),
            self._keys.node(partition, node),
            self._keys.nodes(partition),
            self._keys.status_ends(partition),
            self._keys.presence_followed(partition),
        ]
        kept = self._limits
        prefix_bytes = len(self._keys.prefix(partition))
        args: list[str | bytes | int] = [
            kept.live_entries, kept.bell_entries, prefix_bytes, kept.live_ttl_s, VISIT_S, node,
        ]  # fmt: skip # in the script's order
        for c in changes:
            names = self._keys.of(c.channel)
            keys += [
                self._keys.people(c.channel),
                self._keys.devices(c.channel),
                names.live,
                self._keys.statuses(c.channel),
            ]
            args += [c.operation, c.device, c.user, c.value, c.channel.path]
        await self._log.calls_in(partition).run(PRESENCE, keys, *args)

    def key_reads(self, channel: Channel) -> tuple[KeyRead, ...]:
        """The commands that read the channel's users and, in a team, their statuses, for `Replay.sight`; see `people_of`."""
        people = KeyRead(self._keys.people(channel), "HGETALL", (LISTED_MAX,))
        if channel.kind is not Kind.TEAM:
            return (people,)
        return (people, KeyRead(self._keys.statuses(channel), "HGETALL"))

    async def people(self, channel: Channel, now_ms: int) -> list[Present] | int:
        """The people in the channel, without the invisible ones; only their number if they are more than 200."""
        sight = await self._log.replay.sight(channel, None, self.key_reads(channel))
        return people_of(sight.answers, now_ms)

    async def members(
        self, channel: Channel, answers: Sequence[Reply], now_ms: int, names: Iterable[str]
    ) -> list[dict[str, object]]:
        """The team's members, sorted by name: those in `names` and those with a status; at most 200.

        An expired status becomes `online` again if the member has a device. A member who is absent or invisible is `offline`,
        and listed only if in `names`.

        Args:
            channel: a team.
            answers: the answers to its `key_reads`.
            now_ms: the time at which statuses are evaluated.
            names: the members listed in the team's settings.
        """
        people, statuses, named = answers[0], _statuses(answers[1]), set(names)
        asked = sorted(named | statuses.keys())
        if not asked:
            return []
        if isinstance(people, int):
            held = await self._log.calls_of(channel).call("HMGET", self._keys.people(channel), *asked)
        else:
            here = pairs(people)
            held = [here.get(user.encode()) for user in asked]
        found: list[dict[str, object]] = []
        for user, value in zip(asked, held, strict=True):
            devices = _present(user, value.decode()).devices if value else 0
            shown = _member(user, devices, statuses.get(user), now_ms)
            if user in named or shown["status"] != "offline":
                found.append(shown)
        return found[:LISTED_MAX]

    async def renew(self, node: str, *, wants_dead: bool) -> Renewed:
        """Renew the node's lease."""
        reply = await self._nodes.run(PROCESS_LEASE, (NODES,), node, LEASE_MS, "told" if wants_dead else "")
        had_lease, living, before, *dead = reply
        return Renewed(bool(had_lease), Share(before, max(1, living)), [name.decode() for name in dead])

    async def end_statuses(self, node: str, partitions: Iterable[int]) -> None:
        """End the members' statuses whose time has passed, and announce it. Several nodes may do so at once.

        Raises:
            LogUnavailable: Redis is unreachable; the next call ends them.
        """
        now_ms = self._log.now_ms()
        due = await asyncio.gather(
            *(
                self._log.calls_in(at).call(
                    "ZRANGEBYSCORE", self._keys.status_ends(at), 0, now_ms, "LIMIT", 0, BATCH_CHANGES
                )
                for at in partitions
            )
        )
        ended = [member.decode().split(" ") for several in due for member in several]
        await self.apply(node, [PresenceChange("over", channel_from_path(path), "", user) for path, user in ended])

    async def unleased(self, partitions: Iterable[int]) -> set[str]:
        """The nodes that have devices in these partitions but no lease, not even an expired one, because Redis lost it."""
        told = await asyncio.gather(
            *(self._log.calls_in(at).call("SMEMBERS", self._keys.nodes(at)) for at in partitions)
        )
        if not any(told):
            return set()
        # Read last, because a node takes its lease before it reports devices.
        leased = await self._nodes.call("ZRANGE", NODES, 0, -1)
        return {name.decode() for name in set[bytes]().union(*told).difference(leased)}

    async def reap(self, node: str) -> int:
        """Remove the devices of a dead node. Returns their number. Two nodes may do this at the same time."""
        count = 0
        for partition in range(self._keys.partitions):
            told = await self.told(node, partition)
            changes = [PresenceChange("leave", channel, device, user) for (device, channel), user in told.items()]
            await self.apply(node, changes)
            count += len(changes)
        await self._nodes.call("ZREM", NODES, node)
        return count

    async def forget(self, node: str) -> None:
        """Expire a node's lease now: the other nodes remove its devices at their next renewal."""
        await self._nodes.call("ZADD", NODES, 0, node)


def people_of(answers: Sequence[Reply], now_ms: int) -> list[Present] | int:
    """Read the people in a channel, without the invisible ones, from the answers to `key_reads`; their number if over 200."""
    people, *rest = answers
    if isinstance(people, int):
        return people
    found = _people(people)
    hidden = {user for raw in rest for user, said in _statuses(raw).items() if said.hides(now_ms)}
    return [person for person in found if person.user not in hidden]


def people_json(raw: Sequence[bytes]) -> bytes:
    """The people in a channel that is no team as a JSON array, in the order of their names, from the answer to its `HGETALL`.

    It is rendered by joining bytes, because each of a hundred people who come back at once gets all of them.

    Raises:
        ValueError: somebody wrote a value that does not begin with a number.
    """
    if _UNESCAPED.fullmatch(b"".join(raw)) is None:  # the hub writes no such text
        return to_json([person._asdict() for person in _people(raw)])
    shown = []
    for user, value in sorted(zip(raw[::2], raw[1::2], strict=True)):
        devices, _, status = value.partition(b" ")
        shown.append(b'{"user":"%b","status":"%b","devices":%d}' % (user, status, int(devices)))
    return b"[" + b",".join(shown) + b"]"


def _statuses(raw: Sequence[Reply]) -> dict[str, MemberStatus]:
    return {user: _read_status(value) for user, value in text_pairs(raw).items()}


def _people(raw: Sequence[Reply]) -> list[Present]:
    return sorted(_present(user, value) for user, value in text_pairs(raw).items())


def _present(user: str, value: str) -> Present:
    devices, _, status = value.partition(" ")
    return Present(user, status, int(devices))


def _read_status(value: str) -> MemberStatus:
    status, until_ms, rest = value.split(" ", 2)
    return MemberStatus(status, int(until_ms), json.loads(rest))


def _member(user: str, devices: int, said: MemberStatus | None, now_ms: int) -> dict[str, object]:
    if said is not None and said.hides(now_ms):
        return {"user": user, "status": "offline", "devices": 0}
    if said is None or said.is_over(now_ms):
        return {"user": user, "status": "online" if devices else "offline", "devices": devices}
    message = {"message": said.rest["message"]} if "message" in said.rest else {}
    return {"user": user, "status": said.status, **message, "devices": devices}


MARKS_TTL_S: Final = 90 * 86_400
"""Lifetime of a channel's read positions after the last change: three months."""


def marking(channel: Channel, user: str, up_to: str) -> Guard:
    """The guard that stores a read position with the live event that announces it; refused if the stored one is not older."""
    return Guard(_marks_guard(channel), checks=((user, "newer", up_to),), sets=((user, up_to),), ttl_s=MARKS_TTL_S)


class ReadMarks:
    """Reads the read positions. Every method raises LogUnavailable while Redis is unreachable."""

    def __init__(self, log: Log) -> None:
        self._log = log

    def key_read(self, channel: Channel) -> KeyRead:
        """The command that reads each user's read position (pairs of user and event ID), for `Replay.sight`."""
        return KeyRead(self._key(channel), "HGETALL")

    def _key(self, channel: Channel) -> bytes:
        return self._log.keys.guard(channel, _marks_guard(channel))


def _marks_guard(channel: Channel) -> str:
    return f"marks:{channel.wire}"
