"""All keys of the hub, their limits, and the server that holds each. Keys are built nowhere else. Pure.

A partition's hash tag, such as `{p01-71m}`, keeps its keys in one cluster slot, so that one script may touch them. The end of
the tag is chosen so that the partitions are spread evenly over the 16,384 slots: with a plain `{p07}`, 8 partitions would be
spread over 3 primaries as 2, 2 and 4.
"""

from __future__ import annotations

import string
from binascii import crc_hqx
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import count
from typing import Final, Generic, NamedTuple, TypeVar

from streams.channel import Channel, Kind, channel_from_path
from streams.envelope import Actor

SLOTS: Final = 16_384
"""Number of slots of a Redis Cluster."""
PARTITIONS_MAX: Final = 1_024
"""Maximum number of partitions: what processes may be set to, and a log moved to."""
CONFIG: Final = "hub:config"
"""A hash: `partitions` and their `tags`, fixed at the first start, and `life`, the identity of the whole log."""
MOVING: Final = "moving"
"""The field of `CONFIG` that is there while the log is moved to another number of partitions (`streams.redis.repartition`)."""

JOBS: Final = "hub:jobs"
"""Prefix of the job queues, one sorted set for each agent; arq keeps its own keys beside them (`arq:…`)."""
WORKERS: Final = "hub:workers"
"""A sorted set: worker → the time its lease expires, in milliseconds."""
WRITERS: Final = "hub:writers"
"""A sorted set: an operator's command that writes → the time its lease expires, in milliseconds."""
AGENTS: Final = "hub:agents"
"""A hash: agent → its description and the end of its worker's announcement, as JSON."""
CONTROL: Final = "hub:control"
"""A short stream of hints that tell workers to inspect a run at once. It may lose some, because each run's hash is polled anyway.
"""

NODES: Final = b"hub:nodes"
"""A sorted set of running nodes: node → the time its lease expires, in milliseconds."""
_CHANNELS_KEPT: Final = 16_384
"""Maximum number of channels whose keys are cached. A smaller cache costs 2 µs more per event, a larger one about 700 bytes per
channel, 1,500 with the longest names: 24 MB.
"""


def slot_of(key: str | bytes) -> int:
    """The cluster slot of a key: CRC16 (XMODEM) of its hash tag, or of the whole key if it has none."""
    name = key.encode() if isinstance(key, str) else key
    _, opening, rest = name.partition(b"{")
    tag, closing, _ = rest.partition(b"}")
    return crc_hqx(tag if opening and closing and tag else name, 0) % SLOTS


def key_between(first: int, last: int) -> str:
    """A key of the hub in one of these slots, for questions about rights; nothing is kept there."""
    return next(key for number in count() if first <= slot_of(key := f"hub:{{{number}}}") <= last)


@cache
def spread_tags(partitions: int, *, unlike: frozenset[str] = frozenset()) -> tuple[str, ...]:
    """The hash tags of `partitions` partitions: number `i` is in slot i·16384/partitions, or as close above it as possible.

    Those in `unlike` are not used. CRC16 is linear, so one table of endings serves all numbers: an ending changes every tag's
    slot by the same XOR.
    """
    letters = string.digits + string.ascii_lowercase
    endings: dict[int, str] = {}
    for ending in (a + b + c for a in letters for b in letters for c in letters):
        endings.setdefault(crc_hqx(ending.encode(), 0) % SLOTS, ending)
    return tuple(_spread_tag(number, number * SLOTS // partitions, endings, unlike) for number in range(partitions))


def _spread_tag(number: int, slot: int, endings: dict[int, str], unlike: frozenset[str]) -> str:
    start = f"p{number:02d}-"
    moved = crc_hqx(bytes(3), crc_hqx(start.encode(), 0))
    while (ending := endings.get((slot ^ moved) % SLOTS)) is None or start + ending in unlike:
        slot += 1
    return start + ending


class ChannelKeys(NamedTuple):
    """The encoded keys of one channel. Those beside the stream are joined on use, since a node caches this of every channel."""

    partition: int
    path: bytes
    stream: bytes

    @property
    def meta(self) -> bytes:
        """The hash with the channel's epoch, seq and floor."""
        return self.stream + b":meta"

    @property
    def live(self) -> bytes:
        """The stream of the live lane."""
        return self.stream + b":live"

    @property
    def open(self) -> bytes:
        """The hash with the texts of answers in progress."""
        return self.stream + b":open"


def questions(names: ChannelKeys) -> tuple[str, ...]:
    """redis-cli arguments that show an operator the contents of a channel."""
    stream, meta = names.stream.decode(), names.meta.decode()
    return (
        f"XLEN '{stream}'",
        f"XRANGE '{stream}' - + COUNT 10",
        f"XREVRANGE '{stream}' + - COUNT 1",
        f"HGETALL '{meta}'",
    )


class Keys:
    """Builds the keys for a fixed number of partitions.

    Args:
        partitions: their number.
        tags: their hash tags as fixed at the log's first start; computed for a new log.
    """

    def __init__(self, partitions: int, tags: Sequence[str] = ()) -> None:
        self.partitions = partitions
        self.tags = tuple(tags) or spread_tags(partitions)
        self._prefixes = tuple(f"hub:{{{tag}}}:" for tag in self.tags)
        self._channels: dict[Channel, ChannelKeys] = {}

    def prefix(self, partition: int) -> str:
        """The prefix of all keys of a partition, such as `hub:{p01-71m}:`."""
        return self._prefixes[partition]

    def of(self, channel: Channel) -> ChannelKeys:
        """The channel's keys. They are cached; the cache is emptied when it reaches its maximum size."""
        keys = self._channels.get(channel)
        if keys is None:
            if len(self._channels) > _CHANNELS_KEPT:
                self._channels.clear()
            keys = self._channels[channel] = self._name(channel)
        return keys

    def _name(self, channel: Channel) -> ChannelKeys:
        partition = channel.partition_of(self.partitions)
        path = channel.path.encode()
        stream = self._prefixes[partition].encode() + path
        return ChannelKeys(partition, path, stream)

    def bell(self, partition: int) -> bytes:
        """The partition's bell: the stream whose entries tell nodes which channels have new events."""
        return f"{self._prefixes[partition]}bell".encode()

    def work(self, partition: int) -> bytes:
        """The partition's work stream: the events that at least one handler is to process."""
        return f"{self._prefixes[partition]}work".encode()

    def parked(self, partition: int) -> bytes:
        """The stream of parked work, with the reasons."""
        return f"{self._prefixes[partition]}parked".encode()

    def config(self, partition: int) -> bytes:
        """The hash with the identity of the partition's data (`life`) in a Cluster, where `CONFIG` covers one server only."""
        return f"{self._prefixes[partition]}config".encode()

    def groups(self, partition: int) -> bytes:
        """The set of all consumer groups ever created in the partition; one that is missing was lost."""
        return f"{self._prefixes[partition]}groups".encode()

    def lease(self, partition: int) -> bytes:
        """The hash with the lease of the worker that handles the partition's work."""
        return f"{self._prefixes[partition]}lease".encode()

    def runs(self, partition: int) -> bytes:
        """The sorted set of unfinished runs: `<channel path> <run id>` → time of the next inspection."""
        return f"{self._prefixes[partition]}runs".encode()

    def run_lease(self, channel: Channel, run_id: str) -> bytes:
        """The lease of the worker that executes a run."""
        return f"{self._prefixes[self.of(channel).partition]}{channel.tenant}:lease:{channel.wire}:{run_id}".encode()

    def idempotency(self, partition: int, tenant: str, actor: Actor) -> bytes:
        """The recent command IDs of an actor (kind and ID) in a partition. `:old` holds the previous generation."""
        return f"{self._prefixes[partition]}{tenant}:idem:{actor.kind}:{actor.id}".encode()

    def guard(self, channel: Channel, name: str) -> bytes:
        """The hash that a guard of that name checks and sets."""
        return f"{self._prefixes[self.of(channel).partition]}{channel.tenant}:guard:{name}".encode()

    def directory(self, partition: int, tenant: str, kind: Kind) -> bytes:
        """The sorted set of the names of a tenant's channels of one kind, all with score 0, so that they are sorted by name."""
        return f"{self._prefixes[partition]}{tenant}:channels:{kind.value}".encode()

    def node(self, partition: int, node: str) -> bytes:
        """The hash of a node's devices in a partition; they are removed when the node dies."""
        return f"{self._prefixes[partition]}node:{node}".encode()

    def nodes(self, partition: int) -> bytes:
        """The set of the nodes that have devices in a partition; a node without a lease is dead."""
        return f"{self._prefixes[partition]}nodes".encode()

    def status_ends(self, partition: int) -> bytes:
        """The sorted set of the members' statuses in a partition that have an end, by that end."""
        return f"{self._prefixes[partition]}status-ends".encode()

    def presence_followed(self, partition: int) -> bytes:
        """The sorted set of the channels in a partition whose presence is followed, by the end of that."""
        return f"{self._prefixes[partition]}presence-followed".encode()

    def people(self, channel: Channel) -> bytes:
        """The hash of the people in a channel: user → devices and status."""
        return self.of(channel).stream + b":people"

    def devices(self, channel: Channel) -> bytes:
        """The hash of the devices in a channel: device → user."""
        return self.of(channel).stream + b":devices"

    def statuses(self, channel: Channel) -> bytes:
        """The hash of the statuses set by a team's members, by user."""
        return self.of(channel).stream + b":statuses"

    def open_uploads(self, channel: Channel) -> bytes:
        """The hash of the channel's open uploads, in the form that its state shows."""
        return self.of(channel).stream + b":uploads"

    def snapshot(self, channel: Channel) -> bytes:
        """The channel's snapshot: its folded state and the cursor."""
        return self.of(channel).stream + b":snapshot"

    def channel_of(self, stream: bytes) -> Channel:
        """The channel of an events stream, given the stream's key."""
        return channel_from_path(stream.decode().split(":", 2)[2])


@dataclass(frozen=True, slots=True)
class EdgeKeys:
    """The keys of the data that nodes share; all lie in one cluster slot."""

    rates: str
    bytes_stored: str
    revocations: str
    bell: str
    sessions: str


def edge_keys(prefix: str = "hub") -> EdgeKeys:
    """Build the keys of the data that nodes share; `prefix` separates deployments that use one Redis."""
    tag = f"{prefix}:{{edge}}"
    return EdgeKeys(f"{tag}:rates", f"{tag}:bytes", f"{tag}:revocations", f"{tag}:revocations:bell", f"{tag}:sessions")


UPLOADS_DUE: Final = b"hub:{uploads}:due"
"""A sorted set for all tenants: `<channel path> <event id of the request>` → time of the upload's next inspection, in milliseconds.
"""


class UploadLedger(NamedTuple):
    """The keys of the storage reserved by a tenant's uploads, in one cluster slot.

    Attributes:
        open: sorted set of a user's open uploads: slot → expiry.
        sizes: hash of the tenant's uploads and files: user and slot → bytes.
        total: the sum of the sizes.
    """

    open: bytes
    sizes: bytes
    total: bytes


def upload_ledger(tenant: str, user: str) -> UploadLedger:
    """Build the keys of the storage reserved by a tenant's uploads."""
    prefix = f"hub:{{uploads:{tenant}}}:"
    return UploadLedger(f"{prefix}open:{user}".encode(), f"{prefix}sizes".encode(), f"{prefix}total".encode())


def run_slots(tenant: str, user: str) -> tuple[bytes, bytes]:
    """The sorted sets of concurrent runs of the tenant and of the user: slot → expiry. Both lie in one cluster slot."""
    prefix = f"hub:{{runs:{tenant}}}:"
    return f"{prefix}slots".encode(), f"{prefix}slots:{user}".encode()


def upload_home(tenant: str, upload_id: str) -> str:
    """The key of the string that holds the channel of an open upload."""
    return f"hub:{{uploads:{tenant}}}:home:{upload_id}"


@dataclass(frozen=True, slots=True)
class Limits:
    """Maximum sizes in entries, and lifetimes in seconds.

    Attributes:
        idempotency_entries: command IDs in one generation. It covers the window at 66 commands/s, above the sustained chat
            limit of 50/s. Two generations limit a user to about 7 MB in a partition.
        idempotency_window_s: minimum time for which a user's command ID is remembered.
        idempotency_ttl_s: lifetime of an actor's command IDs after the last command.
        live_entries: approximate length of a live lane.
        live_ttl_s: lifetime of a live lane after its last entry. The entry with the longest validity, a cursor position in a
            document, is valid for 10 minutes.
        bell_entries: approximate length of a bell; once reached, at least this many entries are kept.
    """

    idempotency_entries: int = 40_000
    idempotency_window_s: int = 600
    idempotency_ttl_s: int = 3_600
    live_entries: int = 1_000
    live_ttl_s: int = 900
    bell_entries: int = 1_000


DEFAULT_LIMITS = Limits()


S = TypeVar("S")


class Servers(Generic[S]):
    """The servers of a hub, by the cluster slots that they hold.

    Args:
        keys: the keys, with the partitions.
        ranges: the first slot of each range and its server, from slot 0 upwards.

    Attributes:
        by_partition: the server that holds each partition's keys.
    """

    def __init__(self, keys: Keys, ranges: Sequence[tuple[int, S]]) -> None:
        self._keys = keys
        self.fill(ranges)

    def fill(self, ranges: Sequence[tuple[int, S]]) -> None:
        """Replace the map: slots have moved, or a replica was promoted."""
        keys = self._keys
        self._firsts = [first for first, _ in ranges]
        self._servers = [server for _, server in ranges]
        self.by_partition = tuple(self.keeping(keys.prefix(number)) for number in range(keys.partitions))

    def __iter__(self) -> Iterator[S]:
        return iter(dict.fromkeys(self._servers))

    def keeping(self, key: str | bytes) -> S:
        """The server that holds this key."""
        return self.keeping_slot(slot_of(key))

    def keeping_slot(self, slot: int) -> S:
        """The server that holds this slot."""
        return self._servers[bisect_right(self._firsts, slot) - 1]
