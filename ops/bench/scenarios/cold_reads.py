"""Readers of the archive beside live users, who must not notice them."""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import AsyncIterator
from typing import Final

from hub.auth.signing import sign
from ops.bench.attackers import Attack
from ops.bench.processes import pin
from ops.bench.scenarios.long_channel import ATTACKER_GRANTS, LARGE, archive_channel, fill_channel
from ops.bench.scenarios.scenario import Figure, Measured, Scenario, faults_of
from ops.bench.setup import Setup
from ops.bench.sizes import Sizes

_POLITE: Final = 500
_PER_S: Final = 500
_READERS: Final = 4
_WINDOWS: Final = 5
"""Windows of each kind, in turns: other load on the machine affects all alike."""
_SETTLE_S: Final = 0.5


async def _cold_beside_live(setup: Setup, sizes: Sizes) -> Measured:
    await fill_channel(setup, LARGE, sizes.replay)
    archived = await archive_channel(setup, LARGE)
    await setup.open("polite", _POLITE, "own/1")
    await setup.ask("pace", group="polite", rate=_PER_S)
    p50_ms: dict[int, list[float]] = {0: [], 1: [], _READERS: []}
    p99_ms: dict[int, list[float]] = {0: [], 1: [], _READERS: []}
    async with _reading(setup) as readers, setup.measured() as spent:
        for number in range(_WINDOWS * len(p99_ms)):
            count = list(p99_ms)[number % len(p99_ms)]
            for at, reader in enumerate(readers):
                await reader.command("go" if at < count else "stop")
            await setup.ask("run", seconds=_SETTLE_S)  # until what was under way is over
            await setup.ask("reset")
            seen = (await setup.ask("run", seconds=sizes.seconds)).groups["polite"]
            p50_ms[count].append(seen.delivery_ms.p50)
            p99_ms[count].append(seen.delivery_ms.p99)
    await setup.ask("pace", group="polite", rate=0)
    settled = (await setup.ask("quiet")).groups["polite"]
    p50, p99 = ({count: statistics.median(many) for count, many in found.items()} for found in (p50_ms, p99_ms))
    read = sum(reader.counts["messages"] for reader in readers)
    figures = {
        "p99_ratio": p99[_READERS] / p99[0],
        "calm_p50_ms": p50[0],
        "calm_p99_ms": p99[0],
        "one_p50_ms": p50[1],
        "one_p99_ms": p99[1],
        "four_p50_ms": p50[_READERS],
        "four_p99_ms": p99[_READERS],
        "cold_events": read,
    }
    faults = faults_of(settled, all_are_served=False)
    if archived < sizes.replay - 10 or not read:
        faults.append(f"{archived:,} of {sizes.replay:,} events were archived, and {read:,} messages read")
    return Measured(figures, spent, {"polite": settled.delivery_ms}, faults)


@contextlib.asynccontextmanager
async def _reading(setup: Setup) -> AsyncIterator[list[Attack]]:
    """Start the readers, paused, as users of another name each; ends them."""
    url, now = f"ws://127.0.0.1:{setup.nodes[0].port}/ws", time.time()
    readers: list[Attack] = []
    try:
        for number in range(_READERS):
            token = sign(setup.servers.secret, f"auditor-{number}", setup.tenant, ATTACKER_GRANTS, 86_400, now)
            readers.append(await Attack.start("reader", url, token, f"conversation:{LARGE}"))
            pin(readers[-1].process.pid, setup.servers.cores.others)
        yield readers
    finally:
        for reader in readers:
            await reader.end()


COLD_BESIDE_LIVE: Final = Scenario(
    "cold_beside_live",
    f"{_POLITE} polite users write once a second each, while in turns nobody, one reader and {_READERS} readers replay a long "
    "channel whose events are in the archive, again and again.",
    (
        Figure("p99_ratio", f"p99 of the polite, {_READERS} readers / calm"),
        Figure("calm_p50_ms", "p50 calm, ms"),
        Figure("calm_p99_ms", "p99 calm, ms"),
        Figure("one_p50_ms", "p50 with one reader, ms"),
        Figure("one_p99_ms", "p99 with one reader, ms"),
        Figure("four_p50_ms", f"p50 with {_READERS} readers, ms"),
        Figure("four_p99_ms", f"p99 with {_READERS} readers, ms"),
        Figure("cold_events", "archived events read"),
    ),
    _cold_beside_live,
    lambda _: _POLITE,
    is_ours=True,
    has_archive=True,
)
