"""The fault schedule of a run, generated from a seed, as plain values."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

PROCESS: Final = {
    "node killed": (0.2, 1.5),
    "node stopped": (0.5, 3.0),
    "worker killed": (0.2, 2.0),
    "worker stopped": (0.5, 5.0),
    "redis killed": (0.1, 1.0),
    "redis stopped": (0.3, 2.5),
    "rolling restart": (0.0, 0.0),
}
CLIENT: Final = {
    "client killed": (0.1, 1.0),
    "client stopped": (0.5, 3.0),
    "token revoked": (0.0, 0.0),
    "token expired": (0.0, 0.0),
}
LINK: Final = {
    "link cut": (0.0, 0.0),
    "link swallows upwards": (0.5, 3.0),
    "link swallows downwards": (0.5, 3.0),
    "link swallows both ways": (0.5, 3.0),
    "link slow": (1.0, 3.0),
    "chunk torn": (0.2, 1.0),
    "link refuses": (0.2, 1.5),
}
REDIS: Final = {
    "redis full": (0.5, 2.0),
    "redis read-only": (0.5, 1.5),
    "redis loading": (0.5, 1.0),
    "redis busy": (0.5, 2.0),
    "scripts flushed": (0.0, 0.0),
    "clients killed": (0.0, 0.0),
    "configuration changed": (0.5, 2.0),
}
LOSS: Final = {"all flushed": (0.0, 0.0), "channel deleted": (0.0, 0.0), "channel trimmed": (0.0, 0.0)}
FAILOVER: Final = {"failover": (0.0, 0.0), "failover that loses": (0.5, 1.5)}
SHARDS: Final = {
    "shard failover": (0.0, 0.0),
    "shard failover that loses": (0.5, 1.5),
    "shard stopped": (3.0, 5.0),
    "shard split off": (3.0, 6.0),
    "shard flushed": (0.0, 0.0),
    "slot moved": (0.0, 0.0),
    "replica killed": (0.2, 1.5),
}
"""Faults of one of the primaries of a Redis Cluster, with its replica."""
CLOCK: Final = {"redis clock moved": (1.0, 3.0), "node clock moved": (1.0, 3.0)}
DISK: Final = {"disk full": (0.5, 1.5)}
STOPS: Final = {"worker stopped for long": (4.5, 7.0)}
"""Faults that last longer than a run's lease, so that another worker takes the run over."""
JITTER: Final = {"links jitter": (3.0, 8.0)}
"""Every link fails again and again for a moment, as on a train; separate from the other faults of links, whose seeds stay valid."""
TRIMS: Final = {"channel trimmed": (0.0, 0.0)}
"""Trimming, separate from the other losses, which would leave nothing to trim."""
GROUPS: Final = {
    "process": PROCESS,
    "client": CLIENT,
    "link": LINK,
    "redis": REDIS,
    "loss": LOSS,
    "failover": FAILOVER,
    "shards": SHARDS,
    "clock": CLOCK,
    "disk": DISK,
    "stops": STOPS,
    "trims": TRIMS,
    "jitter": JITTER,
}
ALONE: Final = frozenset({*PROCESS, *REDIS, *LOSS, *FAILOVER, *SHARDS, *CLOCK, *DISK, *STOPS})
"""Kinds of fault that occur one at a time; faults of links and clients run concurrently with them."""
NOT_WITH_REPLICAS: Final = frozenset(
    {
        "redis killed",
        "redis stopped",
        "redis read-only",
        "redis loading",
        "redis busy",
        "disk full",
        "redis full",
        "redis clock moved",
    }
)
"""Kinds of fault for which Sentinels or a Cluster would consider the master dead and start failovers that are not part of the
schedule.
"""
_PAUSE_S: Final = (0.2, 1.2)
_EXPECTED_S: Final = {
    "rolling restart": 6.0,
    "failover": 5.0,
    "failover that loses": 6.0,
    "redis loading": 2.0,
    **dict.fromkeys(SHARDS, 5.0),
}


@dataclass(frozen=True, slots=True)
class PlannedFault:
    """A fault to be injected.

    Attributes:
        pause_s: seconds after the previous fault of the same track.
        name: its kind.
        aim: a number from 0 to 1 that selects the target.
        duration_s: its duration, in seconds.
    """

    pause_s: float
    name: str
    aim: float
    duration_s: float


@dataclass(frozen=True, slots=True)
class Schedule:
    """Two tracks of faults that are carried out concurrently."""

    alone: tuple[PlannedFault, ...]
    beside: tuple[PlannedFault, ...]

    @property
    def names(self) -> list[str]:
        """Every kind of fault in the schedule."""
        return sorted({planned.name for planned in (*self.alone, *self.beside)})


def kinds_of(groups: Iterable[str], *, has_sentinels: bool, is_cluster: bool = False) -> dict[str, tuple[float, float]]:
    """The shortest and longest duration of each kind in these groups that is possible with such servers.

    Raises:
        KeyError: there is no such group.
    """
    found = {name: times for group in groups for name, times in GROUPS[group].items()}
    impossible: set[str] = set()
    if not has_sentinels:
        impossible |= FAILOVER.keys()
    if not is_cluster:
        impossible |= SHARDS.keys()
    else:
        impossible.add("all flushed")
    if has_sentinels or is_cluster:
        impossible |= NOT_WITH_REPLICAS
    return {name: times for name, times in found.items() if name not in impossible}


def make_schedule(seed: int, seconds: float, kinds: dict[str, tuple[float, float]]) -> Schedule:
    """Make a schedule with every kind at least once, if there is time, in random order, then random kinds."""
    chance = random.Random(seed)
    alone = [name for name in kinds if name in ALONE]
    beside = [name for name in kinds if name not in ALONE]
    return Schedule(_track(chance, seconds, alone, kinds), _track(chance, seconds, beside, kinds))


def _track(
    chance: random.Random, seconds: float, names: Sequence[str], kinds: dict[str, tuple[float, float]]
) -> tuple[PlannedFault, ...]:
    found: list[PlannedFault] = []
    used_s = 0.0
    order: list[str] = []
    while names and used_s < seconds:
        if not order:
            order = chance.sample(list(names), len(names))
        name = order.pop()
        planned = PlannedFault(chance.uniform(*_PAUSE_S), name, chance.random(), chance.uniform(*kinds[name]))
        used_s += planned.pause_s + planned.duration_s + _EXPECTED_S.get(name, 0.3)
        found.append(planned)
    return tuple(found)
