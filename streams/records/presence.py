"""Presence, kept beside a channel's log: devices by node, people by device, the nodes' leases, and how far each person has read.

It knows devices and nodes, not sockets; the edge says when a device comes or goes.
"""

from __future__ import annotations

import asyncio
import json
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
from streams.redis.looks import KeyRead
from streams.redis.wire import Reply

PRESENCE: Final = load("presence")
PROCESS_LEASE: Final = load("process_lease")
LEASE_MS: Final = 8_000
"""Life of a node's lease. A shorter one drops the people of a node that only stalled; a longer one
keeps a dead node's beyond the promised 15 s."""
BATCH_CHANGES: Final = 200
SCAN_COUNT: Final = 1_000
LISTED_MAX: Final = 200
"""People named in a snapshot; a larger channel shows their number."""


VISIT_S: Final = 300
"""The longest a member's status lasts without a device that shows it."""


class PresenceChange(NamedTuple):
    """One device that comes, goes, or sets its person's status; a "visit" sets it without a device.

    Attributes:
        value: the client for a join, the status for a status, `MemberStatus.kept` for a member or a visit.
    """

    operation: Literal["join", "leave", "status", "member", "visit"]
    channel: Channel
    device: str
    user: str
    value: str = ""


class Present(NamedTuple):
    """One person in a channel."""

    user: str
    status: str
    devices: int


class MemberStatus(NamedTuple):
    """A team member's status, as the member gave it.

    Attributes:
        until: its end, in ms since 1970; 0 for none.
        rest: the payload's other fields, as they are sent out.
    """

    status: str
    until_ms: int
    rest: Mapping[str, str]

    @property
    def kept(self) -> str:
        """The form it is stored in (scripts/presence.lua)."""
        return f"{self.status} {self.until_ms} {to_json(self.rest).decode()}"

    def is_over(self, now_ms: int) -> bool:
        """True once its end has passed."""
        return 0 < self.until_ms <= now_ms

    def hides(self, now_ms: int) -> bool:
        """True while others must not see the member."""
        return self.status == "invisible" and not self.is_over(now_ms)


class PresenceStore:
    """Presence of all channels."""

    def __init__(self, log: Log, limits: Limits = DEFAULT_LIMITS) -> None:
        self._limits = limits
        self._log = log
        self._keys = log.keys
        self._nodes = log.calls_at(NODES)

    async def apply(self, node: str, changes: Iterable[PresenceChange]) -> None:
        """Carry out changes of one node's devices. Repeating them changes nothing.

        Raises:
            LogUnavailable, CommandRefused: some may have been carried out.
        """
        by_partition: dict[int, list[PresenceChange]] = {}
        for change in changes:
            by_partition.setdefault(self._keys.of(change.channel).partition, []).append(change)
        failure: Exception | None = None
        for partition, several in by_partition.items():
            try:
                for start in range(0, len(several), BATCH_CHANGES):
                    await self._apply(node, partition, several[start : start + BATCH_CHANGES])
            except (StreamsError, CommandRefused) as error:  # what one partition refuses must not hold up the others
                failure = error
        if failure is not None:
            raise failure

    async def told(self, node: str, partition: int) -> dict[tuple[str, Channel], str]:
        """The devices a node has reported in a partition, each with its channel and user."""
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
        """Reads, sent with a look, of the people in the channel and, in a team, their statuses; `people_of` reads the answers."""
        people = KeyRead(self._keys.people(channel), "HGETALL", (LISTED_MAX,))
        if channel.kind is not Kind.TEAM:
            return (people,)
        return (people, KeyRead(self._keys.statuses(channel), "HGETALL"))

    async def people(self, channel: Channel, now_ms: int) -> list[Present] | int:
        """The people in the channel except the invisible; only their number when they are more than 200."""
        sight = await self._log.replay.sight(channel, None, self.key_reads(channel))
        return people_of(sight.answers, now_ms)

    async def members(
        self, channel: Channel, answers: Sequence[Reply], now_ms: int, names: Iterable[str]
    ) -> list[dict[str, object]]:
        """The team's members, sorted by name: those in `names` and those with a status; at most 200.

        An expired status becomes `online` again if the member has a device. A member who is absent or
        invisible is `offline`, and listed only if named.

        Args:
            channel: a team.
            answers: to its `key_reads`.
            now_ms: the clock by which statuses expire.
            names: the members that the team's settings name.
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

    async def renew(self, node: str, *, wants_dead: bool) -> tuple[bool, list[str]]:
        """Renew the node's lease. Returns True if it had not ended meanwhile, and the nodes whose lease has."""
        reply = await self._nodes.run(PROCESS_LEASE, (NODES,), node, LEASE_MS, "told" if wants_dead else "")
        return bool(reply[0]), [name.decode() for name in reply[2:]]

    async def unleased(self) -> set[str]:
        """The nodes that have devices here but no lease, not even an expired one: whatever destroyed it left their devices."""
        partitions = range(self._keys.partitions)
        told = await asyncio.gather(
            *(self._log.calls_in(at).call("SMEMBERS", self._keys.nodes(at)) for at in partitions)
        )
        leased = await self._nodes.call("ZRANGE", NODES, 0, -1)  # read last: a node takes its lease before it tells
        return {name.decode() for name in set[bytes]().union(*told).difference(leased)}

    async def reap(self, node: str) -> int:
        """Make the devices of a dead node leave. Returns their number. Two reapers do no harm."""
        count = 0
        for partition in range(self._keys.partitions):
            told = await self.told(node, partition)
            changes = [PresenceChange("leave", channel, device, user) for (device, channel), user in told.items()]
            await self.apply(node, changes)
            count += len(changes)
        await self._nodes.call("ZREM", NODES, node)
        return count

    async def forget(self, node: str) -> None:
        """End a node's lease now: the other nodes reap it at their next renewal."""
        await self._nodes.call("ZADD", NODES, 0, node)


def people_of(answers: Sequence[Reply], now_ms: int) -> list[Present] | int:
    """The people in a channel except the invisible, from the answers to its `key_reads`; their number when over 200."""
    people, *rest = answers
    if isinstance(people, int):
        return people
    found = [_present(user, value) for user, value in text_pairs(people).items()]
    hidden = {user for raw in rest for user, said in _statuses(raw).items() if said.hides(now_ms)}
    return sorted(person for person in found if person.user not in hidden)


def _statuses(raw: Sequence[Reply]) -> dict[str, MemberStatus]:
    return {user: _read_status(value) for user, value in text_pairs(raw).items()}


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
"""A channel nobody reads for three months forgets who read how far."""


def marking(channel: Channel, user: str, up_to: str) -> Guard:
    """The guard that keeps the mark with the live entry that announces it; refused where the mark stands there or further."""
    return Guard(_marks_guard(channel), checks=((user, "newer", up_to),), sets=((user, up_to),), ttl_s=MARKS_TTL_S)


class ReadMarks:
    """Reads the marks. Every method raises LogUnavailable while Redis is unreachable."""

    def __init__(self, log: Log) -> None:
        self._log = log

    def key_read(self, channel: Channel) -> KeyRead:
        """A read, sent with a look, of the event each user has read up to: pairs of user and ID."""
        return KeyRead(self._key(channel), "HGETALL")

    def _key(self, channel: Channel) -> bytes:
        return self._log.keys.guard(channel, _marks_guard(channel))


def _marks_guard(channel: Channel) -> str:
    return f"marks:{channel.wire}"
