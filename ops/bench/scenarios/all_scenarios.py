"""All scenarios, in the order in which they are run."""

from __future__ import annotations

from fnmatch import fnmatch
from typing import Final

from ops.bench.scenarios import cold_reads, connections, flood, killed_node, ours_alone, replay, resume, traffic
from ops.bench.scenarios.scenario import Scenario

SCENARIOS: Final[dict[str, Scenario]] = {
    scenario.name: scenario
    for scenario in (
        connections.CONNECT,
        traffic.ROUND_TRIP,
        traffic.CHAT,
        traffic.IDLE,
        *traffic.FANOUTS,
        resume.OWN,
        resume.SHARED,
        killed_node.STORM,
        killed_node.JITTER,
        connections.MEMORY,
        connections.CHANNELS,
        *traffic.WORKERS,
        flood.FLOOD,
        replay.COLD_REPLAY,
        cold_reads.COLD_BESIDE_LIVE,
        ours_alone.UPLOADS,
        ours_alone.ANSWERS,
    )
}
QUICK: Final = (
    "connect",
    "round_trip",
    "chat",
    "idle",
    "fanout_1000",
    "resume_own",
    "storm",
    "jitter",
    "memory",
    "answers",
)
"""The scenarios of `hub bench --quick` unless others are named: few, because each starts its own processes (51 s in all)."""


def chosen_scenarios(names: list[str], *, is_quick: bool = False) -> list[Scenario]:
    """The named scenarios; `*` in a name matches any characters. Without names, all scenarios or, for a quick look, a few of them.

    Raises:
        ValueError: a name is unknown; the text lists the known ones.
    """
    found: dict[str, Scenario] = {}
    for name in names or (QUICK if is_quick else ["*"]):
        matching = {known: one for known, one in SCENARIOS.items() if fnmatch(known, name)}
        if not matching:
            raise ValueError(f"there is no scenario {name!r}; there are {', '.join(SCENARIOS)}")
        found |= matching
    return list(found.values())
