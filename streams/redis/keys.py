"""Every key of the log. No key is written anywhere else, and `{pNN}` keeps a partition's keys in one cluster slot. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

from streams.channel import Channel, channel_from_path

CONFIG: Final = "hub:config"
"""Hash: `partitions`, fixed at first start, and `life`, the identity of this whole log."""

WORKERS: Final = "hub:workers"
"""Sorted set: worker → when its sign of life ends, milliseconds."""
AGENTS: Final = "hub:agents"
"""Hash: agent → JSON of what it is and until when some worker serves it."""
CONTROL: Final = "hub:control"
"""Pub/sub channel on which workers are told to look at a run at once. A hint: the run's hash is polled anyway."""

NODES: Final = b"hub:nodes"
"""Sorted set of live nodes by the millisecond their lease ends."""
_CHANNELS_KEPT: Final = 16_384
"""Channels whose keys are kept. Smaller costs 2 µs more per event, larger about 700 bytes each, 1,500 with the
longest names: 24 MB."""


class ChannelKeys(NamedTuple):
    """The keys of one channel, encoded once."""

    partition: int
    stream: bytes
    meta: bytes
    live: bytes
    open: bytes


class Keys:
    """Names keys for a fixed number of partitions."""

    def __init__(self, partitions: int) -> None:
        self.partitions = partitions
        self._prefixes = tuple(f"hub:{{p{number:02d}}}:" for number in range(partitions))
        self._channels: dict[Channel, ChannelKeys] = {}

    def prefix(self, partition: int) -> str:
        """`hub:{p07}:`, what every key of a partition begins with."""
        return self._prefixes[partition]

    def of(self, channel: Channel) -> ChannelKeys:
        """The channel's keys. Remembered, and forgotten all at once when they are of too many channels."""
        keys = self._channels.get(channel)
        if keys is None:
            if len(self._channels) > _CHANNELS_KEPT:
                self._channels.clear()
            keys = self._channels[channel] = self._name(channel)
        return keys

    def _name(self, channel: Channel) -> ChannelKeys:
        partition = channel.partition(self.partitions)
        stream = f"{self._prefixes[partition]}{channel.path}".encode()
        return ChannelKeys(partition, stream, stream + b":meta", stream + b":live", stream + b":open")

    def bell(self, partition: int) -> bytes:
        """The stream that tells which channels moved."""
        return f"{self._prefixes[partition]}bell".encode()

    def work(self, partition: int) -> bytes:
        """The stream of events some handler wants."""
        return f"{self._prefixes[partition]}work".encode()

    def parked(self, partition: int) -> bytes:
        """The stream of work that was given up, with the reason."""
        return f"{self._prefixes[partition]}parked".encode()

    def groups(self, partition: int) -> bytes:
        """The set of consumer groups that were ever made here: one of them that is gone was lost."""
        return f"{self._prefixes[partition]}groups".encode()

    def lease(self, partition: int) -> bytes:
        """The hash that says which worker handles the partition's work."""
        return f"{self._prefixes[partition]}lease".encode()

    def runs(self, partition: int) -> bytes:
        """The sorted set of runs that are not final: member `<channel path> <run id>`, score when to look at it."""
        return f"{self._prefixes[partition]}runs".encode()

    def run_lease(self, channel: Channel, run_id: str) -> bytes:
        """The sign of life of the worker that has the run."""
        return f"{self._prefixes[self.of(channel).partition]}{channel.tenant}:lease:{channel.wire}:{run_id}".encode()

    def idempotency(self, partition: int, tenant: str, user: str) -> bytes:
        """A user's recent command ids in a partition. `:old` is the generation before."""
        return f"{self._prefixes[partition]}{tenant}:idem:{user}".encode()

    def guard(self, channel: Channel, name: str) -> bytes:
        """The hash a guard of that name compares and sets."""
        return f"{self._prefixes[self.of(channel).partition]}{channel.tenant}:guard:{name}".encode()

    def node(self, partition: int, node: str) -> bytes:
        """What a node's devices did in a partition, to be undone when it dies."""
        return f"{self._prefixes[partition]}node:{node}".encode()

    def snapshot(self, channel: Channel) -> bytes:
        """The channel's folded state with the cursor it stands at."""
        return self.of(channel).stream + b":snapshot"

    def channel_of(self, stream: bytes) -> Channel:
        """The channel an events stream belongs to."""
        return channel_from_path(stream.decode().split(":", 2)[2])


@dataclass(frozen=True, slots=True)
class EdgeKeys:
    """The keys, in one slot of a cluster."""

    rates: str
    bytes_stored: str
    revocations: str
    bell: str
    sessions: str


def edge_keys(prefix: str = "hub") -> EdgeKeys:
    """Names the keys; `prefix` keeps deployments on one Redis apart."""
    tag = f"{prefix}:{{edge}}"
    return EdgeKeys(f"{tag}:rates", f"{tag}:bytes", f"{tag}:revocations", f"{tag}:revocations:bell", f"{tag}:sessions")
