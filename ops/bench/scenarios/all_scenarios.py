"""All scenarios, in the order in which they are run."""

from __future__ import annotations

from fnmatch import fnmatch
from typing import Final

from ops.bench.scenarios import connections, killed_node, ours_alone, resume, traffic
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
        ours_alone.COLD_REPLAY,
        ours_alone.UPLOADS,
        ours_alone.ANSWERS,
    )
}


def chosen_scenarios(names: list[str]) -> list[Scenario]:
    """The named scenarios; a name may be a prefix followed by `*`. Without names, all of them.

    Raises:
        ValueError: a name is unknown; the text lists the known ones.
    """
    found: dict[str, Scenario] = {}
    for name in names or ["*"]:
        matching = {known: one for known, one in SCENARIOS.items() if fnmatch(known, name)}
        if not matching:
            raise ValueError(f"there is no scenario {name!r}; there are {', '.join(SCENARIOS)}")
        found |= matching
    return list(found.values())
