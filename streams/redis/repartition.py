"""Moves a log to another number of partitions while no node and no worker runs, so that it can be cut off anywhere and continued.

The new partitions have other hash tags than the old ones, so every key is in one place or the other and nothing is ever half
renamed. `MOVING`, a field of `CONFIG`, says how far the move has come; while it is there, no node and no worker starts:

1. `share`: what several channels share (directories, command ids, unfinished work, runs …) is written to the new partitions. All
   of it is read from the old ones, which stay as they are, so the step may be repeated.
2. `move`: every key of a channel is renamed. In a Cluster it is copied to its new slot under the name of a copy, deleted in the old
   one, and then given its name, so that a name in the new partitions is never overwritten.
3. `drop`: `CONFIG` names the new partitions, and the rest of the old ones is deleted.

Before `MOVING` is removed, channels and events are counted again.
"""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Final, NamedTuple, TypeVar

from streams.channel import Channel, Kind, channel_from_path
from streams.cursor import id_order
from streams.errors import CommandRefused, ConfigurationRefused
from streams.redis.calls import Calls, pairs, text_pairs
from streams.redis.key_owners import OF_PATHS, Owner, Shared, owner_of
from streams.redis.keys import CONFIG, MOVING, NODES, PARTITIONS_MAX, WORKERS, Keys, Servers, spread_tags
from streams.redis.locate import Locator
from streams.redis.server_check import kept_partitions, read_clock
from streams.redis.wire import Argument, Reply, open_wire

T = TypeVar("T")
PAGE: Final = 500
AT_ONCE: Final = 200
"""Keys that are renamed or looked at in one round trip."""
COPIES_AT_ONCE: Final = 4
"""Keys of a Cluster that are copied at the same time: each may be as large as the largest channel."""
_COPY: Final = "moving:"
"""Begins the name of a copy behind its new partition's prefix; the key that it is a copy of follows."""
_FOR_EVER: Final = -1
_GONE: Final = -2
"""Replies of PTTL for a key without an end, and for one that is not there."""
TELL_EVERY_KEYS: Final = 1_000
_RESTORE_TIMEOUT_S: Final = 120.0
"""Longest wait for the copy of one key; a channel of a million events is about 500 MB."""


@dataclass(frozen=True, slots=True)
class Move:
    """A repartition that has begun, as `CONFIG` keeps it.

    Attributes:
        step: `share`, `move` or `drop`.
        channels: number of channels when it began; `events`, of their events in Redis.
    """

    old: tuple[str, ...]
    new: tuple[str, ...]
    step: str
    channels: int
    events: int

    @classmethod
    def parse(cls, text: str) -> Move:
        """Parse the stored form."""
        raw = json.loads(text)
        return cls(**{**raw, "old": tuple(raw["old"]), "new": tuple(raw["new"])})

    def __str__(self) -> str:
        return json.dumps(asdict(self), separators=(",", ":"))


class Census(NamedTuple):
    """The keys of the old partitions.

    Attributes:
        channels: number of channels; `events`, of their events in Redis.
        unknown: some keys that this version does not know.
    """

    keys: int
    channels: int
    events: int
    unknown: list[str]


class PartitionKey(NamedTuple):
    """A key of a partition."""

    key: str
    partition: int
    owner: Owner

    @property
    def name(self) -> str:
        """Its name behind the partition's prefix."""
        return self.key.partition("}:")[2]


class Repartition:
    """Moves a log to `wanted` partitions.

    Args:
        url: REDIS_URL.
        wanted: the new number of partitions.
        tell: called with the step, the number of keys done in it, and their number, now and then.
    """

    def __init__(self, url: str, wanted: int, tell: Callable[[str, int, int], None]) -> None:
        self._locator = Locator(url)
        self._wanted = wanted
        self._tell = tell
        self._by_url: dict[str, Calls] = {}
        self._servers: Servers[Calls] | None = None
        self._one = Calls(partial(self._locator.open, "hub-repartition"))
        self._total = 0

    def close(self) -> None:
        """Close the connections."""
        for calls in (self._one, *self._by_url.values()):
            calls.close()

    async def plan(self) -> tuple[Move, Census]:
        """Read what is to be done, and change nothing. A repartition that was cut off is continued.

        Raises:
            ConfigurationRefused: there is no log, it has this number of partitions, another repartition was cut off, or
                nodes or workers run; or keys were found that this version does not know.
            LogUnavailable: Redis is unreachable.
        """
        if not 1 <= self._wanted <= PARTITIONS_MAX:
            raise ConfigurationRefused(f"the number of partitions is 1 to {PARTITIONS_MAX}")
        await self._connect()
        await self._require_nobody()
        config = self._calls(CONFIG)
        keys = await kept_partitions(config)
        if keys is None:
            raise ConfigurationRefused("there is no log in this Redis")
        if stored := await config.call("HGET", CONFIG, MOVING):
            move = Move.parse(stored.decode())
            if len(move.new) != self._wanted:
                begun = f"{len(move.old)} to {len(move.new)}"
                raise ConfigurationRefused(f"a repartition from {begun} was cut off: hub repartition {len(move.new)}")
        elif keys.partitions == self._wanted:
            raise ConfigurationRefused(f"the log has {self._wanted} partitions already")
        else:
            move = Move(keys.tags, spread_tags(self._wanted, unlike=frozenset(keys.tags)), "", 0, 0)
        census = await self._census(move)
        if census.unknown:
            named = ", ".join(census.unknown)
            raise ConfigurationRefused(f"this version does not know some keys and would lose them: {named}")
        return move, census

    async def carry_out(self) -> Move:
        """Do what `plan` says, from wherever it was cut off.

        Raises:
            ConfigurationRefused: as `plan`, or the new partitions do not hold what the old ones did.
            LogUnavailable: Redis is unreachable; call it again.
        """
        move, census = await self.plan()
        self._total = census.keys
        if not move.step:
            move = await self._note(replace(move, step="share", channels=census.channels, events=census.events))
            await self._require_nobody()  # nobody has started meanwhile, and nobody can from now on
        old, new = Keys(len(move.old), move.old), Keys(len(move.new), move.new)
        if move.step == "share":
            await _Sharing(self._calls, self._places, old, new).carry_out()
            move = await self._note(replace(move, step="move"))
        if move.step == "move":
            await self._move_all(old, new)
            await self._require_all(move, new)
            move = replace(move, step="drop")
            named = ("partitions", new.partitions, "tags", " ".join(new.tags), MOVING, str(move))
            await self._calls(CONFIG).call("HSET", CONFIG, *named)
        await self._drop(old)
        await self._require_all(move, new)
        await self._calls(CONFIG).call("HDEL", CONFIG, MOVING)
        return move

    async def _note(self, move: Move) -> Move:
        await self._calls(CONFIG).call("HSET", CONFIG, MOVING, str(move))
        return move

    async def _connect(self) -> None:
        if not self._locator.is_cluster:
            return
        slots = await self._locator.read_map()
        if slots.missing:
            raise ConfigurationRefused(f"{slots.missing} slots are served by nobody: `redis-cli --cluster check`")
        for held in slots.ranges:
            self._by_url.setdefault(held.url, Calls(partial(open_wire, held.url, "hub-repartition")))
        self._servers = Servers(Keys(1), [(held.first, self._by_url[held.url]) for held in slots.ranges])

    def _calls(self, key: str | bytes) -> Calls:
        return self._one if self._servers is None else self._servers.keeping(key)

    async def _require_nobody(self) -> None:
        running: list[str] = []
        for key in (NODES, WORKERS):
            now_ms = await read_clock(self._calls(key))
            found = await self._calls(key).call("ZRANGEBYSCORE", key, f"({now_ms}", "+inf", "LIMIT", 0, 10)
            running += [name.decode() for name in found]
        if running:
            raise ConfigurationRefused(
                f"still running: {', '.join(running)}; stop every node and worker (one that was killed counts for 10 s)"
            )

    async def _places(self, keys: Keys) -> AsyncIterator[PartitionKey | str]:
        """Every key of these partitions; one that this version does not know as text. Some may come twice."""
        numbers = {tag: number for number, tag in enumerate(keys.tags)}
        for calls in [self._one] if self._servers is None else [*self._servers]:
            cursor = b"0"
            while True:
                cursor, page = await calls.call("SCAN", cursor, "MATCH", "hub:{p*}:*", "COUNT", PAGE)
                for key in (raw.decode() for raw in page):
                    tag, _, name = key.removeprefix("hub:{").partition("}:")
                    if tag in numbers:
                        owner = owner_of(name)
                        yield key if owner is None else PartitionKey(key, numbers[tag], owner)
                if cursor == b"0":
                    break

    async def _census(self, move: Move) -> Census:
        old = Keys(len(move.old), move.old)
        count, unknown = 0, list[str]()
        async for found in self._places(old):
            count += 1
            if isinstance(found, str) and len(unknown) < 10:  # noqa: PLR2004 - as many as a line holds
                unknown.append(found)
        return Census(count, *await self._count(old), unknown)

    async def _count(self, keys: Keys) -> tuple[int, int]:
        """The channels of these partitions, and their events in Redis."""
        channels, events = set[str](), 0
        async for page in _paged(self._places(keys), AT_ONCE):
            fresh = {one.key for one in page if isinstance(one, PartitionKey) and _is_events(one)} - channels
            channels |= fresh
            events += sum(await asyncio.gather(*(self._calls(key).call("XLEN", key) for key in fresh)))
        return len(channels), events

    async def _require_all(self, move: Move, new: Keys) -> None:
        """Check that the new partitions have every channel and every event.

        Raises:
            ConfigurationRefused: they have not.
        """
        found = await self._count(new)
        if found != (move.channels, move.events):
            raise ConfigurationRefused(
                f"{move.channels} channels with {move.events} events were there, {found[0]} with {found[1]} are now; "
                "nothing was deleted that is not in the new partitions: keep this Redis as it is, and report it"
            )

    async def _move_all(self, old: Keys, new: Keys) -> None:
        done, seen = 0, 1
        if self._servers is not None:
            await self._name_copies(new)
        while seen:  # until a whole scan finds none: the keys change while it runs
            seen = 0
            async for page in _paged(self._places(old), AT_ONCE if self._servers is None else COPIES_AT_ONCE):
                own = {one.key: one for one in page if isinstance(one, PartitionKey) and one.owner.shared is None}
                seen += len(own)
                told, done = (
                    done,
                    done + sum(await asyncio.gather(*(self._move(one, new) for one in own.values()))),
                )
                if done // TELL_EVERY_KEYS > told // TELL_EVERY_KEYS:
                    self._tell("move", done, self._total)
        self._tell("move", done, done)

    async def _move(self, place: PartitionKey, new: Keys) -> int:
        calls, channel = self._calls(place.key), place.owner.channel
        if channel is None:
            path = await calls.call("HGET", place.key, "channel")
            if path is None:
                return 0  # it has expired
            channel = channel_from_path(path.decode())
        target = new.prefix(new.of(channel).partition) + place.name
        if self._servers is None:
            is_moved = await self._rename(place.key, target)
            if is_moved is False:
                raise _written_since(place.key, target)
            return int(bool(is_moved))
        life_ms, kept = await calls.pipeline([("PTTL", place.key), ("DUMP", place.key)])
        if kept is None or life_ms == _GONE:
            return 0
        at_target, copy = self._calls(target), _copy_of(place.key, target)
        if await at_target.call("EXISTS", target):
            raise _written_since(place.key, target)
        await at_target.call("RESTORE", copy, restored_life_ms(life_ms), kept, "REPLACE", timeout_s=_RESTORE_TIMEOUT_S)
        await calls.call("UNLINK", place.key)
        await self._name_copy(copy, target, place.key)
        return 1

    async def _name_copy(self, copy: str, target: str, key: str) -> None:
        """Give a copy its name, once its original is deleted; it may have expired."""
        if await self._rename(copy, target) is False:
            raise _written_since(key, target)

    async def _rename(self, key: str, target: str) -> bool | None:
        """Rename a key, within its slot or on one server; False if the target is there, None if the key is not."""
        try:
            return bool(await self._calls(key).call("RENAMENX", key, target))
        except CommandRefused as refused:
            if "no such key" not in str(refused):
                raise
            return None

    async def _name_copies(self, new: Keys) -> None:
        """Go on with the copies of a repartition that was cut off: those whose original is still there will be made again."""
        async for found in self._places(new):
            prefix, copied, key = found.partition(_COPY) if isinstance(found, str) else ("", "", "")
            if copied and not await self._calls(key).call("EXISTS", key):
                await self._name_copy(f"{prefix}{_COPY}{key}", prefix + key.partition("}:")[2], key)

    async def _drop(self, old: Keys) -> None:
        """Delete what is left in the old partitions: only what is shared, and was written to the new ones."""
        async for found in self._places(old):
            if isinstance(found, PartitionKey) and found.owner.shared is not None:
                await self._calls(found.key).call("UNLINK", found.key)


async def _paged(several: AsyncIterator[T], size: int) -> AsyncIterator[list[T]]:
    """Several at a time: their calls share round trips."""
    page: list[T] = []
    async for one in several:
        page.append(one)
        if len(page) == size:
            yield page
            page = []
    if page:
        yield page


def restored_life_ms(life_ms: int) -> int:
    """The life to restore a key with, given what PTTL said: RESTORE takes 0 for one that never expires."""
    return 0 if life_ms == _FOR_EVER else max(1, life_ms)


def _copy_of(key: str, target: str) -> str:
    """The name of a key's copy, in the slot of its target, while both are there."""
    return target[: target.index("}:") + 2] + _COPY + key


def _written_since(key: str, target: str) -> ConfigurationRefused:
    return ConfigurationRefused(
        f"a command wrote {key} after it was moved to {target}; nothing was overwritten: "
        "stop it, delete the newer key once it is not needed, and run `hub repartition` again"
    )


def _is_events(place: PartitionKey) -> bool:
    return place.owner.channel is not None and place.name == place.owner.channel.path


class _Sharing:
    """Writes what several channels share to the new partitions, from the old ones, which stay as they are."""

    def __init__(
        self,
        calls: Callable[[str | bytes], Calls],
        places: Callable[[Keys], AsyncIterator[PartitionKey | str]],
        old: Keys,
        new: Keys,
    ) -> None:
        self._calls, self._places, self._old, self._new = calls, places, old, new
        self._epochs: list[dict[bytes, set[int]]] = [defaultdict(set) for _ in range(old.partitions)]
        """By old partition: the new partitions of its channels, by the beginning of their epochs."""

    async def carry_out(self) -> None:
        """Write everything anew."""
        shared: dict[str, PartitionKey] = {}
        async for page in _paged(self._places(self._old), AT_ONCE):
            known = [one for one in page if isinstance(one, PartitionKey)]
            shared |= {one.key: one for one in known if one.owner.shared is not None}
            await asyncio.gather(*(self._note_epoch(one.key, one.partition, one.owner.channel) for one in known))
        stale = [one.key async for one in self._places(self._new) if isinstance(one, PartitionKey)]
        for key in stale:  # of an attempt that was cut off
            await self._calls(key).call("UNLINK", key)
        for place in shared.values():
            await self._copy(place)
        await self._divide_work(list(shared.values()))
        await self._divide_parked(list(shared.values()))

    async def _note_epoch(self, key: str, partition: int, channel: Channel | None) -> None:
        if channel is not None and key.endswith(f"}}:{channel.path}:meta"):
            epoch = await self._calls(key).call("HGET", key, "epoch") or b""
            self._epochs[partition][epoch[:8]].add(self._new.of(channel).partition)

    async def _copy(self, place: PartitionKey) -> None:
        match place.owner.shared:
            case Shared.DIRECTORY:
                kind = Kind(place.name.rpartition(":")[2])
                await self._copy_members(place, lambda name: Channel(place.owner.tenant, kind, name))
            case shared if shared in OF_PATHS:
                await self._copy_members(place, lambda member: channel_from_path(member.partition(" ")[0]))
            case Shared.DEVICES:
                await self._copy_devices(place)
            case Shared.COMMAND_IDS:
                await self._copy_command_ids(place)
            case Shared.LEASE:
                await self._raise_tokens(place)

    async def _copy_members(self, place: PartitionKey, channel_of: Callable[[str], Channel]) -> None:
        parts: dict[int, list[Argument]] = defaultdict(list)
        async for member, score in self._pages("ZSCAN", place.key):
            parts[self._new.of(channel_of(member.decode())).partition] += [score, member]
        await self._write("ZADD", parts, place)

    async def _copy_devices(self, place: PartitionKey) -> None:
        parts: dict[int, list[Argument]] = defaultdict(list)
        async for field, user in self._pages("HSCAN", place.key):
            channel = channel_from_path(field.decode().partition(" ")[2])
            parts[self._new.of(channel).partition] += [field, user]
        await self._write("HSET", parts, place)
        for number in parts:
            nodes = self._new.nodes(number)
            await self._calls(nodes).call("SADD", nodes, place.name.partition(":")[2])

    async def _copy_command_ids(self, place: PartitionKey) -> None:
        """Each command id goes where the channel of its event goes, or, if that is not known, with all channels of its partition.

        Of two commands with one id, which were in two partitions, the newer one is remembered.
        """
        by_epoch = self._epochs[place.partition]
        everywhere = set[int]().union(*by_epoch.values())
        parts: dict[int, dict[bytes, bytes]] = defaultdict(dict)
        async for field, answer in self._pages("HSCAN", place.key):
            for number in by_epoch.get(answer.split(b" ")[1], everywhere):
                parts[number][field] = answer
        for number, answers in parts.items():
            key, fields = self._new.prefix(number) + place.name, list(answers)
            for at in range(0, len(fields), PAGE):
                page = fields[at : at + PAGE]
                present = await self._calls(key).call("HMGET", key, *page)
                newer = [
                    part
                    for field, held in zip(page, present, strict=True)
                    if held is None or _order(held) < _order(answers[field])
                    for part in (field, answers[field])
                ]
                if newer:
                    await self._calls(key).call("HSET", key, *newer)
            await self._live_on(place.key, key)

    async def _raise_tokens(self, place: PartitionKey) -> None:
        """A lease's token only increases, for every partition that may take work of this one."""
        token = int(await self._calls(place.key).call("HGET", place.key, "token") or 0)
        for number in range(self._new.partitions):
            key = self._new.lease(number)
            if token > int(await self._calls(key).call("HGET", key, "token") or 0):
                await self._calls(key).call("HSET", key, "token", token)

    async def _write(self, command: str, parts: dict[int, list[Argument]], place: PartitionKey) -> None:
        for number, arguments in parts.items():
            key = self._new.prefix(number) + place.name
            for at in range(0, len(arguments), 2 * PAGE):
                await self._calls(key).call(command, key, *arguments[at : at + 2 * PAGE])
            await self._live_on(place.key, key)

    async def _live_on(self, source: str, target: str) -> None:
        """Give a key the life of its source, or a longer one that it has."""
        life_ms = int(await self._calls(source).call("PTTL", source))
        own_ms = int(await self._calls(target).call("PTTL", target))
        if life_ms > own_ms:
            await self._calls(target).call("PEXPIRE", target, life_ms)

    async def _pages(self, command: str, key: str) -> AsyncIterator[tuple[bytes, bytes]]:
        cursor = b"0"
        while True:
            cursor, raw = await self._calls(key).call(command, key, cursor, "COUNT", PAGE)
            for name, value in pairs(raw).items():
                yield name, value
            if cursor == b"0":
                return

    # work

    async def _divide_work(self, shared: Sequence[PartitionKey]) -> None:
        """Every piece of work that a group has not finished becomes new work of the channel's new partition, in its order."""
        names = await self._group_names(shared)
        waiting: dict[int, list[tuple[tuple[int, int], dict[str, str]]]] = defaultdict(list)
        groups = set[str]()
        for place in shared:
            if place.owner.shared is Shared.WORK:
                of_stream = await self._open_work(place.key)
                groups |= of_stream.keys()
                async for entry_id, fields in self._entries(place.key):
                    number = self._new.of(channel_from_path(fields["channel"])).partition
                    for work in _unfinished(entry_id, fields, of_stream):
                        waiting[number].append((id_order(entry_id), work))
        for number in range(self._new.partitions):
            key, made = self._new.work(number).decode(), self._new.groups(number)
            for group in sorted(groups):
                await self._calls(key).call("XGROUP", "CREATE", key, group, "0", "MKSTREAM")
            if names:
                await self._calls(made).call("SADD", made, *sorted(names))
            for _, work in sorted(waiting[number], key=lambda one: one[0]):
                await self._calls(key).call("XADD", key, "*", *(part for pair in work.items() for part in pair))

    async def _group_names(self, shared: Iterable[PartitionKey]) -> set[str]:
        """The groups that were ever created; the mark of one that has read the history only where all partitions have it."""
        found = [
            {name.decode() for name in await self._calls(place.key).call("SMEMBERS", place.key)}
            for place in shared
            if place.owner.shared is Shared.GROUPS
        ]
        everywhere = set[str].intersection(*found) if len(found) == self._old.partitions else set[str]()
        return {name for one in found for name in one if not name.endswith(":history") or name in everywhere}

    async def _open_work(self, key: str) -> dict[str, tuple[tuple[int, int], set[str]]]:
        """For each group of a work stream: the last entry that it was given, and those that it has not finished."""
        found: dict[str, tuple[tuple[int, int], set[str]]] = {}
        for raw in await self._calls(key).call("XINFO", "GROUPS", key):
            group = pairs(raw)
            name, last = group[b"name"].decode(), group[b"last-delivered-id"].decode()
            pending, start = set[str](), "-"
            while rows := await self._calls(key).call("XPENDING", key, name, start, "+", PAGE):
                pending |= {row[0].decode() for row in rows}
                start = f"({rows[-1][0].decode()}"
            found[name] = (id_order(last), pending)
        return found

    async def _entries(self, key: str) -> AsyncIterator[tuple[str, dict[str, str]]]:
        start = "-"
        while page := await self._calls(key).call("XRANGE", key, start, "+", "COUNT", PAGE):
            for raw_id, fields in page:
                yield raw_id.decode(), text_pairs(fields)
            start = f"({page[-1][0].decode()}"

    async def _divide_parked(self, shared: Iterable[PartitionKey]) -> None:
        parked: dict[int, list[tuple[tuple[int, int], dict[str, str]]]] = defaultdict(list)
        for place in shared:
            if place.owner.shared is Shared.PARKED:
                async for entry_id, fields in self._entries(place.key):
                    number = self._new.of(channel_from_path(fields["channel"])).partition
                    parked[number].append((id_order(entry_id), fields))
        for number, entries in parked.items():
            key, last = self._new.parked(number).decode(), (0, 0)
            for own, fields in sorted(entries, key=lambda one: one[0]):
                last = max(own, (last[0], last[1] + 1))
                flat = (part for pair in fields.items() for part in pair)
                await self._calls(key).call("XADD", key, f"{last[0]}-{last[1]}", *flat)


def _unfinished(
    entry_id: str, fields: dict[str, str], groups: dict[str, tuple[tuple[int, int], set[str]]]
) -> Iterable[dict[str, str]]:
    """The work that is left of an entry: one piece for all groups, or one for each of those that have not finished it."""
    meant = {fields["only"]} & groups.keys() if fields.get("only") else groups.keys()
    place = id_order(entry_id)
    left = {name for name in meant if place > groups[name][0] or entry_id in groups[name][1]}
    if left == groups.keys() and not fields.get("only"):
        return [fields]
    return [{**fields, "only": name} for name in sorted(left)]


def _order(answer: Reply) -> tuple[int, int]:
    return id_order(answer.split(b" ")[2].decode())
